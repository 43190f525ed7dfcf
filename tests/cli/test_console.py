"""What all commands share: bugs without tracebacks, log levels from the profile, one document on stdout."""

import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.cli.terminal import Said, ecluse
from typer.testing import CliRunner

from ecluse.app import open_app
from ecluse.cli.console import Group, Reply, Shell, set_logging
from ecluse.core.event import Event
from ecluse.loop.pause import pause

PROJECT = """
from ecluse import Category, Entity, FeatureView, Label, Table, last, model
{extra}
user = Entity("user_id")
users = Table("users", key=user, event_time="as_of", columns={{"plan": Category(["a", "b"])}})
labels = Table("labels", key=user, event_time="as_of", columns={{"left": Category(["no", "yes"])}})
view = FeatureView("profile", users, {{"plan": last("plan")}})


@model("left", predicts=Label("left", labels, column="left", horizon="1d"), features=[view])
def left():
    raise NotImplementedError
"""


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    logger = logging.getLogger("ecluse")
    before = logger.handlers[:], logger.level
    yield
    logger.handlers[:], level = before
    logger.setLevel(level)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "project.py").write_text(PROJECT.format(extra="print('loaded')"))
    (tmp_path / "ecluse.toml").write_text('project = "p"\n[prod.log]\nlevel = "error"\n')
    return tmp_path


def _group(**commands: Any) -> Group:
    group = Group("a group for a test")
    for name, command in commands.items():
        group.add(command, name)
    group.add(lambda shell: Reply([], "another"), "other")
    return group


def _run(group: Group, *words: str) -> Said:
    result = CliRunner().invoke(group.typer, list(words))
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return Said(result.exit_code, result.stdout, result.stderr)


def _broken(shell: Shell) -> Reply:
    """A command with a bug."""
    colours: dict[str, str] = {}
    return Reply(colours["colour"])


def test_a_bug_is_one_sentence_its_place_and_exit_1() -> None:
    said = _run(_group(broken=_broken), "broken")
    assert (said.code, said.out) == (1, "")
    assert "error: KeyError: 'colour'" in said.err
    assert "test_console.py:" in said.err
    assert "ECLUSE_LOG__LEVEL=debug" in said.err
    assert "Traceback" not in said.err


def test_a_bug_is_one_json_document_for_machines() -> None:
    said = _run(_group(broken=_broken), "broken", "--json")
    assert said.code == 1
    assert said.error["kind"] == "KeyError"


def test_a_bug_has_its_traceback_in_the_log_at_debug() -> None:
    group = _group(broken=_broken)

    def noisy(shell: Shell) -> Reply:
        set_logging("debug")
        return _broken(shell)

    group.add(noisy, "noisy")
    said = _run(group, "noisy")
    line = json.loads(said.err.splitlines()[0])
    assert (line["level"], line["room"]) == ("debug", "ecluse.cli")
    assert "Traceback" in line["traceback"]
    assert "_broken" in line["traceback"]


@pytest.mark.parametrize(("profile", "level"), [("dev", "INFO"), ("prod", "ERROR")])
def test_the_level_is_the_profiles(profile: str, level: str, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Shell(project, profile, machine=True).app.settings.profile == profile
    assert logging.getLevelName(logging.getLogger("ecluse").level) == level
    monkeypatch.setenv("ECLUSE_LOG__LEVEL", "debug")
    Shell(project, profile, machine=True).app  # noqa: B018 - opening it is the point
    assert logging.getLogger("ecluse").level == logging.DEBUG


FORGED = "read it\n99  2026-11-30 22:00:00  kim  version.promoted  churn  9  approved\x1b[2J\x9b2J\u202e"


def test_what_others_wrote_is_no_row_of_ours_and_steers_no_terminal(project: Path) -> None:
    world = open_app(project).world
    world.state.append(Event("clock.set", datetime(2024, 1, 31, tzinfo=UTC), "ana\n7", reason=FORGED))
    pause(world, reason=FORGED, actor="ana")
    for words in (("history",), ("loop", "status"), ("loop", "pause", "--why", "again")):
        said = ecluse(*words, project=project)
        text = said.out + said.err
        assert not [each for each in text if not each.isprintable() and each != "\n"], words
        assert not re.search("^ *99 ", text, re.MULTILINE), words
    [row] = ecluse("history", "--kind", "clock", "--json", project=project).json["rows"]
    assert row["event"]["reason"] == FORGED  # machines have it as it is


def test_a_reason_is_one_line(project: Path) -> None:
    for why in ("two\nlines", "\x1b[2J", "\x9b2J"):
        said = ecluse("loop", "pause", "--why", why, "--json", project=project)
        assert (said.code, said.error["kind"]) == (2, "InvalidInput")
    assert ecluse("history", "--json", project=project).json["rows"] == []


def test_what_a_project_prints_does_not_stand_beside_the_document(project: Path) -> None:
    (project / "data").mkdir()
    said = ecluse("check", "--from", project / "data", "--as-of", "2024-01-31", "--json", project=project)
    assert "loaded" in said.err
    assert said.json


def test_a_project_that_raises_is_an_error_with_its_line(project: Path) -> None:
    (project / "project.py").write_text(PROJECT.format(extra="1 / 0"))
    said = ecluse("check", "--from", project, "--as-of", "2024-01-31", "--json", project=project)
    assert (said.code, said.error["kind"]) == (2, "DeclarationError")
    assert "project.py:3" in said.error["where"]
    assert "ZeroDivisionError" in said.error["what"]


def _real(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ecluse", *words]
    return subprocess.run(command, cwd=folder, env=os.environ | environment, capture_output=True, text=True, timeout=60)


def test_the_real_command_answers_helps_and_refuses(project: Path) -> None:
    for words, code in (
        (("--help",), 0),
        (("train", "--help"), 0),
        (("loop", "run", "--help"), 0),
        (("nope",), 2),
        (("status",), 4),
    ):
        done = _real(project, *words)
        assert done.returncode == code, (words, done)
        assert "Traceback" not in done.stderr
        assert bool(done.stdout) == (code == 0)


@pytest.mark.parametrize("level", ["loud", "", "3"])
def test_a_level_that_is_none_is_an_error_that_names_it(level: str, project: Path) -> None:
    done = _real(project, "status", "--json", ECLUSE_LOG__LEVEL=level)
    assert done.returncode == 2, done
    assert "level" in json.loads(done.stdout)["error"]["what"]


LONG = """
import sys
sys.argv = ["ecluse"]
from ecluse.cli.console import Group, Reply, run_group
group = Group("long answers")
group.add(lambda shell: Reply([], "line\\n" * 100_000), "long")
group.add(lambda shell: Reply([], "another"), "other")
sys.argv = ["ecluse", "long"]
run_group(group)
"""


def test_a_reader_that_leaves_early_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "long.py").write_text(LONG)
    pipe = f"{sys.executable} long.py | head -n 1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", pipe], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "line\n", "")
