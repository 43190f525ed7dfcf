"""Every library has its place: core has none, materials have their rooms, a vendor has one importing file."""

import sys
from collections import defaultdict

from tests.architecture.sources import package_sources

STAGES = frozenset({"data", "features", "training", "gates", "traffic", "monitoring"})
ABOVE = frozenset({"governance", "loop", "adapters", "app", "web", "testing", "integrations", "demo", "cli"})

# Library -> rooms whose files may all use it.
MATERIALS = {
    "numpy": STAGES | ABOVE | {"stats", "serving", "worker"},
    "scipy": STAGES | ABOVE | {"stats"},
    "polars": STAGES | ABOVE | {"frames"},
    "msgspec": STAGES | ABOVE | {"serving", "worker"},
    "sklearn": frozenset({"training"}),
}

# Library -> rooms, one file of which may import it.
VENDORS = {
    "alembic": {"adapters"},
    "cryptography": {"adapters"},
    "dbos": {"adapters"},
    "fastapi": {"web"},
    "hiredis": {"adapters"},
    "httptools": {"serving"},
    "hypothesis": {"testing"},
    "joblib": {"training"},
    "lightgbm": {"training"},
    "matplotlib": {"adapters", "training"},
    "mlflow": {"adapters"},
    "obstore": {"adapters"},
    "onnx": {"training"},
    "onnxruntime": {"adapters"},
    "optuna": {"adapters"},
    "pandas": {"adapters"},
    "prometheus_client": {"adapters", "serving"},
    "pydantic": {"web"},
    "pytest": {"integrations", "testing"},
    "redis": {"adapters"},
    "rich": {"cli"},
    "skops": {"adapters", "training"},
    "sqlalchemy": {"adapters"},
    "threadpoolctl": {"training"},
    "typer": {"cli"},
    "uvicorn": {"web"},
    "uvloop": {"serving"},
    "xgboost": {"training"},
}

# A format written in one room and read in another, neither of which may import the other.
WRITER_AND_READER = {"skops": {"ecluse.training.skops_file", "ecluse.adapters.scorer_process"}}

# polars is kept out of these because each request passes through them.
HOT_PATH = {"ecluse.features.online", "ecluse.traffic.choose"}
SCIKIT_LEARN_SCORER = "ecluse.adapters.scorer_skops"


def _libraries() -> dict[str, set[str]]:
    """Third-party library -> the modules of ours that import it anywhere."""
    found: dict[str, set[str]] = defaultdict(set)
    for source in package_sources():
        for name in source.imports():
            library = name.partition(".")[0]
            if library and library not in sys.stdlib_module_names and library != "ecluse":
                found[library].add(source.module)
    return found


def _room(module: str) -> str:
    return module.partition(".")[2].partition(".")[0]


def test_every_library_has_a_place() -> None:
    assert set(_libraries()) <= MATERIALS.keys() | VENDORS.keys()


def test_materials_stay_in_their_rooms() -> None:
    strays = {
        (module, library)
        for library, modules in _libraries().items()
        for module in modules
        if library in MATERIALS and _room(module) not in MATERIALS[library]
    }
    assert strays <= {(SCIKIT_LEARN_SCORER, "sklearn")}


def test_a_vendor_has_one_importing_file() -> None:
    libraries = _libraries()
    crowded = {name: sorted(libraries[name]) for name in VENDORS if not _has_one_file(name, libraries.get(name, set()))}
    assert not crowded


def _has_one_file(library: str, modules: set[str]) -> bool:
    return len(modules) <= 1 or modules == WRITER_AND_READER.get(library)


def test_vendors_stay_in_their_rooms() -> None:
    libraries = _libraries()
    strays = {
        (module, name)
        for name, rooms in VENDORS.items()
        for module in libraries.get(name, ())
        if _room(module) not in rooms
    }
    assert not strays


def test_no_polars_where_requests_pass() -> None:
    assert not HOT_PATH & _libraries().get("polars", set())


def test_core_is_the_standard_library_alone() -> None:
    strays = {
        (source.module, name)
        for source in package_sources()
        if source.room == "core"
        for name in source.imports()
        if name.partition(".")[0] not in sys.stdlib_module_names and not name.startswith("ecluse.core.")
    }
    assert not strays
