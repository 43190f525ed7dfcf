"""Drops of a bucket among others: a store out of reach holds nothing up, and adapters that trust names or tags are found out."""

import logging
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest
from tests.adapters.object_store import ObjectStore
from tests.adapters.places import Bucket, Folders, bucket, folders
from tests.loop.test_sources import FOLDERS, House

from ecluse.adapters import sources_objects
from ecluse.adapters.sources import DropPlaces
from ecluse.adapters.sources_objects import DropObjects
from ecluse.core.codec import digest
from ecluse.core.source import Fetched, Seen, Source
from ecluse.loop.sources import TAKEN

ROWS = "user,plan\n1,Basic\n"


def _mixed(root: Path, store: ObjectStore) -> tuple[House, Bucket]:
    """A house with drops in folders (`near`) and in a bucket (`far`)."""
    name = f"water-{uuid.uuid4().hex}"
    near, far = folders(root), bucket(store, name, root)
    assert isinstance(near, Folders)
    assert isinstance(far, Bucket)
    place = Folders(root, DropPlaces(near.drops, far.drops))
    return House(root, place, {"far": replace(FOLDERS, drops=f"s3://{name}/in/*"), "near": FOLDERS}), far


def test_a_store_out_of_reach_is_told_once_holds_nothing_up_and_is_tried_again(
    object_store: ObjectStore, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources_objects, "SILENCE", timedelta(seconds=0.2))
    caplog.set_level(logging.INFO, "ecluse.loop.sources")
    house, far = _mixed(tmp_path, object_store)
    far.put("in/2024-01-31/users.csv", ROWS)
    house.look()
    object_store.stop()
    try:
        for month, plan in (("2024-02-29", "Gold"), ("2024-03-31", "Basic"), ("2024-04-30", "Gold")):
            house.drop(month, users=f"user,plan\n1,{plan}\n")
            assert [each.source for each in house.look()] == ["near"]
            assert house.plan("1") == plan
    finally:
        object_store.go_on()
    assert [record.message for record in caplog.records].count("unreachable") == 1
    assert house.looks.troubles["far"].times < 3, "tried ever later, not at every look"
    far.put("in/2024-05-31/users.csv", ROWS)
    assert [each.source for each in house.look(60)] == ["far"]
    assert [record.message for record in caplog.records].count("well again") == 1
    assert house.looks.troubles == {}
    assert len(house.told(TAKEN)) == 5


def test_a_drop_that_cannot_be_fetched_waits_and_the_later_ones_of_its_source_behind_it(
    object_store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house, far = _mixed(tmp_path, object_store)
    for month in ("2024-01-31", "2024-02-29"):
        far.put(f"in/{month}/users.csv", ROWS)
    house.drop("2024-03-31", users=ROWS)

    class Cut(DropObjects):
        """The connection is lost between a look and a copy."""

        def fetch(self, source: Source, seen: Seen, file: str | None):  # type: ignore[no-untyped-def]
            monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
            return DropObjects(self.staging).fetch(source, seen, file)

    house.drops = DropPlaces(house.drops.folders, Cut(tmp_path / "staging"))  # type: ignore[attr-defined]
    assert [each.seen.name for each in house.look()] == ["in/2024-03-31"]
    monkeypatch.setenv("AWS_ENDPOINT_URL", object_store.environment["AWS_ENDPOINT_URL"])
    house.drops = DropPlaces(folders(tmp_path).drops, DropObjects(tmp_path / "staging"))
    assert [each.seen.name for each in house.look(60)] == ["in/2024-01-31", "in/2024-02-29"]


@dataclass(frozen=True)
class Planted(DropObjects):
    """An adapter that says what a drop is without having read it."""

    trusts: Callable[[Seen], str] = lambda seen: ""

    @contextmanager
    def fetch(self, source: Source, seen: Seen, file: str | None) -> Iterator[Fetched | None]:
        with DropObjects.fetch(self, source, seen, file) as fetched:
            yield None if fetched is None else Fetched(fetched.folder, digest([self.trusts(seen)]))


def _is_taken_by_what_it_holds(house: House) -> bool:
    """The same bytes under another name are known; other bytes under the same name are a correction."""
    house.drop("2024-01-31", users=ROWS)
    first = len(house.look())
    house.drop("again-2024-01-31", users=ROWS)
    again = len(house.look())
    house.drop("2024-01-31", users="user,plan\n1,Gold\n")
    return (first, again, len(house.look())) == (1, 0, 1)


@pytest.mark.parametrize(
    ("drops", "right"),
    [
        (DropObjects, True),
        (lambda staging: Planted(staging, trusts=lambda seen: seen.stamp), False),
        (lambda staging: Planted(staging, trusts=lambda seen: seen.name), False),
    ],
    ids=["content", "tag", "name"],
)
def test_a_drop_is_what_it_holds(
    object_store: ObjectStore, tmp_path: Path, drops: Callable[[Path], DropObjects], right: bool
) -> None:
    place = bucket(object_store, f"planted-{uuid.uuid4().hex}", tmp_path)
    assert isinstance(place, Bucket)
    place.drops = drops(tmp_path / "staging")
    source = replace(FOLDERS, every=timedelta(0))
    assert _is_taken_by_what_it_holds(House(tmp_path, place, {"all": source})) is right
