"""The control API is what ``/openapi.json`` says: schemathesis sends what it allows and what it forbids. No 5xx, nothing without a key."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import ROOT
from tests.loop.worlds import candidate

from ecluse.app import open_app
from ecluse.core.access import SCOPES
from ecluse.loop.keys import add_key

MODEL = "left"
CONFIG = """
warnings = false
[auth.openapi.key]
bearer = "{key}"
[generation]
allow-extra-parameters = false
[checks]
negative_data_rejection.expected-statuses = [400, 401, 403, 404, 405, 409, 413, 415, 422]
positive_data_acceptance.expected-statuses = [200, 202, 403, 404, 409]
[[operations]]
include-path-regex = "/approve$"  # an item is on the checklist or not: no schema says so
[operations.checks]
positive_data_acceptance.expected-statuses = [200, 403, 404, 409, 422]
"""


@contextlib.contextmanager
def served(folder: Path) -> Iterator[tuple[str, Path]]:
    """The address of a server over a project with four candidates, and the configuration with a key of every scope."""
    root = Path(shutil.copytree(ROOT / "tests/projects/small", folder / "small"))
    (root / "ecluse.toml").write_text('[policy]\npromotion = "approval"\n')
    app = open_app(root)
    assert app.project.models
    for name in "abcd":
        candidate(app.world, name, MODEL)
    key, _ = add_key(app.world, app.settings, "bob", tuple(SCOPES), None, actor="ana")
    config = folder / "schemathesis.toml"
    config.write_text(CONFIG.format(key=key))
    command = [sys.executable, "-m", "ecluse", "control", "serve", "--port", "0", "-C", str(root)]
    log = folder / "log"
    with log.open("w") as stream, subprocess.Popen(command, stderr=stream, text=True) as process:
        try:
            while not (found := re.search(r"http://[\d.:]+", log.read_text())):
                assert process.poll() is None, log.read_text()
            yield found[0], config
        finally:
            process.terminate()
            process.wait(20)
    assert "Traceback" not in log.read_text()


def document(address: str, folder: Path) -> Path:
    """The API's own document, with the model and the versions there are."""
    with urllib.request.urlopen(f"{address}/openapi.json", timeout=10) as answer:
        told = json.load(answer)
    for operation in (each for methods in told["paths"].values() for each in methods.values()):
        for parameter in operation.get("parameters", ()):
            if parameter["name"] == "model" and parameter["in"] == "path":
                parameter["schema"] = {"enum": [MODEL]}
            elif parameter["name"] == "number":
                parameter["schema"]["maximum"] = 6
    place = folder / "openapi.json"
    place.write_text(json.dumps(told))
    return place


@pytest.mark.parametrize(
    ("arguments", "least"),
    [
        (("--phases", "fuzzing", "-n", "2"), 40),
        pytest.param(("-n", "30"), 1_000, marks=pytest.mark.nightly),
    ],
    ids=["dose", "all"],
)
def test_the_control_api_is_what_its_document_says(tmp_path: Path, arguments: tuple[str, ...], least: int) -> None:
    with served(tmp_path) as (address, config):
        command = [sys.executable, "-m", "schemathesis.cli", "--no-color", "--config-file", str(config), "run"]
        command += [str(document(address, tmp_path)), "--url", address, "--seed", os.environ.get("FUZZ_SEED", "1")]
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=280, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-10_000:] + done.stderr
    sent = re.search(r"(\d+) generated", done.stdout)
    assert sent
    assert int(sent[1]) >= least
