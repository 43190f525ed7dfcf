"""Drops in folders: what is seen, what is not, and that a copy is what was digested."""

import os
from pathlib import Path

import pytest

from ecluse.adapters.sources_files import DropFolders
from ecluse.core.errors import InvalidInput
from ecluse.core.source import Source

FOLDERS = Source("in/*")


def _drops(root: Path) -> DropFolders:
    return DropFolders(root, root / "staging")


def _put(root: Path, name: str, text: str = "user_id\na\n") -> Path:
    path = root / "in" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_folders_and_files_are_seen_and_what_is_not_ready_is_not(tmp_path: Path) -> None:
    for name in (
        "b/users.csv",
        "a.parquet",
        ".hidden/users.csv",
        "_temporary/users.csv",
        "c.csv.part",
        "d.tmp",
        "e/notes.txt",
    ):
        _put(tmp_path, name)
    (tmp_path / "in" / "empty").mkdir()
    os.mkfifo(tmp_path / "in" / "pipe.csv")
    (tmp_path / "in" / "link.csv").symlink_to("/etc/passwd")
    assert [seen.name for seen in _drops(tmp_path).look(FOLDERS)] == ["in/a.parquet", "in/b"]


def test_a_link_to_a_folder_is_not_followed(tmp_path: Path) -> None:
    _put(tmp_path, "real/users.csv")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "in" / "real")
    assert [seen.name for seen in _drops(tmp_path).look(FOLDERS)] == ["in/real"]


def test_no_folder_is_no_drop(tmp_path: Path) -> None:
    assert _drops(tmp_path).look(FOLDERS) == ()


def test_the_stamp_changes_with_size_time_and_files(tmp_path: Path) -> None:
    drops, path = _drops(tmp_path), _put(tmp_path, "a/users.csv")
    stamps = [drops.look(FOLDERS)[0].stamp]
    assert drops.look(FOLDERS)[0].stamp == stamps[0]
    path.write_text("user_id\nab\n")
    stamps.append(drops.look(FOLDERS)[0].stamp)
    os.utime(path, (1, 1))
    stamps.append(drops.look(FOLDERS)[0].stamp)
    _put(tmp_path, "a/more.csv")
    stamps.append(drops.look(FOLDERS)[0].stamp)
    assert len(set(stamps)) == 4


def test_markers_lie_in_a_folder_or_beside_a_file(tmp_path: Path) -> None:
    source = Source("in/*", marker=".done")
    _put(tmp_path, "a/users.csv")
    _put(tmp_path, "b.csv")
    assert [seen.marked for seen in _drops(tmp_path).look(source)] == [False, False]
    _put(tmp_path, "a/.done", "")
    _put(tmp_path, "b.csv.done", "")
    assert [(seen.name, seen.marked) for seen in _drops(tmp_path).look(source)] == [("in/a", True), ("in/b.csv", True)]


def test_a_copy_holds_what_was_digested_and_goes(tmp_path: Path) -> None:
    drops = _drops(tmp_path)
    _put(tmp_path, "a/users.csv", "one")
    _put(tmp_path, "a/usage.csv", "two")
    _put(tmp_path, "b/users.csv", "one")
    _put(tmp_path, "b/usage.csv", "two")
    first, second = drops.look(FOLDERS)
    with drops.fetch(FOLDERS, first, None) as one, drops.fetch(FOLDERS, second, None) as two:
        assert one is not None
        assert two is not None
        assert one.digest == two.digest, "the same bytes are the same drop, whatever it is called"
        assert sorted(path.name for path in one.folder.iterdir()) == ["usage.csv", "users.csv"]
    assert list((tmp_path / "staging").iterdir()) == []


def test_a_drop_that_changed_since_is_not_copied(tmp_path: Path) -> None:
    drops, path = _drops(tmp_path), _put(tmp_path, "a/users.csv")
    [seen] = drops.look(FOLDERS)
    path.write_text("user_id\nmore\n")
    with drops.fetch(FOLDERS, seen, None) as changed:
        assert changed is None
    path.unlink()
    with drops.fetch(FOLDERS, seen, None) as gone:
        assert gone is None


def test_one_file_is_called_like_its_table(tmp_path: Path) -> None:
    drops = _drops(tmp_path)
    _put(tmp_path, "day-2024-06-30.csv")
    [seen] = drops.look(FOLDERS)
    with drops.fetch(FOLDERS, seen, "usage") as fetched:
        assert fetched is not None
        assert [path.name for path in fetched.folder.iterdir()] == ["usage.csv"]
    with pytest.raises(InvalidInput, match="unknown table"), drops.fetch(FOLDERS, seen, None):
        pass


def test_copies_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    (tmp_path / "staging" / "drop-old").mkdir(parents=True)
    (tmp_path / "staging" / "drop-old" / "users.csv").touch()
    _drops(tmp_path).tidy()
    assert list((tmp_path / "staging").iterdir()) == []
