"""Materialising: every view of every model for every key known by the moment, never newer values replaced by older."""

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from tests.loop.worlds import world_in

from ecluse.adapters.clock import DataClock
from ecluse.adapters.database.sqlite import SqliteState
from ecluse.adapters.online_sqlite import OnlineSqlite
from ecluse.adapters.snapshots_files import SnapshotsFiles
from ecluse.core.contract import Boolean, Category, Table
from ecluse.core.entity import Entity
from ecluse.core.errors import InvalidInput
from ecluse.core.instants import parse_instant, to_micros
from ecluse.core.model import Fixed, Label, Model
from ecluse.core.ports import OnlineRow, World
from ecluse.core.project import Project, gather
from ecluse.core.settings import Settings, Time
from ecluse.core.view import FeatureView, count, last
from ecluse.features.materialize import online_rows
from ecluse.loop.dataset import current_dataset, histories
from ecluse.loop.ingest import ingest
from ecluse.loop.materialize import materialize

SETTINGS = Settings(project="water", time=Time("data"))
USER = Entity("user", kind="integer")
users = Table("users", USER, {"plan": Category(max_distinct=9)})
tickets = Table("tickets", USER, {"topic": Category()})
labels = Table("labels", USER, {"churned": Boolean()})
profile = FeatureView("profile", users, {"plan": last("plan")}, ttl=timedelta(days=45))
support = FeatureView("support", tickets, {"tickets": count(over="40d")}, missing="accept")
unused = FeatureView("unused", users, {"plan": last("plan")})
churn = Model("churn", Label("churned", labels, "churned"), (profile, support), "roc_auc", parameters={"n": Fixed(1)})
again = replace(churn, name="again", features=(profile,))
JANUARY, FEBRUARY = parse_instant("2024-01-31"), parse_instant("2024-02-29")


@pytest.fixture
def project() -> Project:
    return gather([churn, again, unused])


@pytest.fixture
def world(tmp_path: Path) -> World:
    home = tmp_path / "dev"
    state = SqliteState(home / "state.db")
    parts = world_in(home, state=state, clock=DataClock(state))
    return replace(parts, snapshots=SnapshotsFiles(home / "snapshots"), online=OnlineSqlite.open(home / "online.db"))


def take(world: World, project: Project, folder: Path, as_of: datetime, **files: str) -> None:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.csv").write_text(text)
    result = ingest(world, project, SETTINGS, folder, as_of, actor="ana")
    assert result.passed, result


def take_january(world: World, project: Project, folder: Path) -> None:
    users, tickets = "user,plan\n1,Basic\n2,Gold\n", "user,topic\n1,bill\n3,speed\n"
    take(world, project, folder / "january", JANUARY, users=users, tickets=tickets)


def take_february(world: World, project: Project, folder: Path) -> None:
    take(world, project, folder / "february", FEBRUARY, users="user,plan\n1,Gold\n4,Basic\n")


def test_every_key_of_the_entity_in_every_view(world: World, project: Project, tmp_path: Path) -> None:
    take_january(world, project, tmp_path)
    result = materialize(world, project, SETTINGS)
    assert result.moment == JANUARY
    assert [(each.view, each.written, each.kept, each.live) for each in result.views] == [
        ("profile", 3, 0, 2),
        ("support", 3, 0, 2),
    ]
    at = to_micros(JANUARY)
    assert world.online.read(["profile", "support", "unused"], "1") == {
        "profile": OnlineRow({"plan": "Basic"}, at, at),
        "support": OnlineRow({"tickets": 1.0}, at, at),
    }
    # no ticket is a known count of zero; no profile is missing, and says so
    assert world.online.read(["support"], "2")["support"] == OnlineRow({"tickets": 0.0}, at, None)
    assert world.online.read(["profile"], "3")["profile"] == OnlineRow({"plan": None}, at, None)
    event = list(world.state.ledger())[-1].event
    assert event.kind == "features.materialized"
    assert event.evidence["views"]["profile"] == {"written": 3, "kept": 0, "live": 2}
    assert event.evidence["dataset"] == result.dataset


def test_an_older_moment_never_replaces_a_newer_one(world: World, project: Project, tmp_path: Path) -> None:
    take_january(world, project, tmp_path)
    materialize(world, project, SETTINGS)
    take_february(world, project, tmp_path)
    assert [each.written for each in materialize(world, project, SETTINGS).views] == [4, 4]
    new = {key: world.online.read(["profile", "support"], key) for key in "1234"}
    assert new["1"]["profile"].values == {"plan": "Gold"}
    older = materialize(world, project, SETTINGS, JANUARY)
    assert [(each.written, each.kept) for each in older.views] == [(0, 3), (0, 3)]
    assert {key: world.online.read(["profile", "support"], key) for key in "1234"} == new
    assert world.online.moment("profile") == to_micros(FEBRUARY)


def test_an_earlier_moment_uses_only_what_was_known_then(world: World, project: Project, tmp_path: Path) -> None:
    take_january(world, project, tmp_path)
    take_february(world, project, tmp_path)
    result = materialize(world, project, SETTINGS, JANUARY)
    assert [each.written for each in result.views] == [3, 3]  # user 4 was not known yet
    assert world.online.read(["profile"], "1")["profile"].values == {"plan": "Basic"}
    assert world.online.read(["profile"], "4") == {}


def test_the_same_moment_again_takes_up_what_was_ingested_since(world: World, project: Project, tmp_path: Path) -> None:
    take_january(world, project, tmp_path)
    materialize(world, project, SETTINGS)
    take(world, project, tmp_path / "correction", JANUARY, users="user,plan\n1,Silver\n2,Gold\n")
    materialize(world, project, SETTINGS)
    assert world.online.read(["profile"], "1")["profile"].values == {"plan": "Silver"}


def test_values_are_those_recomputed_at_the_moment_they_carry(world: World, project: Project, tmp_path: Path) -> None:
    take_january(world, project, tmp_path)
    materialize(world, project, SETTINGS)
    take_february(world, project, tmp_path)
    frames = histories(world, project.tables, current_dataset(world, project.tables, FEBRUARY))
    keys = frames["users"]["__key"].unique().sort().filter(frames["users"]["__key"].unique().sort() != "4")
    for view in (profile, support):
        for key, row in online_rows(frames[view.table.name], view, keys, JANUARY):
            assert world.online.read([view.name], key)[view.name] == row


def test_a_moment_that_has_not_come_is_refused(world: World, project: Project, tmp_path: Path) -> None:
    take_january(world, project, tmp_path)
    with pytest.raises(InvalidInput, match="clock set"):
        materialize(world, project, SETTINGS, FEBRUARY)
    assert world.online.moment("profile") is None
