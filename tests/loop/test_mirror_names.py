"""Names in a real MLflow database, read without MLflow: what was shown is quiet, what somebody moved is told once and put back."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from tests.adapters.tracked import address, forget
from tests.loop.test_mirror import candidate, client, release, world  # noqa: F401 - a fixture
from tests.loop.worlds import MODEL, SETTINGS

from ecluse.adapters.mlflow_names import names_of
from ecluse.core.errors import NotFound, Unavailable
from ecluse.core.ports import World
from ecluse.core.settings import MlflowSettings
from ecluse.loop.mirror import mirror
from ecluse.loop.mirror_names import look_at_names


def names(world: World) -> Callable[[str], int | None]:  # noqa: F811
    found = names_of(world.home, MlflowSettings())
    assert found is not None
    return found


def told(world: World) -> list[tuple[int | None, object]]:  # noqa: F811
    rows = (row.event for row in world.state.ledger() if row.event.kind == "mirror.altered")
    return [(event.version, event.evidence["named"]) for event in rows]


def test_an_alias_is_told_once_by_the_look_put_back_by_the_mirror_and_told_again_when_moved_again(world: World) -> None:  # noqa: F811
    assert not look_at_names(world, names(world)), "nothing was mirrored yet"
    release(world, "a")
    assert not look_at_names(world, names(world)), "the mirror comes later"
    mirror(world, SETTINGS)
    release(world, "b")
    assert not look_at_names(world, names(world)), "it shows what it showed: the mirror comes later"
    mirror(world, SETTINGS)
    assert not look_at_names(world, names(world))
    assert told(world) == []
    there = {each.tags["ecluse.version"]: each.version for each in client(world).search_model_versions()}
    for times in (1, 2):
        client(world).set_registered_model_alias(MODEL, "production", there["1"])
        assert look_at_names(world, names(world))
        assert look_at_names(world, names(world)), "it is still to be put back"
        assert told(world) == [(2, 1)] * times
        mirror(world, SETTINGS)
        assert not look_at_names(world, names(world))
        assert told(world) == [(2, 1)] * times, "the mirror says nothing more"
    client(world).delete_registered_model_alias(MODEL, "production")
    assert look_at_names(world, names(world))
    client(world).create_model_version(MODEL, source="elsewhere", await_creation_for=0)
    client(world).set_registered_model_alias(MODEL, "production", "3")
    assert look_at_names(world, names(world))
    assert told(world)[2:] == [(2, None), (2, 0)]


def test_while_the_mirror_writes_nothing_is_compared(world: World) -> None:  # noqa: F811
    release(world, "a")
    mirror(world, SETTINGS)
    world.state.set_meta(f"mirror.shown.{MODEL}", "")
    client(world).delete_registered_model_alias(MODEL, "production")
    assert not look_at_names(world, names(world))


def test_a_database_that_is_away_or_locked_is_an_error_of_ours(world: World) -> None:  # noqa: F811
    release(world, "a")
    with pytest.raises(NotFound):
        names(world)(MODEL)
    mirror(world, SETTINGS)
    assert names(world)(MODEL) == 1
    with closing(sqlite3.connect(world.home / "mlflow.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(Unavailable):
            names(world)(MODEL)
    forget(world.home)
    with pytest.raises(NotFound):
        names(world)(MODEL)


def test_only_a_database_can_be_read(tmp_path: Path) -> None:
    assert names_of(tmp_path, MlflowSettings(tracking_uri="http://127.0.0.1:5000")) is None
    assert names_of(tmp_path, MlflowSettings(tracking_uri="postgresql://db/mlflow")) is None
    assert names_of(tmp_path, MlflowSettings(enabled=False)) is None
    assert names_of(tmp_path, MlflowSettings(tracking_uri=address(tmp_path))) is not None


def test_reading_names_imports_no_mlflow(tmp_path: Path) -> None:
    code = "import sys, ecluse.adapters.mlflow_names, ecluse.loop.mirror_names; sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
