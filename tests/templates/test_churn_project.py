"""What `ecluse init` writes: short, locked, with settings that resolve for every profile and tests of its own that pass."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from ecluse.adapters.project_files import load_project, load_settings
from ecluse.adapters.project_template import TEMPLATES, write_project
from ecluse.core.settings import PROFILES
from ecluse.stats.catalog import metric_of

ADDRESS = re.compile(r"://|--(extra-)?index-url|--find-links|--trusted-host")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written") / "streaming"
    write_project(folder)
    return folder


def test_the_problem_is_stated_in_under_80_lines(folder: Path) -> None:
    assert len((folder / "project.py").read_text().splitlines()) < 80


def test_the_declaration_uses_what_it_should_show(folder: Path) -> None:
    project = load_project(folder)
    churn = project.model("churn")
    functions = {each.function for view in churn.features for each in view.features.values()}
    assert functions >= {"last", "count", "total", "mean", "distinct"}
    assert {view.missing for view in churn.features} == {"refuse", "accept"}
    assert any(view.ttl for view in churn.features)
    assert churn.derived
    assert any(table.rules for table in project.tables)
    assert any(table.references for table in project.tables)
    assert any(table.available_at for table in project.tables)
    assert (churn.predicts.horizon.days, churn.predicts.known_after.days) == (30, 5)
    assert metric_of(churn.task, churn.judged_by).greater_is_better


@pytest.mark.parametrize("profile", PROFILES)
def test_the_settings_resolve_for_every_profile(folder: Path, profile: str) -> None:
    settings = load_settings(folder, profile, {})
    assert settings.project == "streaming"
    assert settings.policy.promotion == ("automatic" if profile == "dev" else "manual")
    assert settings.time.now == ("system" if profile == "prod" else "data")


def test_the_gates_name_features_of_the_model(folder: Path) -> None:
    gates = tomllib.loads((folder / "ecluse.toml").read_text())["gates"]
    assert set(gates["segments"]) <= set(load_project(folder).model("churn").input_kinds)


def test_its_own_tests_pass(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _pins(path: Path) -> dict[str, str]:
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    return {line.partition("==")[0]: line for line in text.splitlines() if line and not line.startswith("#")}


def test_its_lock_is_hashed_names_no_address_and_agrees_with_ours(root: Path) -> None:
    path = TEMPLATES / "churn" / "requirements.lock"
    pins, ours = _pins(path), _pins(root / "requirements.lock")
    assert not ADDRESS.search(path.read_text(encoding="utf-8"))
    assert all("--hash=sha256:" in pin for pin in pins.values())
    assert {name: pin for name, pin in pins.items() if ours.get(name) != pin} == {}


def test_its_lock_covers_what_ecluse_and_its_tests_need(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    parts = extras["all"][0].partition("[")[2].partition("]")[0].split(",")
    needed = [*project["dependencies"], *(each for part in parts for each in extras[part]), "pytest"]
    names = {re.split(r"[^A-Za-z0-9._-]", each)[0].lower() for each in needed}
    assert names <= _pins(TEMPLATES / "churn" / "requirements.lock").keys()
