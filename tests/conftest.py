"""What every test stands on: a quiet environment, hypothesis profiles, and data that may be absent."""

import os
from pathlib import Path

# Before numpy or polars is imported: two test processes share two cores, and sums must not depend on thread counts.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MPLBACKEND", "Agg")

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parents[1]
SLOW_MACHINE = (HealthCheck.too_slow,)

settings.register_profile("home", deadline=None, suppress_health_check=SLOW_MACHINE)
# The same examples on every run: a red build must be red again at home.
settings.register_profile("ci", deadline=None, suppress_health_check=SLOW_MACHINE, derandomize=True, database=None)
settings.register_profile("nightly", deadline=None, suppress_health_check=SLOW_MACHINE, max_examples=2_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "home"))


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings of whoever runs the tests must not reach the projects under test."""
    for name in [name for name in os.environ if name.startswith("ECLUSE_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository: sources, lock file, documents."""
    return ROOT


@pytest.fixture(scope="session")
def streamflow() -> Path:
    """The reference tables (months 000 and 001 of a streaming service), which are not part of the repository."""
    folder = Path(os.environ.get("STREAMFLOW_DIR") or ROOT.parent / "shared" / "data" / "streamflow")
    if not (folder / "month_000").is_dir():
        pytest.skip(f"no reference tables in {folder}; STREAMFLOW_DIR names another folder")
    return folder
