"""The supervisor of `ecluse up` with small parts: one log, one at a time, started anew, stopped with all they started."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ecluse.core.errors import Conflict

STAYS = "import pathlib, sys, time; pathlib.Path(sys.argv[1]).open('a').write(f'{__import__(\"os\").getpid()}\\n'); time.sleep(600)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {STAYS}"
PARENT = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {STAYS!r}, sys.argv[1]]).wait()"


def _part(code: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", code, *arguments]


@contextmanager
def _up(home: Path, parts: dict[str, list[str]], *, patience: float = 20.0) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-m", "ecluse.up", "--home", str(home), "--parts", json.dumps(parts)]
    process = subprocess.Popen([*command, "--patience", str(patience)], stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)


def _pids(path: Path, least: int = 1) -> list[int]:
    _until(lambda: path.exists() and len(path.read_text().split()) >= least)
    return [int(word) for word in path.read_text().split()]


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not (status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_what_it_started_and_what_that_started(tmp_path: Path, number: int) -> None:
    with _up(tmp_path, {"one": _part(STAYS, f"{tmp_path}/a"), "two": _part(PARENT, f"{tmp_path}/b")}) as process:
        pids = [*_pids(tmp_path / "a"), *_pids(tmp_path / "b")]
        process.send_signal(number)
        _, log = process.communicate(timeout=20)
    assert process.returncode == 0
    events = [json.loads(line) for line in log.splitlines()]
    assert [each["event"] for each in events] == ["up", "down"]
    _until(lambda: not any(map(_alive, pids)))


def test_a_part_that_does_not_listen_is_killed_in_the_end(tmp_path: Path) -> None:
    with _up(tmp_path, {"one": _part(STUBBORN, f"{tmp_path}/a")}, patience=0.5) as process:
        [pid] = _pids(tmp_path / "a")
        process.terminate()
        _, log = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "part did not end well" in log
    assert not _alive(pid)


def test_a_part_that_dies_is_started_anew(tmp_path: Path) -> None:
    with _up(tmp_path, {"one": _part(STAYS, f"{tmp_path}/a")}) as process:
        for lives in (1, 2, 3):
            os.kill(_pids(tmp_path / "a", lives)[-1], signal.SIGKILL)
        _pids(tmp_path / "a", 4)
        process.terminate()
        _, log = process.communicate(timeout=20)
    died = [each for each in map(json.loads, log.splitlines()) if each["event"] == "part died"]
    assert [each["again_in"] for each in died] == [0.1, 0.2, 0.4]
    assert {each["code"] for each in died} == {-signal.SIGKILL}


def test_a_part_that_cannot_start_ends_all(tmp_path: Path) -> None:
    with _up(tmp_path, {"good": _part(STAYS, f"{tmp_path}/a"), "bad": _part("raise SystemExit(5)")}) as process:
        _, log = process.communicate(timeout=20)
    assert process.returncode == Conflict.exit_code
    assert '"part cannot start", "part": "bad", "code": 5' in log


def test_a_second_one_is_refused(tmp_path: Path) -> None:
    with _up(tmp_path, {"one": _part(STAYS, f"{tmp_path}/a")}) as first:
        _pids(tmp_path / "a")
        with _up(tmp_path, {"one": _part(STAYS, f"{tmp_path}/b")}) as second:
            _, said = second.communicate(timeout=20)
        assert second.returncode == Conflict.exit_code
        assert "running already" in said
        assert str(first.pid) in said
        assert not (tmp_path / "b").exists()
        first.terminate()
        first.communicate(timeout=20)


@pytest.mark.skipif(sys.platform != "linux", reason="the system ends children of a killed process on Linux")
def test_killed_it_leaves_nothing_behind(tmp_path: Path) -> None:
    with _up(tmp_path, {"one": _part(STAYS, f"{tmp_path}/a")}) as process:
        [pid] = _pids(tmp_path / "a")
        process.kill()
        _until(lambda: not _alive(pid))


def test_what_is_not_there_or_not_json_is_said(tmp_path: Path) -> None:
    with _up(tmp_path / "absent", {}) as process:
        _, said = process.communicate(timeout=20)
    assert (process.returncode, "no state" in said) == (4, True)
    command = [sys.executable, "-m", "ecluse.up", "--home", str(tmp_path), "--parts", "{"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert (done.returncode, "not JSON" in done.stderr) == (2, True)


def test_it_loads_no_library(tmp_path: Path) -> None:
    code = "import sys, ecluse.up; print([n for n in ('numpy', 'polars', 'typer', 'msgspec') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20)
    assert done.stdout.strip() == "[]"
