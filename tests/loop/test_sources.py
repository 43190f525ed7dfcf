"""What arrives is taken once, in order, whole; what is bad is refused once and holds nothing up; what is late is told once.

Each of it in folders and in a bucket.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.adapters.places import Place
from tests.loop.worlds import world_in

from ecluse.adapters.clock import DataClock, SystemClock
from ecluse.adapters.database.sqlite import SqliteState
from ecluse.adapters.online_sqlite import OnlineSqlite
from ecluse.adapters.snapshots_files import SnapshotsFiles
from ecluse.core.contract import Boolean, Category, Table
from ecluse.core.entity import Entity
from ecluse.core.errors import DeclarationError, Unavailable
from ecluse.core.event import LedgerRow
from ecluse.core.instants import parse_instant
from ecluse.core.model import Fixed, Label, Model
from ecluse.core.ports import World
from ecluse.core.project import Project, gather
from ecluse.core.settings import Settings, Time
from ecluse.core.source import Source
from ecluse.core.view import FeatureView, last
from ecluse.loop.sources import LATE, REFUSED, TAKEN, Arrived, Looks, check_sources, take_arrivals

USER = Entity("user", kind="integer")
users = Table("users", USER, {"plan": Category(("Basic", "Gold"))})
labels = Table("labels", USER, {"churned": Boolean()})
profile = FeatureView("profile", users, {"plan": last("plan")})
churn = Model("churn", Label("churned", labels, "churned"), (profile,), "roc_auc", parameters={"n": Fixed(1)})
AT_ONCE = timedelta(0)
FOLDERS = Source("in/*", every=AT_ONCE, settle=AT_ONCE, freshness=timedelta(days=40))


class House:
    """A project, the place its drops come to, and looks at its sources in one made-up second after the other."""

    def __init__(self, root: Path, place: Place, sources: Mapping[str, Source], clock: str = "data") -> None:
        self.root, self.put, home = root, place.put, root / "dev"
        sources = {name: place.at(source) for name, source in sources.items()}
        state = SqliteState(home / "state.db")
        parts = world_in(home, state=state, clock=DataClock(state) if clock == "data" else SystemClock())
        online = OnlineSqlite.open(home / "online.db")
        self.world: World = replace(parts, snapshots=SnapshotsFiles(home / "snapshots"), online=online)
        self.project: Project = gather([churn])
        self.settings = Settings(project="water", time=Time("data" if clock == "data" else "system"), sources=sources)
        self.drops = place.drops
        self.looks, self.second = Looks(), 0.0

    def drop(self, name: str, **files: str) -> None:
        for table, text in files.items():
            self.put(f"in/{name}/{table}.csv", text)

    def look(self, seconds: float = 1.0) -> list[Arrived]:
        self.second += seconds
        return list(take_arrivals(self.world, self.project, self.settings, self.drops, self.looks, self.second))

    def restart(self) -> None:
        """Nothing is remembered but the ledger."""
        self.looks = Looks()

    def told(self, *kinds: str) -> list[LedgerRow]:
        return [row for row in self.world.state.ledger() if row.event.kind in kinds]

    def plan(self, key: str) -> object:
        return self.world.online.read(["profile"], key)["profile"].values["plan"]


Build = Callable[..., House]


@pytest.fixture
def build(tmp_path: Path, places: Callable[[Path], Place]) -> Build:
    return lambda sources, clock="data": House(tmp_path, places(tmp_path), sources, clock)


@pytest.fixture
def house(build: Build) -> House:
    return build({"all": FOLDERS})


def test_a_drop_is_ingested_materialised_and_told(house: House) -> None:
    house.drop("2024-01-31", users="user,plan\n1,Basic\n2,Gold\n", labels="user,churned\n1,true\n")
    [arrived] = house.look()
    assert arrived.rows == {"users": 2, "labels": 1}
    assert house.plan("1") == "Basic"
    [row] = house.told(TAKEN)
    assert row.event.reason == "in/2024-01-31: 3 rows of 2 tables"
    assert house.world.clock.now() == parse_instant("2024-01-31")


def test_the_same_drop_is_taken_once_touched_renamed_or_after_a_restart(house: House) -> None:
    rows = "user,plan\n1,Basic\n"
    house.drop("2024-01-31", users=rows)
    house.look()
    facts = len(list(house.world.state.ledger()))
    house.drop("2024-01-31", users=rows)
    assert house.look() == []
    house.drop("again-2024-01-31", users=rows)
    assert house.look() == []
    house.restart()
    assert house.look() == []
    assert len(list(house.world.state.ledger())) == facts


def test_the_same_bytes_may_hold_at_another_moment(house: House) -> None:
    for name in ("2024-01-31", "2024-02-29"):
        house.drop(name, users="user,plan\n1,Basic\n")
    assert [each.as_of for each in house.look()] == [parse_instant("2024-01-31"), parse_instant("2024-02-29")]


def test_other_bytes_under_the_same_name_are_a_correction(house: House) -> None:
    house.drop("2024-01-31", users="user,plan\n1,Basic\n")
    house.look()
    house.drop("2024-01-31", users="user,plan\n1,Gold\n")
    assert len(house.look()) == 1
    assert house.plan("1") == "Gold"


def test_drops_are_taken_by_the_moment_they_speak_of(house: House) -> None:
    for name, plan in (("b-2024-02-29", "Gold"), ("c-2024-01-31", "Basic")):
        house.drop(name, users=f"user,plan\n1,{plan}\n")
    assert [each.seen.name for each in house.look()] == ["in/c-2024-01-31", "in/b-2024-02-29"]
    assert house.plan("1") == "Gold"


def test_a_bad_drop_is_refused_once_and_holds_nothing_up(house: House) -> None:
    house.drop("2024-01-31", users="user,plan\n1,Platinum\n")
    house.drop("nameless", users="user,plan\n1,Basic\n")
    house.drop("2024-02-29", users="user,plan\n1,Gold\n")
    house.put("in/2024-02-28/users.parquet", b"PAR1 this is none PAR1")
    assert len(house.look()) == 4
    assert [row.event.evidence["drop"] for row in house.told(TAKEN)] == ["in/2024-02-29"]
    why = {row.event.evidence["drop"]: row.event.reason for row in house.told(REFUSED)}
    assert set(why) == {"in/2024-01-31", "in/nameless", "in/2024-02-28"}
    assert "users" in why["in/2024-01-31"]
    assert "does not say the moment" in why["in/nameless"]
    for _ in range(3):
        assert house.look() == []
        house.restart()
    assert len(house.told(REFUSED)) == 3


def test_a_refused_drop_is_tried_again_when_the_declaration_or_its_bytes_change(house: House) -> None:
    house.drop("2024-01-31", users="user,plan\n1,Platinum\n")
    house.look()
    wider = replace(users, columns={"plan": Category(("Basic", "Gold", "Platinum"))})
    view = replace(profile, table=wider)
    before, house.project = house.project, gather([replace(churn, features=(view,))])
    assert [each.reason for each in house.look()] == [""]
    house.project = before
    house.drop("2024-02-29", users="user,plan\n1,Tin\n")
    assert house.look()[0].reason
    house.drop("2024-02-29", users="user,plan\n1,Gold\n")
    assert [each.reason for each in house.look()] == [""]


def test_half_written_files_are_waited_for(build: Build) -> None:
    house = build({"all": replace(FOLDERS, settle=timedelta(seconds=3))})
    house.drop("2024-01-31", users="user,plan\n1,Basic\n")
    assert house.look() == []
    house.drop("2024-01-31", users="user,plan\n1,Basic\n2,Gold\n")
    assert house.look(2) == []
    house.drop("2024-01-31", labels="user,churned\n1,true\n")
    assert house.look(2) == []
    assert house.look(2) == []
    [arrived] = house.look(1)
    assert arrived.rows == {"users": 2, "labels": 1}


def test_a_marker_says_when_it_is_whole(build: Build) -> None:
    house = build({"all": replace(FOLDERS, marker="_SUCCESS")})
    house.drop("2024-01-31", users="user,plan\n1,Basic\n")
    assert house.look(9_999) == []
    house.put("in/2024-01-31/_SUCCESS", "")
    assert len(house.look()) == 1


def test_one_table_arrives_file_by_file(build: Build) -> None:
    house = build({"users": replace(FOLDERS, drops="users/*.csv")})
    house.put("users/day-20240131.csv", "user,plan\n1,Basic\n")
    house.put("users/day-20240201.csv", "user,plan\n1,Gold\n")
    assert [each.rows for each in house.look()] == [{"users": 1}, {"users": 1}]
    assert house.plan("1") == "Gold"


def test_what_speaks_of_a_moment_to_come_waits_on_a_system_clock(build: Build) -> None:
    house = build({"all": FOLDERS}, clock="system")
    house.drop("9999-01-01", users="user,plan\n1,Basic\n")
    house.drop("2024-01-31", users="user,plan\n1,Gold\n")
    assert [each.seen.name for each in house.look()] == ["in/2024-01-31"]
    assert house.told(REFUSED) == []


def test_cut_off_before_the_online_store_was_written_it_is_taken_again(house: House) -> None:
    house.drop("2024-01-31", users="user,plan\n1,Basic\n")
    good, blocked = house.world, house.root / "dev" / "blocked"
    blocked.write_text("a file stands where the store's folder should be")
    house.world = replace(good, online=OnlineSqlite.open(blocked / "online.db"))
    with pytest.raises(Unavailable):
        house.look()
    assert house.told(TAKEN) == []
    house.world = good
    house.restart()
    assert len(house.look()) == 1
    assert house.plan("1") == "Basic"
    assert len(house.told("data.ingested")) == 1
    assert len(house.told(TAKEN)) == 1


def test_late_is_told_once_until_something_newer_comes(build: Build) -> None:
    slow = replace(FOLDERS, drops="slow/*", freshness=timedelta(days=20))
    house = build({"all": FOLDERS, "slow": slow})
    for name in ("2024-01-31", "2024-02-29"):
        house.drop(name, users="user,plan\n1,Basic\n")
        house.look()
        house.look()
        house.restart()
    [late] = house.told(LATE)
    assert late.event.evidence["source"] == "slow"
    house.put("slow/2024-03-01/labels.csv", "user,churned\n1,true\n")
    house.look()
    assert len(house.told(LATE)) == 1
    house.drop("2024-03-31", users="user,plan\n1,Gold\n")
    house.look()
    assert len(house.told(LATE)) == 2


def test_a_source_is_looked_at_as_often_as_it_asks(build: Build) -> None:
    house = build({"all": replace(FOLDERS, every=timedelta(seconds=10))})
    house.look()
    house.drop("2024-01-31", users="user,plan\n1,Basic\n")
    assert house.look(9) == []
    assert len(house.look(1)) == 1


def test_a_source_of_an_unknown_table_is_refused_at_the_start(house: House) -> None:
    wrong = replace(house.settings, sources={"all": replace(FOLDERS, tables=("user",))})
    with pytest.raises(DeclarationError, match="brings `user`"):
        check_sources(house.project, wrong)
    check_sources(house.project, house.settings)


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.sampled_from(["2024-01-31", "2024-02-29", "x-2024-01-31"]), st.sampled_from(["Basic", "Gold", "Tin"])),
            st.sampled_from(["look", "restart"]),
        ),
        max_size=12,
    )
)  # fmt: skip
def test_whatever_comes_is_taken_or_refused_exactly_once(
    tmp_path_factory: pytest.TempPathFactory, places: Callable[[Path], Place], steps: list[tuple[str, str] | str]
) -> None:
    root = tmp_path_factory.mktemp("house")
    house = House(root, places(root), {"all": FOLDERS})
    contents: set[tuple[str, str]] = set()
    there: dict[str, str] = {}
    for each in [*steps, "look", "restart", "look"]:
        if each == "look":
            house.look()
            contents |= {(name[-10:], plan) for name, plan in there.items()}
        elif each == "restart":
            house.restart()
        elif not isinstance(each, str):
            name, plan = each
            there[name] = plan
            house.drop(name, users=f"user,plan\n1,{plan}\n")
    assert len(house.told(TAKEN)) == sum(plan != "Tin" for _, plan in contents)
    assert len(house.told(REFUSED)) == sum(plan == "Tin" for _, plan in contents)
