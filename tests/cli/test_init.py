"""`ecluse init` to the first training: a repository that stays clean, tests that pass, a lock by hash, mistakes that are told."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.terminal import Said, ecluse, ingest_all, small_project


def _git(folder: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Said]:
    folder = tmp_path_factory.mktemp("init") / "streaming"
    return folder, ecluse("init", folder, "--json")


def test_it_says_what_it_wrote(made: tuple[Path, Said]) -> None:
    folder, said = made
    assert said.code == 0, said
    assert set(said.json) == {"folder", "files", "notes"}
    assert all(Path(name).is_file() for name in said.json["files"])
    assert {"project.py", "ecluse.toml", "requirements.lock", ".gitignore", ".env.example", "README.md"} <= {
        path.name for path in folder.iterdir()
    }


@pytest.mark.skipif(shutil.which("git") is None, reason="no Git on this machine")
def test_main_and_dev_are_there_and_nothing_is_left_uncommitted(made: tuple[Path, Said]) -> None:
    folder = made[0]
    assert _git(folder, "branch", "--format=%(refname:short)").split() == ["dev", "main"]
    assert _git(folder, "status", "--porcelain") == ""


def test_the_sealing_key_is_made_for_dev_and_for_the_owner_alone(made: tuple[Path, Said]) -> None:
    key = made[0] / ".ecluse/dev/keys/sealing.key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert key.parent.stat().st_mode & 0o777 == 0o700
    assert not (made[0] / ".ecluse/prod").exists()


def test_the_lock_is_by_hash_and_names_no_address(made: tuple[Path, Said]) -> None:
    text = (made[0] / "requirements.lock").read_text(encoding="utf-8")
    pins = [line for line in text.replace("\\\n", " ").splitlines() if "==" in line and not line.startswith("#")]
    assert len(pins) > 20
    assert all("--hash=sha256:" in pin for pin in pins)
    assert not re.search(r"://|index-url|find-links|trusted-host", text)


@pytest.mark.slow
def test_its_own_tests_pass(made: tuple[Path, Said]) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=made[0], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


@pytest.mark.skipif(shutil.which("git") is None, reason="no Git on this machine")
def test_data_training_and_state_stay_out_of_git(tmp_path: Path) -> None:
    folder = small_project(tmp_path / "streaming")
    ingest_all(folder)
    assert ecluse("train", "--no-plots", project=folder).code == 0
    assert ecluse("score", "--version", 1, "--out", folder / "data" / "scores.csv", project=folder).code == 0
    assert _git(folder, "status", "--porcelain", "--untracked-files=all") == "M ecluse.toml"


@pytest.mark.parametrize(
    ("words", "code", "what"),
    [
        (("taken",), 5, "not an empty folder"),
        (("new", "--template", "chrun"), 4, "template 'chrun'"),
        (("a b",), 2, "no name"),
        (("file/below",), 6, "cannot be written"),
    ],
)
def test_wrong_input_is_told_and_leaves_nothing(
    words: tuple[str, ...], code: int, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    said = ecluse("init", *words, "--json")
    assert (said.code, what in said.error["what"]) == (code, True), said
    assert said.error["cure"]
    assert sorted(tmp_path.rglob("*")) == before


def test_a_mistake_in_the_settings_names_file_key_and_cure(tmp_path: Path) -> None:
    folder = tmp_path / "streaming"
    assert ecluse("init", folder).code == 0
    text = (folder / "ecluse.toml").read_text(encoding="utf-8")
    (folder / "ecluse.toml").write_text(text.replace("[gates]", "[gate]", 1), encoding="utf-8")
    said = ecluse("status", "--json", project=folder)
    assert said.code == 2
    assert said.error == {
        "kind": "DeclarationError", "what": "unknown key `gate`", "where": "ecluse.toml", "cure": "did you mean `gates`?",
    }  # fmt: skip
