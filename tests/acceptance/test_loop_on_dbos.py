"""Durable work: killed within a step it goes on with that step, done once per id, in JSON, one process at a time."""

import signal
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ecluse.adapters.durable_dbos import FILE, DurableRunner
from ecluse.core.errors import Conflict, Unavailable

ROOT = Path(__file__).resolve().parents[2]


def _process(home: Path, fault: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "tests.acceptance.durable_process", str(home), fault]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


def _steps(home: Path) -> list[str]:
    return (home / "steps.txt").read_text().split("\n")[:-1]


def test_a_killed_work_goes_on_where_it_was(tmp_path: Path) -> None:
    killed = _process(tmp_path, "kill")
    assert killed.returncode == -signal.SIGKILL
    assert _steps(tmp_path) == ["first", "second begins"]

    resumed = _process(tmp_path, "none")
    assert (resumed.returncode, resumed.stdout, resumed.stderr) == (0, "50\n", "")
    assert _steps(tmp_path) == ["first", "second begins", "second begins", "second", "third"]

    again = _process(tmp_path, "none")
    assert again.stdout == "50\n"
    assert len(_steps(tmp_path)) == 5, "done once: the answer is remembered"


def test_what_failed_is_tried_anew(tmp_path: Path) -> None:
    failed = _process(tmp_path, "raise")
    assert failed.returncode == 1
    assert "the store is gone" in failed.stderr
    assert _process(tmp_path, "none").stdout == "50\n"


def test_nothing_is_pickled_and_the_file_is_private(tmp_path: Path) -> None:
    _process(tmp_path, "none")
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    connection = sqlite3.connect(tmp_path / FILE)
    kinds = connection.execute("SELECT DISTINCT serialization FROM operation_outputs").fetchall()
    kinds += connection.execute("SELECT DISTINCT serialization FROM workflow_status").fetchall()
    connection.close()
    assert set(kinds) == {("portable_json",)}


def test_one_loop_at_a_time(tmp_path: Path) -> None:
    works: dict[str, Any] = {"none": lambda step: None}
    with DurableRunner.launch(tmp_path, works):
        second = _process(tmp_path, "none")
        assert "another process runs the loop" in second.stderr
        with pytest.raises(Conflict), DurableRunner.launch(tmp_path, works):
            pass
    with DurableRunner.launch(tmp_path, works) as durable:
        assert durable.run("a", "none") is None


def test_errors_keep_their_class(tmp_path: Path) -> None:
    def work(step: Any) -> None:
        step("only", lambda: (_ for _ in ()).throw(Unavailable("gone", where="there", cure="wait")))

    with DurableRunner.launch(tmp_path, {"fails": work}) as durable, pytest.raises(Unavailable, match="gone"):
        durable.run("a", "fails")


def test_an_attempt_does_not_ask_about_all_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dbos import DBOS

    asked: list[str] = []
    status = DBOS.get_workflow_status

    def noted(name: str) -> Any:
        asked.append(name)
        return status(name)

    monkeypatch.setattr(DBOS, "get_workflow_status", noted)

    def work(step: Any) -> str:
        if len(asked) < 10:
            raise Unavailable("gone")
        return "done"

    with DurableRunner.launch(tmp_path, {"fails": work}) as durable:
        for _ in range(5):
            with pytest.raises(Unavailable):
                durable.run("a", "fails")
        assert asked == ["a", "a", "a.2", "a.2", "a.3", "a.3", "a.4", "a.4", "a.5"]
        assert durable.run("a", "fails") == "done"
        assert durable.run("a", "fails") == "done"
    assert asked[9:] == ["a.5", "a.6", "a.6"]


def test_a_damaged_database_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"this is no database at all" * 100)
    with pytest.raises(Unavailable, match="loop's database"), DurableRunner.launch(tmp_path, {}):
        pass
