"""What the port Drops promises, of folders and of a bucket: what is seen, what is not, and that a copy is what was digested."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.adapters.places import Place

from ecluse.core.errors import InvalidInput
from ecluse.core.source import Seen, Source

FOLDERS = Source("in/*")


@dataclass
class Here:
    """A place with one source."""

    place: Place
    staging: Path

    def look(self, source: Source = FOLDERS) -> list[Seen]:
        return list(self.place.drops.look(self.place.at(source)))

    def digest(self, seen: Seen, file: str | None = None) -> str | None:
        with self.place.drops.fetch(self.place.at(FOLDERS), seen, file) as fetched:
            return None if fetched is None else fetched.digest

    def names(self, seen: Seen, file: str | None = None) -> list[str]:
        with self.place.drops.fetch(self.place.at(FOLDERS), seen, file) as fetched:
            assert fetched is not None
            return sorted(path.name for path in fetched.folder.iterdir())


@pytest.fixture
def here(tmp_path: Path, places: Callable[[Path], Place]) -> Here:
    return Here(places(tmp_path), tmp_path / "staging")


def test_folders_and_files_are_seen_and_what_is_not_ready_is_not(here: Here) -> None:
    ready = ("b/users.csv", "a.parquet", "f/plain ä+%.csv")
    unready = (".hidden/users.csv", "_temporary/users.csv", "c.csv.part", "d.tmp", "e/notes.txt", "g/deeper/users.csv")
    for name in (*ready, *unready):
        here.place.put(f"in/{name}", "user_id\na\n")
    here.place.put("inside/h.csv", "user_id\na\n")
    assert [seen.name for seen in here.look()] == ["in/a.parquet", "in/b", "in/f"]
    assert here.names(here.look()[2]) == ["plain ä+%.csv"]


def test_nothing_there_is_no_drop(here: Here) -> None:
    assert here.look() == []


@pytest.mark.parametrize(
    ("pattern", "seen"),
    [
        ("in/*/*", ["in/a/2024-01-31", "in/b/2024-01-31"]),
        ("in/[a]/2024-*", ["in/a/2024-01-31"]),
        ("in/a/2024-01-31/*.csv", ["in/a/2024-01-31/users.csv"]),
        ("in/a/2024-01-31", ["in/a/2024-01-31"]),
        ("in/?/2024-01-31/u*s.csv", ["in/a/2024-01-31/users.csv", "in/b/2024-01-31/users.csv"]),
        ("**/2024-01-31", ["in/a/2024-01-31", "in/b/2024-01-31", "out/2024-01-31"]),
        ("in/*", []),
    ],
)
def test_patterns_are_read_alike(here: Here, pattern: str, seen: list[str]) -> None:
    for name in ("in/a/2024-01-31/users.csv", "in/b/2024-01-31/users.csv", "out/2024-01-31/users.csv"):
        here.place.put(name, "user_id\na\n")
    assert [each.name for each in here.look(Source(pattern))] == seen


def test_the_stamp_changes_with_size_bytes_and_files(here: Here) -> None:
    here.place.put("in/a/users.csv", "user_id\na\n")
    stamps = [here.look()[0].stamp]
    assert here.look()[0].stamp == stamps[0]
    here.place.put("in/a/users.csv", "user_id\nab\n")
    stamps.append(here.look()[0].stamp)
    here.place.put("in/a/users.csv", "user_id\nac\n")
    stamps.append(here.look()[0].stamp)
    here.place.put("in/a/more.csv", "user_id\na\n")
    stamps.append(here.look()[0].stamp)
    assert len(set(stamps)) == 4


def test_markers_lie_in_a_folder_or_beside_a_file(here: Here) -> None:
    source = Source("in/*", marker=".done")
    here.place.put("in/a/users.csv", "user_id\na\n")
    here.place.put("in/b.csv", "user_id\na\n")
    assert [seen.marked for seen in here.look(source)] == [False, False]
    here.place.put("in/a/.done", "")
    here.place.put("in/b.csv.done", "")
    assert [(seen.name, seen.marked) for seen in here.look(source)] == [("in/a", True), ("in/b.csv", True)]


def test_a_copy_holds_what_was_digested_and_goes(here: Here) -> None:
    for name in ("a", "b"):
        here.place.put(f"in/{name}/users.csv", "one")
        here.place.put(f"in/{name}/usage.csv", "two")
    first, second = here.look()
    assert here.digest(first) == here.digest(second), "the same bytes are the same drop, whatever it is called"
    assert here.names(first) == ["usage.csv", "users.csv"]
    assert list(here.staging.iterdir()) == []


def test_written_again_it_holds_the_same(here: Here) -> None:
    here.place.put("in/a/users.csv", "one")
    before = here.digest(here.look()[0])
    here.place.put("in/a/users.csv", "two")
    assert here.digest(here.look()[0]) != before
    here.place.put("in/a/users.csv", "one")
    assert here.digest(here.look()[0]) == before


def test_a_drop_that_changed_since_is_not_copied(here: Here) -> None:
    here.place.put("in/a/users.csv", "user_id\na\n")
    [seen] = here.look()
    here.place.put("in/a/more.csv", "user_id\na\n")
    assert here.digest(seen) is None, "another file"
    here.place.remove("in/a/more.csv")
    here.place.put("in/a/users.csv", "user_id\nmore\n")
    assert here.digest(seen) is None, "other bytes"
    here.place.remove("in/a/users.csv")
    assert here.digest(seen) is None, "gone"
    assert list(here.staging.iterdir()) == []


def test_one_file_is_called_like_its_table(here: Here) -> None:
    here.place.put("in/day-2024-06-30.csv", "user_id\na\n")
    [seen] = here.look()
    assert here.names(seen, "usage") == ["usage.csv"]
    with pytest.raises(InvalidInput, match="unknown table"):
        here.digest(seen)
