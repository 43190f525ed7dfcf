"""Training processes: they wait, they do as ordered, they say why not, and they end with the loop."""

import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ecluse.core.errors import Unavailable
from ecluse.loop.child import Ended, Order, dismiss, give, spawn, wait_for

NOW = datetime(2024, 1, 31, tzinfo=UTC)


def _order(root: Path) -> Order:
    return Order(root, "dev", "churn", NOW, "loop, event 7", dry_run=True)


def test_an_order_is_a_command_line(tmp_path: Path) -> None:
    assert _order(tmp_path).arguments[:3] == ["train", "--project", str(tmp_path)]
    assert _order(tmp_path).arguments[-3:] == ["--as-of", "2024-01-31T00:00:00Z", "--dry-run"]


def test_a_child_that_cannot_train_says_why(tmp_path: Path) -> None:
    child = spawn(tmp_path)
    give(child, _order(tmp_path))
    ended = wait_for(child)
    assert ended.code == 4
    assert "project.py" in ended.why
    dismiss(child)  # again is harmless


def test_a_child_without_an_order_ends_when_the_loop_does(tmp_path: Path) -> None:
    child = spawn(tmp_path)
    assert child.process.stdin is not None
    child.process.stdin.close()
    assert child.process.wait(timeout=60) == 0
    dismiss(child)


def test_a_training_ends_with_the_loop_that_asked_for_it(tmp_path: Path) -> None:
    (tmp_path / "project.py").write_text("import pathlib, time\npathlib.Path('begun').touch()\ntime.sleep(600)\n")
    child = spawn(tmp_path)
    give(child, _order(tmp_path))
    while not (tmp_path / "begun").exists():
        assert child.process.poll() is None
        time.sleep(0.02)
    assert child.process.stdin is not None
    child.process.stdin.close()  # what the system does when the loop is killed
    assert child.process.wait(timeout=60) == 1
    dismiss(child)


def test_what_is_unavailable_is_raised_so_that_it_is_tried_again(tmp_path: Path) -> None:
    (tmp_path / "project.py").write_text("from ecluse.core.errors import Unavailable\nraise Unavailable('gone')\n")
    child = spawn(tmp_path)
    give(child, _order(tmp_path))
    with pytest.raises(Unavailable, match="gone"):
        wait_for(child)


def test_a_child_that_died_without_a_word_is_named_by_its_code() -> None:
    assert Ended(-9, {}, "").why == "the training process ended with code -9"
    assert Ended(1, {}, "KeyError: 'x'").why.endswith(": KeyError: 'x'")
    assert Ended(2, {"error": {"what": "bad", "where": "", "cure": "mend it"}}, "").why == "bad; mend it"


def test_a_child_without_a_folder_cannot_be_started(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        spawn(tmp_path / "absent")


def test_an_order_to_a_dead_child_is_no_error_yet(tmp_path: Path) -> None:
    child = spawn(tmp_path)
    child.process.kill()
    child.process.wait()
    give(child, _order(tmp_path))
    assert wait_for(child).code == -9
    assert isinstance(child.process, subprocess.Popen)


def test_a_training_that_takes_too_long_is_ended_with_all_it_began(tmp_path: Path) -> None:
    hang = "import pathlib, subprocess, time\n"
    hang += "begun = subprocess.Popen(['sleep', '600'])\n"
    hang += "pathlib.Path('new').write_text(str(begun.pid))\npathlib.Path('new').rename('begun')\ntime.sleep(600)\n"
    (tmp_path / "project.py").write_text(hang)
    child = spawn(tmp_path)
    give(child, _order(tmp_path))
    while not (tmp_path / "begun").exists():
        assert child.process.poll() is None
        time.sleep(0.02)
    ended = wait_for(child, timedelta(seconds=0.1))
    assert ended.code == -9
    assert ended.why.endswith("and was ended")
    if Path("/proc/self/task").exists():
        assert not _lives(int((tmp_path / "begun").read_text()))


def _lives(pid: int) -> bool:
    end = time.monotonic() + 5
    while time.monotonic() < end:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] == "Z":
                return False
        except OSError:
            return False
        time.sleep(0.02)
    return True
