"""The reference tables of a streaming service (two months of 7,043 subscribers), which are not part of the repository, and their project."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = ROOT / "tests" / "projects" / "streamflow"
MONTHS = {"month_000": datetime(2024, 1, 31, tzinfo=UTC), "month_001": datetime(2024, 2, 29, tzinfo=UTC)}
_NAMED = os.environ.get("ECLUSE_STREAMFLOW") or os.environ.get(
    "STREAMFLOW_DIR"
)  # before tests are shut off from outside


def streamflow_dir() -> Path | None:
    """The folder of ``month_000`` and ``month_001``: named by ECLUSE_STREAMFLOW, or beside the repository; None where there is none."""
    folder = Path(_NAMED) if _NAMED else ROOT.parent / "shared" / "data" / "streamflow"
    return folder if all((folder / month).is_dir() for month in MONTHS) else None


def month_folder(month: str) -> Path:
    """One month's folder; the test is skipped where the tables are absent."""
    folder = streamflow_dir()
    if folder is None:
        pytest.skip("the reference tables are absent; ECLUSE_STREAMFLOW names their folder")
    return folder / month
