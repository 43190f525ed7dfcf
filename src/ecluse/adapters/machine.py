"""What this machine has: libraries, programs, disk, a clock. One Finding each, for ``ecluse doctor``."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from ecluse.core.errors import EcluseError
from ecluse.core.verdict import Finding, Outcome

NEEDED = {
    "training": ("scikit-learn", "onnx", "skops", "onnxruntime"),
    "serving": ("onnxruntime", "httptools", "uvloop", "prometheus-client"),
    "the loop": ("dbos",),
    "the MLflow mirror": ("mlflow-skinny", "sqlalchemy", "alembic", "pandas"),
    "plots": ("matplotlib",),
}
LEAST_FREE_BYTES = 1 << 30


def examine(folder: Path) -> Iterator[Finding]:
    """Python, libraries per capability, git, disk space and permission to write in ``folder``."""
    version = platform.python_version()
    yield _finding("python", sys.version_info >= (3, 11), f"Python {version}", "Écluse needs Python 3.11 or newer")
    for capability, names in NEEDED.items():
        missing = [name for name in names if not _installed(name)]
        yield _finding(
            capability,
            not missing,
            "libraries are installed",
            f"missing {', '.join(missing)}: pip install 'ecluse[all]'",
        )
    yield _finding("git", shutil.which("git") is not None, "git is here", "no git: runs cannot record their commit")
    if not folder.is_dir():
        yield Finding("folder", Outcome.FAILED, f"{folder} is no folder")
        return
    free = shutil.disk_usage(folder).free
    yield _finding(
        "disk", free >= LEAST_FREE_BYTES, f"{free / 2**30:.1f} GiB free", f"only {free / 2**20:.0f} MiB free: make room"
    )
    yield _finding("folder", os.access(folder, os.W_OK), f"{folder} can be written", f"{folder} cannot be written")


def _finding(check: str, ok: bool, good: str, bad: str) -> Finding:
    return Finding(check, Outcome.PASSED if ok else Outcome.FAILED, good if ok else bad)


def _installed(distribution: str) -> bool:
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def attempt(check: str, ask: Callable[[], str]) -> Finding:
    """What ``ask`` says, as a passed Finding, or what went wrong as a failed one."""
    try:
        return Finding(check, Outcome.PASSED, ask())
    except EcluseError as error:
        return Finding(check, Outcome.FAILED, str(error))
