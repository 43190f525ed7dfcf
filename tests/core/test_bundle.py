"""A bundle is its digest: one bit, one file more or less, and it does not open."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecluse.core.bundle import Bundle, make_bundle, open_bundle
from ecluse.core.codec import canonical
from ecluse.core.errors import Corrupt
from ecluse.core.recipe import Split

FILES = {"model.onnx": b"\x00\x01model", "schema.json": b"{}", "smoke.json": b'{"rows": []}'}


def bundle() -> Bundle:
    return make_bundle(model="churn", scorer="onnx", recipe="r", dataset="d", split=Split("entity", 0.25), files=FILES)


def test_it_opens_from_its_own_bytes() -> None:
    made = bundle()
    again = open_bundle(made.digest, canonical(made.manifest), FILES)
    assert again == made
    assert again.digest == made.digest


def test_the_digest_does_not_depend_on_the_order_of_files() -> None:
    turned = make_bundle(
        model="churn",
        scorer="onnx",
        recipe="r",
        dataset="d",
        split=Split("entity", 0.25),
        files=dict(reversed(FILES.items())),
    )
    assert turned.digest == bundle().digest


@given(st.sampled_from(sorted(FILES)), st.integers(0, 10_000), st.integers(0, 7))
def test_one_flipped_bit_anywhere_is_refused(name: str, position: int, bit: int) -> None:
    made = bundle()
    data = bytearray(FILES[name])
    data[position % len(data)] ^= 1 << bit
    with pytest.raises(Corrupt, match=name):
        open_bundle(made.digest, canonical(made.manifest), {**FILES, name: bytes(data)})


@pytest.mark.parametrize("files", [{**FILES, "extra.bin": b""}, {"model.onnx": FILES["model.onnx"]}, {}])
def test_other_files_than_the_manifest_names_are_refused(files: dict[str, bytes]) -> None:
    made = bundle()
    with pytest.raises(Corrupt, match="other files"):
        open_bundle(made.digest, canonical(made.manifest), files)


def test_a_manifest_of_another_bundle_is_refused() -> None:
    made = bundle()
    manifest = json.loads(canonical(made.manifest)) | {"model": "other"}
    with pytest.raises(Corrupt, match="does not match its digest"):
        open_bundle(made.digest, canonical(manifest), FILES)


def test_a_json_file_that_is_none_is_corrupt() -> None:
    broken = make_bundle(
        model="m", scorer="onnx", recipe="r", dataset="d", split=Split("entity", 0.25), files={"smoke.json": b"{"}
    )
    with pytest.raises(Corrupt, match=r"smoke\.json"):
        broken.document("smoke.json")
