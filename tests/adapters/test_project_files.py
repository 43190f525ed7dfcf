"""The digest of a project's sources: what an editor leaves beside them is none, and ends nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ecluse.adapters.project_files import code_digest


def test_what_an_editor_leaves_beside_the_sources_is_no_source(tmp_path: Path) -> None:
    (tmp_path / "project.py").write_text("a = 1\n")
    before = code_digest(tmp_path)
    (tmp_path / ".#project.py").symlink_to("ana@laptop.4711:1700000000")
    (tmp_path / ".project.py").write_text("b = 2\n")
    (tmp_path / "gone.py").symlink_to("nowhere.py")
    os.mkfifo(tmp_path / "pipe.py")  # reading it would never end
    assert code_digest(tmp_path) == before
    (tmp_path / "more.py").symlink_to("project.py")
    assert code_digest(tmp_path) != before, "a link to a source is one"


def test_a_source_that_goes_while_it_is_looked_at_is_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "project.py").write_text("a = 1\n")
    before = code_digest(tmp_path)
    (tmp_path / "gone.py").symlink_to("nowhere.py")
    monkeypatch.setattr(Path, "is_file", lambda self: True)  # it was there a moment ago
    assert code_digest(tmp_path) == before
