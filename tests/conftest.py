"""What every test stands on: a quiet environment, hypothesis profiles, and data that may be absent."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

# Before numpy or polars is imported: two test processes share two cores, and sums must not depend on thread counts.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MPLBACKEND", "Agg")

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from tests.adapters.object_store import ObjectStore
    from tests.adapters.places import Place

ROOT = Path(__file__).resolve().parents[1]
SLOW_MACHINE = (HealthCheck.too_slow,)

settings.register_profile("home", deadline=None, suppress_health_check=SLOW_MACHINE)
# The same examples on every run: a red build must be red again at home.
settings.register_profile("ci", deadline=None, suppress_health_check=SLOW_MACHINE, derandomize=True, database=None)
settings.register_profile("nightly", deadline=None, suppress_health_check=SLOW_MACHINE, max_examples=2_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "home"))


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings of whoever runs the tests must not reach the projects under test, nor their credentials and proxies its stores."""
    for name in [
        name for name in os.environ if name.startswith(("ECLUSE_", "AWS_")) or name.lower().endswith("_proxy")
    ]:
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


@pytest.fixture(scope="session")
def _one_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    from tests.adapters.object_store import running

    with running(tmp_path_factory.mktemp("objects")) as store:
        yield store


@pytest.fixture
def object_store(_one_store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    """A real object store, which the environment names."""
    from tests.adapters.object_store import tell

    tell(monkeypatch, _one_store.environment)
    return _one_store


@pytest.fixture(params=["folders", "bucket"])
def places(request: pytest.FixtureRequest) -> Callable[[Path], Place]:
    """A new place for drops, of each kind: its private copies lie under the folder given."""
    from tests.adapters.places import bucket, folders

    if request.param == "folders":
        return folders
    store = request.getfixturevalue("object_store")
    return lambda root: bucket(store, f"b-{uuid.uuid4().hex}", root)
