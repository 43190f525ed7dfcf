"""Loading versions: what is refused before it can be chosen, and that a bad one never displaces a good one."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.serving.house import House, bundle, make_house, other_sealer, with_schema

from ecluse.adapters.sealing import verify
from ecluse.core.bundle import Bundle, make_bundle
from ecluse.core.document import ServedVersion
from ecluse.core.errors import EcluseError
from ecluse.serving.scorers import Fleet, Loaded, make_load, next_fleet
from ecluse.worker import open_scorer


@pytest.fixture
def house(tmp_path: Path) -> House:
    house = make_house(tmp_path)
    house.add(1, bundle(1.0))
    house.add(2, bundle(-1.0))
    return house


def fleet(house: House, champion: int | None, before: Fleet | None = None) -> Fleet:
    house.generation += 1
    return next_fleet(before or Fleet(), house.document(champion), make_load(house.bundles, verify, open_scorer))


def serving(found: Fleet) -> int | None:
    loaded = found.champions.get("churn")
    return loaded.number if loaded else None


def damaged(house: House, digest: str) -> None:
    path = house.home / "bundles" / digest / "model.onnx"
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)


def with_files(made: Bundle, **files: bytes) -> Bundle:
    every = {**made.files, **{name.replace("_", "."): data for name, data in files.items()}}
    manifest = made.manifest
    return make_bundle(
        model=manifest.model, scorer=manifest.scorer, recipe="r", dataset="d", split=manifest.split, files=every
    )


def test_the_champion_and_the_one_before_are_warm(house: House) -> None:
    found = fleet(house, 2)
    assert serving(found) == 2
    assert sorted(found.warm) == [("churn", 1), ("churn", 2)]
    assert not found.failures


def test_going_back_loads_nothing(house: House) -> None:
    before = fleet(house, 2)

    def load(model: str, number: int, version: ServedVersion, trusted: Sequence[str]) -> Loaded:
        raise AssertionError("loaded again")

    house.generation += 1
    after = next_fleet(before, house.document(1, threshold=0.7), load)
    assert serving(after) == 1
    assert after.champions["churn"].scorer is before.warm["churn", 1].scorer
    assert after.champions["churn"].threshold == 0.7


def test_bad_bundles_leave_the_old_one_serving(house: House) -> None:
    good = fleet(house, 1)
    wrong_smoke, garbage = bundle(0.2, smoke_error=0.01), with_files(bundle(0.3), model_onnx=b"not a model")
    no_smoke, other_model = with_files(bundle(0.4), smoke_json=b"{}"), bundle(0.5, schema=with_schema(model="other"))
    bad_schema = with_files(bundle(0.55), schema_json=b'{"model": 1}')
    house.add(3, wrong_smoke)
    house.add(4, garbage)
    house.add(5, no_smoke)
    house.add(6, other_model)
    house.add(7, bundle(0.6), sealer=other_sealer())
    damaged(house, house.add(8, bundle(0.7)))
    house.served["churn"][9] = "0" * 64
    house.add(10, bad_schema)
    house.add(11, replace(bundle(0.8), manifest=replace(bundle(0.8).manifest, format=99)))
    reasons: dict[int, str] = {}
    for champion in range(3, 12):
        found = fleet(house, champion, good)
        assert serving(found) == 1, champion
        reasons |= {failure.number: failure.reason for failure in found.failures}
    expected = (
        "smoke rows",
        "not a model",
        "no smoke rows",
        "of model other",
        "not trusted",
        "match",
        "bundle 0000",
        "schema.json",
        "format",
    )
    for number, part in zip(range(3, 12), expected, strict=True):
        assert part in reasons[number], (number, reasons[number])


def test_without_an_old_one_nothing_serves(house: House) -> None:
    damaged(house, house.add(3, bundle(0.7)))
    found = fleet(house, 3)
    assert serving(found) is None
    assert sorted(found.warm) == [("churn", 1), ("churn", 2)]


def test_a_revoked_key_ends_what_it_sealed(house: House) -> None:
    good = fleet(house, 1)
    house.trusted = (other_sealer().public_key,)
    found = fleet(house, 1, good)
    assert serving(found) is None
    assert not found.warm


def test_a_loader_that_fails_in_its_own_way_is_a_failure_too(house: House) -> None:
    good = fleet(house, 1)

    def load(model: str, number: int, version: ServedVersion, trusted: Sequence[str]) -> Loaded:
        raise ZeroDivisionError("of all things")

    house.add(3, bundle(0.2))
    found = next_fleet(good, house.document(3), load)
    assert serving(found) == 1
    assert found.failures[0].reason == "ZeroDivisionError: of all things"


def test_no_version_before_the_first_promotion(house: House) -> None:
    assert serving(fleet(house, None)) is None


def test_a_missing_seal_is_refused(house: House) -> None:
    digest = house.served["churn"][1]
    (house.home / "bundles" / f"{digest}.beside" / "seal.json").unlink()
    assert fleet(house, 1).failures[0].number == 1
    with pytest.raises(EcluseError):
        make_load(house.bundles, verify, open_scorer)("churn", 1, ServedVersion(digest, 0.5), [house.sealer.public_key])


def test_the_two_versions_can_be_told_apart(house: House) -> None:
    found = fleet(house, 1)
    row = np.array([[100.0, 9.5, 1.0, 600.0, 1.0]])
    first, second = (found.warm["churn", number].scorer.score(row)[0, 0] for number in (1, 2))
    assert first > 0.9
    assert second < 0.1
