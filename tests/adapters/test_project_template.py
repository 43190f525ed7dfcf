"""Writing a project: all of it or nothing, under its own name, in a Git repository where there is Git."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from ecluse.adapters import project_template
from ecluse.adapters.project_template import templates, write_project
from ecluse.core.errors import Conflict, InvalidInput, NotFound, Unavailable

with_git = pytest.mark.skipif(shutil.which("git") is None, reason="no Git on this machine")


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_churn_is_a_template() -> None:
    assert "churn" in templates()


def test_dotfiles_get_their_dots_and_the_project_its_name(tmp_path: Path) -> None:
    written, _ = write_project(tmp_path / "streaming")
    folder = tmp_path / "streaming"
    assert {path.relative_to(folder).as_posix() for path in written} >= {
        ".gitignore", ".env.example", "project.py", "ecluse.toml", "generate.py", "requirements.lock", "README.md", "tests/test_project.py",
    }  # fmt: skip
    assert not (folder / "gitignore").exists()
    assert 'project = "streaming"' in (folder / "ecluse.toml").read_text()
    assert not [path for path in written if b"{{" in path.read_bytes()]
    assert not list(folder.rglob("__pycache__"))


def test_the_name_may_differ_from_the_folder(tmp_path: Path) -> None:
    write_project(tmp_path / "work", name="tv")
    assert 'project = "tv"' in (tmp_path / "work" / "ecluse.toml").read_text()


@with_git
def test_git_has_main_and_dev_and_everything_in_one_commit(tmp_path: Path) -> None:
    folder = tmp_path / "streaming"
    written, notes = write_project(folder)
    assert notes == []
    assert _git(folder, "branch", "--format=%(refname:short)").split() == ["dev", "main"]
    assert _git(folder, "rev-parse", "main") == _git(folder, "rev-parse", "dev")
    assert _git(folder, "status", "--porcelain") == ""
    assert len(_git(folder, "ls-files").splitlines()) == len(written)


@with_git
def test_what_must_stay_out_of_git_does(tmp_path: Path) -> None:
    folder = tmp_path / "streaming"
    write_project(folder)
    for name in (
        ".ecluse/dev/state.db",
        "data/2024-01/users.csv",
        "models/m.onnx",
        "runs/1",
        "checkpoints/c",
        ".env",
        "__pycache__/x",
    ):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    assert _git(folder, "status", "--porcelain", "--untracked-files=all") == ""


@with_git
def test_a_git_that_knows_nobody_still_commits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    assert write_project(tmp_path / "streaming")[1] == []
    assert _git(tmp_path / "streaming", "log", "--format=%an") == "ecluse"


@with_git
def test_another_repository_in_the_environment_is_not_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "other"
    other.mkdir()
    _git(other, "init", "--quiet")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    write_project(tmp_path / "streaming")
    monkeypatch.delenv("GIT_DIR")
    assert _git(tmp_path / "streaming", "branch", "--show-current") == "dev"
    assert not (other / ".git" / "refs" / "heads" / "main").exists()


def test_without_git_the_files_stand_and_a_note_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    written, notes = write_project(tmp_path / "streaming")
    assert all(path.is_file() for path in written)
    assert len(notes) == 1
    assert "no Git" in notes[0]


def test_a_broken_git_is_a_note_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "bin" / "git"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\necho 'no room left' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{broken.parent}:{os.environ['PATH']}")
    written, notes = write_project(tmp_path / "streaming")
    assert "no room left" in notes[0]
    assert all(path.is_file() for path in written)


def test_an_empty_folder_is_used_and_a_full_one_refused(tmp_path: Path) -> None:
    folder = tmp_path / "streaming"
    folder.mkdir()
    write_project(folder)
    before = sorted(folder.rglob("*"))
    with pytest.raises(Conflict, match="not an empty folder"):
        write_project(folder)
    assert sorted(folder.rglob("*")) == before


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(Conflict):
        write_project(tmp_path / "taken")
    assert (tmp_path / "taken").read_text() == "mine"


def test_unknown_templates_and_bad_names_are_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="churn"):
        write_project(tmp_path / "a", "chrun")
    with pytest.raises(NotFound):
        write_project(tmp_path / "a", "../adapters")
    for name in ('a"b', "", "-x", "a\nb"):
        with pytest.raises(InvalidInput):
            write_project(tmp_path / "a", name=name)
    assert not (tmp_path / "a").exists()


def test_what_the_disk_refuses_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The last file of the template is a folder's worth too long for any file system.
    source = tmp_path / "templates" / "long"
    source.mkdir(parents=True)
    (source / "project.py").write_text("")
    (source / "zz").symlink_to("project.py")
    monkeypatch.setattr(project_template, "TEMPLATES", tmp_path / "templates")
    monkeypatch.setattr(project_template, "DOTTED", {"zz": "z" * 300})
    with pytest.raises(Unavailable, match="cannot be written"):
        write_project(tmp_path / "new" / "streaming", "long")
    assert not (tmp_path / "new").exists()
