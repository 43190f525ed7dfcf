"""What cannot be compiled: the churn model scored by a process of its own. ``python -m bench.serving.apart`` prints requests a second.

The same pipeline as in the comparison, left as scikit-learn; answers are held against scikit-learn's before load. Nothing is pinned: worker,
scorer process and client share the machine.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.serving.churn import Churn, make_churn
from bench.serving.load import Target, ask_all, load
from bench.serving.ours import make_home

from ecluse.adapters.bundles_files import BundlesFiles
from ecluse.adapters.sealing import load_sealer
from ecluse.core.bundle import make_bundle
from ecluse.core.codec import canonical, from_plain
from ecluse.core.document import Document, ServedModel, ServedVersion, Signed
from ecluse.core.recipe import Split
from ecluse.training.skops_file import dump

CLOSE = 1e-12


def publish(home: Path, churn: Churn) -> str:
    """Publish the pipeline itself as version 2; returns an API key."""
    key = make_home(home, churn)
    signed = from_plain(Signed, json.loads((home / "published.json").read_bytes()))
    document = from_plain(Document, json.loads(signed.payload))
    bundles, sealer = BundlesFiles(home / "bundles"), load_sealer(home / "keys", create=False)
    compiled = bundles.get(document.models["churn"].versions["1"].bundle)
    files = {name: data for name, data in compiled.files.items() if name != "model.onnx"}
    bundle = make_bundle(
        model="churn",
        scorer="skops",
        recipe="r",
        dataset="d",
        split=Split("entity", 0.25),
        files={**files, "model.skops": dump(churn.pipeline)},
    )
    bundles.put(bundle, sealer.sign(bundle.digest))
    served = {"churn": ServedModel(2, {"2": ServedVersion(bundle.digest, 0.5)})}
    document = Document(
        document.format, document.project, 2, document.data_now, served, document.trusted, document.keys
    )
    (home / "published.json").write_bytes(canonical(sealer.sign(canonical(document).decode())))
    return key


def measure(seconds: float) -> None:
    """Start a worker, check it, load it with 1, 4 and 16 connections."""
    with tempfile.TemporaryDirectory() as folder:
        home, churn = Path(folder) / "home", make_churn()
        key = publish(home, churn)
        settings = json.dumps({"port": 0, "deadline_ms": 10_000})
        worker = subprocess.Popen(
            [sys.executable, "-m", "ecluse.worker", "--home", str(home), "--serving", settings],
            stderr=subprocess.DEVNULL,
        )
        try:
            target = _wait(home, key, churn)
            for connections in (1, 4, 16):
                found = load(target, worker.pid, connections, seconds, Path(folder))
                print(
                    f"{connections:>2} connections: {found.rate:7.0f} requests/s, p50 {found.p50_ms:6.1f} ms, "
                    f"p99 {found.p99_ms:6.1f} ms, {found.cpu_us:6.0f} µs of CPU a request, {found.failed} failed"
                )
        finally:
            worker.terminate()
            worker.wait()


def _wait(home: Path, key: str, churn: Churn) -> Target:
    end = time.monotonic() + 60
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    bodies = [json.dumps({"features": row}) for row in churn.rows]
    while time.monotonic() < end:
        try:
            port = int(json.loads((home / "serve.lock").read_text())["url"].rpartition(":")[2])
            target = Target(port, "/predict", headers, bodies)
            answers = ask_all(target)
            assert all(abs(a["proba"] - b) < CLOSE for a, b in zip(answers, churn.answers, strict=True))
        except (OSError, ValueError):
            time.sleep(0.05)
        else:
            return target
    raise SystemExit("the worker did not answer")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=5.0)
    measure(parser.parse_args().seconds)
