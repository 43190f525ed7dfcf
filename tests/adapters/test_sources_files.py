"""Drops in folders: what only a file system holds. The rest is in test_sources_contract.py."""

import os
from pathlib import Path

from ecluse.adapters.sources_files import DropFolders, tidy
from ecluse.core.source import Source

FOLDERS = Source("in/*")


def _drops(root: Path) -> DropFolders:
    return DropFolders(root, root / "staging")


def _put(root: Path, name: str, text: str = "user_id\na\n") -> Path:
    path = root / "in" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_pipes_links_and_empty_folders_are_no_drops(tmp_path: Path) -> None:
    _put(tmp_path, "a.csv")
    (tmp_path / "in" / "empty").mkdir()
    os.mkfifo(tmp_path / "in" / "pipe.csv")
    (tmp_path / "in" / "link.csv").symlink_to("/etc/passwd")
    assert [seen.name for seen in _drops(tmp_path).look(FOLDERS)] == ["in/a.csv"]


def test_a_link_to_a_folder_is_not_followed(tmp_path: Path) -> None:
    _put(tmp_path, "real/users.csv")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "in" / "real")
    assert [seen.name for seen in _drops(tmp_path).look(FOLDERS)] == ["in/real"]


def test_no_folder_is_no_drop(tmp_path: Path) -> None:
    assert _drops(tmp_path).look(FOLDERS) == ()


def test_the_stamp_changes_with_the_time(tmp_path: Path) -> None:
    drops, path = _drops(tmp_path), _put(tmp_path, "a/users.csv")
    before = drops.look(FOLDERS)[0].stamp
    os.utime(path, (1, 1))
    assert drops.look(FOLDERS)[0].stamp != before


def test_copies_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    (tmp_path / "staging" / "drop-old").mkdir(parents=True)
    (tmp_path / "staging" / "drop-old" / "users.csv").touch()
    tidy(tmp_path / "staging")
    assert list((tmp_path / "staging").iterdir()) == []
