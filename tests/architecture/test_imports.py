"""What a start costs: importing the package or asking for help loads no library that the answer does not need."""

import json
import subprocess
import sys

import pytest

HEAVY = {
    "alembic",
    "cryptography",
    "dbos",
    "fastapi",
    "hiredis",
    "lightgbm",
    "matplotlib",
    "mlflow",
    "numpy",
    "onnx",
    "onnxruntime",
    "pandas",
    "polars",
    "prometheus_client",
    "pydantic",
    "redis",
    "scipy",
    "skops",
    "sklearn",
    "sqlalchemy",
    "uvicorn",
    "xgboost",
}
TERMINAL = {"click", "rich", "typer"}

HELP = """
import sys
sys.argv = ["ecluse", "--help"]
from ecluse.cli.main import main
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
"""

REPORT = """
import json, sys
print()
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def _loaded(code: str) -> set[str]:
    """The top-level modules in a fresh interpreter after `code` has run."""
    done = subprocess.run([sys.executable, "-c", code + REPORT], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_importing_the_package_loads_no_library() -> None:
    loaded = _loaded("import ecluse")
    assert not loaded & (HEAVY | TERMINAL)


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["serve", "--help"]])
def test_help_loads_the_terminal_libraries_only(arguments: list[str]) -> None:
    loaded = _loaded(HELP.replace('["ecluse", "--help"]', json.dumps(["ecluse", *arguments])))
    assert not loaded & HEAVY


def test_help_is_printed() -> None:
    done = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout
