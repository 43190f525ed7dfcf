"""One released project for all who give it bad input, and a copy of it for each."""

import shutil
from pathlib import Path

import pytest
from tests.acceptance.bad_place import Place, release


@pytest.fixture(scope="session")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return release(tmp_path_factory.mktemp("bad"))


@pytest.fixture
def place(released: Path, tmp_path: Path) -> Place:
    return Place(Path(shutil.copytree(released, tmp_path / "small", symlinks=True)))
