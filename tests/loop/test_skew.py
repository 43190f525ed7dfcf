"""Skew over real snapshots and a real online store: equal when nothing is wrong, named per feature and request when something is."""

from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.loop.test_materialize import FEBRUARY, SETTINGS, churn, take_february, take_january
from tests.loop.worlds import fact, run_of, world_in
from tests.monitoring.records import prediction

from ecluse.adapters.clock import DataClock
from ecluse.adapters.database.sqlite import SqliteState
from ecluse.adapters.journal_archive import JournalArchive
from ecluse.adapters.journal_files import Journal
from ecluse.adapters.online_sqlite import OnlineSqlite
from ecluse.adapters.snapshots_files import SnapshotsFiles
from ecluse.core.bundle import make_bundle
from ecluse.core.codec import canonical, digest
from ecluse.core.errors import InvalidInput, NotFound
from ecluse.core.instants import from_micros
from ecluse.core.ports import World
from ecluse.core.project import Project, gather
from ecluse.core.recipe import Split
from ecluse.loop.materialize import materialize
from ecluse.loop.register import register
from ecluse.loop.skew import skew

VIEWS = ["profile", "support"]


@dataclass(frozen=True)
class House:
    """A version whose features come from the online store."""

    world: World
    project: Project
    folder: Path

    def served(self, key: str, number: int, **wrong: Any) -> dict[str, Any]:
        """A prediction as a worker writes it, a day after the store was brought up to date; ``wrong`` are other values."""
        rows = self.world.online.read(VIEWS, key)
        inputs = {name: value for row in rows.values() for name, value in row.values.items()}
        moments = {view: _text(row.as_of) for view, row in rows.items()}
        at = from_micros(max(row.as_of for row in rows.values())) + timedelta(days=1)
        time = at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        as_of = max(moments.values())
        return prediction(number, entity=key, inputs=inputs | wrong, moments=moments, time=time, as_of=as_of)

    def write(self, *records: dict[str, Any]) -> None:
        with Journal.open(self.world.home / "journal", "w1", durability="process") as journal:
            journal.append_many([msgspec.json.encode(each) for each in records])


def _text(micros: int) -> str:
    return from_micros(micros).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@pytest.fixture
def house(tmp_path: Path) -> House:
    home = tmp_path / "dev"
    state = SqliteState(home / "state.db")
    parts = replace(
        world_in(home, state=state, clock=DataClock(state)),
        snapshots=SnapshotsFiles(home / "snapshots"),
        online=OnlineSqlite.open(home / "online.db"),
        read_predictions=JournalArchive(home / "journal").read,
    )
    project = gather([churn])
    take_january(parts, project, tmp_path)
    materialize(parts, project, SETTINGS)
    files = {"model.onnx": b"m", "declaration.json": canonical(churn)}
    bundle = make_bundle(
        model="churn", scorer="onnx", recipe=digest("r"), dataset=digest("d"), split=Split("entity", 0.25), files=files
    )
    parts.bundles.put(bundle, parts.sealer.sign(bundle.digest))
    state.add_run(run_of("run1", bundle.digest), fact("run.finished"))
    register(parts, SETTINGS, "run1", reason="trained", actor="ana")
    return House(parts, project, tmp_path)


def test_what_the_store_held_is_what_the_tables_say_also_later(house: House) -> None:
    house.write(house.served("1", 1), house.served("2", 2))
    take_february(house.world, house.project, house.folder)  # user 1 has another plan since
    materialize(house.world, house.project, SETTINGS, FEBRUARY)
    house.write(house.served("1", 3))
    found = skew(house.world, "churn", actor="ana")
    assert found.verdict.passed, found.verdict
    assert (found.compared, found.sample, dict(found.left_out)) == (3, 3, {})
    assert {(each.feature, each.compared) for each in found.features} == {("plan", 3), ("tickets", 3)}
    assert [(each.view, each.median, each.longest) for each in found.staleness] == [
        ("profile", 86_400, 86_400),
        ("support", 86_400, 86_400),
    ]
    assert not [row for row in house.world.state.ledger() if row.event.kind == "skew.detected"]


def test_a_value_that_differs_is_named_with_its_request_and_told(house: House) -> None:
    house.write(house.served("1", 1), house.served("2", 2, plan="Basic"), house.served("1", 3, tickets=7.0))
    found = skew(house.world, "churn", actor="ana")
    assert {(each.feature, each.differ) for each in found.features} == {("plan", 1), ("tickets", 1)}
    [plan] = [each for each in found.features if each.feature == "plan"]
    assert (plan.examples[0].request_id, plan.examples[0].served, plan.examples[0].recomputed) == (
        "r-2",
        "Basic",
        "Gold",
    )
    [row] = [row for row in house.world.state.ledger() if row.event.kind == "skew.detected"]
    assert row.event.evidence["features"] == {"plan": 1, "tickets": 1}
    assert row.event.evidence["requests"] == ["r-2", "r-3"]


def test_what_cannot_be_recomputed_is_left_out_with_the_reason(house: House) -> None:
    sent = prediction(1, inputs={"plan": "Gold", "tickets": 0.0})
    stale = house.served("1", 2, plan=None) | {"degraded": ["profile: computed longer ago than its time-to-live"]}
    house.write(sent, stale)
    found = skew(house.world, "churn", actor="ana")
    assert dict(found.left_out) == {"its features were sent by the caller": 1}
    assert [each.feature for each in found.features] == ["tickets"]


def test_only_the_newest_are_asked(house: House) -> None:
    house.write(*(house.served("1", number) for number in range(20)))
    assert skew(house.world, "churn", rows=5, actor="ana").sample == 5
    with pytest.raises(InvalidInput):
        skew(house.world, "churn", rows=0, actor="ana")


def test_nothing_served_is_not_found(house: House) -> None:
    with pytest.raises(NotFound, match="has not served"):
        skew(house.world, "churn", actor="ana")
