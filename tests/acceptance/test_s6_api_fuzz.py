"""S6: schemathesis sends what ``/openapi.json`` allows and what it forbids. No 5xx, nothing forbidden is taken, nothing without a key."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.serving.house import House, environment, ready_house, running

from ecluse.core.access import SCOPES, KeyGrant, hash_key

HERE = Path(__file__).parent
FUZZ, SCRIPT = HERE / "fuzz", HERE / "careless_worker.py"
BEARER = {"Authorization": "Bearer all"}  # the key in fuzz/schemathesis.toml


@pytest.fixture
def house(tmp_path: Path) -> House:
    house = ready_house(tmp_path)
    house.keys = (KeyGrant("all", hash_key("all"), tuple(SCOPES)),)
    house.publish(1)
    return house


def fuzz(house: House, *arguments: str, defect: str = "none") -> tuple[int, str]:
    """How many cases were sent to a worker with the defect, and what was found: "" when nothing was."""
    folder = house.home.parent
    with running(house, "--profile", "prod", program=(str(SCRIPT), defect), max_batch=16, deadline_ms=30_000) as worker:
        document = folder / "openapi.json"
        document.write_text(json.dumps(worker.call("GET", "/openapi.json", headers=BEARER)[2]))
        command = [
            sys.executable,
            "-m",
            "schemathesis.cli",
            "--no-color",
            "--config-file",
            str(FUZZ / "schemathesis.toml"),
        ]
        command += ["run", str(document), "--url", worker.url, *arguments]
        hooks = {"SCHEMATHESIS_HOOKS": str(FUZZ / "valid_for_valid.py")}
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=280, cwd=folder, env={**environment(), **hooks}
        )
        tracebacks = worker.log.read_text().count("Traceback")
    sent = re.search(r"(\d+) generated", done.stdout)
    assert sent, done.stdout + done.stderr
    if done.returncode == 0 and not tracebacks:
        return int(sent[1]), ""
    return int(sent[1]), f"{done.stdout[-20_000:]}{done.stderr}\n{tracebacks} tracebacks"


@pytest.mark.parametrize(
    ("arguments", "least"),
    [
        (("--phases", "fuzzing", "-n", "5", "--seed", "1"), 100),
        pytest.param(("-n", "20", "--seed", os.environ.get("FUZZ_SEED", "1")), 2_000, marks=pytest.mark.nightly),
    ],
    ids=["dose", "all"],
)
def test_the_api_is_what_its_document_says(house: House, arguments: tuple[str, ...], least: int) -> None:
    sent, found = fuzz(house, *arguments)
    assert not found, found
    assert sent >= least


@pytest.mark.parametrize(
    ("defect", "told"),
    [
        ("raises", "Server error"),
        ("takes all", "Schema-violating request accepted"),
        ("says more", "Response violates schema"),
        ("asks for no key", "API accepts"),
    ],
)
def test_an_api_that_is_not_is_found_out(house: House, defect: str, told: str) -> None:
    arguments = ("--phases", "coverage", "--include-path", "/outcomes", "--max-failures", "1", "--seed", "1")
    assert told in fuzz(house, *arguments, defect=defect)[1]
