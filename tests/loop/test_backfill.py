"""Backfilled features are those the online store got at each moment; doing it again writes nothing; what changed is written anew."""

from pathlib import Path

import polars as pl
import pytest
from tests.adapters.places import folders
from tests.loop.test_sources import House, churn, profile

from ecluse.adapters.backfills_files import BackfillFiles
from ecluse.core.errors import InvalidInput, NotFound
from ecluse.core.instants import parse_instant
from ecluse.core.project import gather
from ecluse.core.view import FeatureView, count, last
from ecluse.loop.backfill import Backfilled, backfill
from ecluse.loop.sources import TAKEN

FIRST, LAST = parse_instant("2024-01-01"), parse_instant("2024-12-31")


@pytest.fixture
def house(tmp_path: Path) -> House:
    from tests.loop.test_sources import FOLDERS

    house = House(tmp_path, folders(tmp_path), {"all": FOLDERS})
    house.drop("2024-01-31", users="user,plan\n1,Basic\n2,Gold\n")
    house.drop("2024-02-29", users="user,plan\n1,Gold\n3,Basic\n")
    house.look()
    assert len(house.told(TAKEN)) == 2
    return house


def _run(house: House, **given: object) -> tuple[Backfilled, ...]:
    store = BackfillFiles(house.root / "features")
    return backfill(house.world, house.project, store, FIRST, LAST, **given)  # type: ignore[arg-type]


def _read(house: House, moment: str) -> dict[str, object]:
    frame = pl.read_parquet(house.root / "features" / "profile" / f"{moment}*.parquet")
    assert frame.columns == ["__key", "__at", "plan", "__event"]
    return dict(zip(frame["__key"], frame["plan"], strict=True))


def test_each_moment_knows_what_was_known_then(house: House) -> None:
    assert [(each.view, each.rows, each.written) for each in _run(house)] == [
        ("profile", 2, True),
        ("profile", 3, True),
    ]
    assert _read(house, "20240131") == {"1": "Basic", "2": "Gold"}
    assert _read(house, "20240229") == {"1": "Gold", "2": "Gold", "3": "Basic"}
    for key, plan in _read(house, "20240229").items():
        assert house.plan(key) == plan
    [row] = house.told("features.backfilled")
    assert row.event.reason == "1 views at 2 moments"


def test_again_it_writes_nothing(house: House) -> None:
    _run(house)
    before = {path: path.stat().st_mtime_ns for path in (house.root / "features").rglob("*.parquet")}
    assert not any(each.written for each in _run(house))
    assert {path: path.stat().st_mtime_ns for path in (house.root / "features").rglob("*.parquet")} == before
    assert len(house.told("features.backfilled")) == 1


def test_a_changed_view_replaces_its_files(house: House) -> None:
    _run(house)
    more = FeatureView("profile", profile.table, {"plan": last("plan"), "seen": count(over="90d")})
    import dataclasses

    house.project = gather([dataclasses.replace(churn, features=(more,))])
    assert all(each.written for each in _run(house))
    frames = list((house.root / "features" / "profile").glob("*.parquet"))
    assert len(frames) == 2
    assert all("seen" in pl.read_parquet(path).columns for path in frames)


def test_what_was_learnt_later_does_not_change_the_past(house: House) -> None:
    _run(house)
    house.drop("correction-2024-01-31", users="user,plan\n1,Gold\n2,Gold\n")
    house.look()
    _run(house)
    assert _read(house, "20240131") == {"1": "Basic", "2": "Gold"}, "the correction was known from February on"


def test_nothing_to_do_is_said(house: House) -> None:
    store = BackfillFiles(house.root / "features")
    with pytest.raises(InvalidInput, match="before"):
        backfill(house.world, house.project, store, LAST, FIRST)
    with pytest.raises(NotFound, match="no snapshot"):
        backfill(house.world, house.project, store, LAST, LAST)
    with pytest.raises(NotFound, match="no model reads"):
        _run(house, views=["other"])
