"""A released project to be given bad input: commands run on it, its facts and files."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.projects.small_data import PROJECT, write_month
from tests.serving.house import environment

from ecluse.adapters.database.sqlite import SqliteState
from ecluse.cli.main import app
from ecluse.core.event import broken_at

LOGINS = """
from ecluse import Instant

logins = Table("logins", key=person, event_time="at", columns={"at": Instant(), "device": Category(["tv", "phone"])})
"""


@dataclass(frozen=True)
class Said:
    """How a command ended, and the one JSON document it printed."""

    code: int
    answer: Any
    errors: str

    def says(self, *parts: str) -> None:
        """An error of ours: what, and a cure; ``parts`` are somewhere in it."""
        error = self.answer["error"]
        assert error["what"]
        assert error["cure"]
        text = json.dumps(error, ensure_ascii=False)
        assert not [part for part in parts if part not in text], text


@dataclass(frozen=True)
class Place:
    """A project folder, and what it holds."""

    root: Path

    @property
    def home(self) -> Path:
        return self.root / ".ecluse" / "dev"

    @property
    def month(self) -> Path:
        """The second month's files, not ingested."""
        return self.root / "in" / "2024-02-29"

    def run(self, *arguments: str, **variables: str) -> Said:
        command = [sys.executable, "-m", "ecluse", *arguments, "--project", str(self.root), "--json"]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=60, env={**environment(), **variables}, check=False
        )
        assert "Traceback" not in done.stderr + done.stdout, done.stderr
        answer = json.loads(done.stdout) if done.stdout.startswith(("{", "[")) else None
        return Said(done.returncode, answer, done.stderr)

    def quick(self, *arguments: str) -> Said:
        """The same in this process, for long tables of cases; the code between the command line and the answer is the same."""
        out, errors, log = io.StringIO(), io.StringIO(), logging.getLogger("ecluse")
        before = log.handlers[:], log.level
        with redirect_stdout(out), redirect_stderr(errors), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pytest.raises(SystemExit) as ended:
                app.typer([*arguments, "--project", str(self.root), "--json"])
        log.handlers[:], log.level = before
        assert "Traceback" not in out.getvalue() + errors.getvalue()
        assert isinstance(ended.value.code, int)
        return Said(ended.value.code, json.loads(out.getvalue()), errors.getvalue())

    def ingest(self) -> Said:
        return self.quick("ingest", "--from", str(self.month), "--as-of", "2024-02-29")

    def facts(self) -> list[str]:
        """The kinds of all facts, oldest first; the chain must be whole."""
        rows = list(SqliteState(self.home / "state.db").ledger())
        assert broken_at(rows) is None
        return [row.event.kind for row in rows]

    def holds(self) -> dict[str, bytes]:
        """Every file that says something; not SQLite's, locks and caches."""
        return {
            str(path.relative_to(self.home)): path.read_bytes()
            for path in self.home.rglob("*")
            if path.is_file() and ".db" not in path.name and path.suffix != ".lock" and "cache" not in path.parts
        }

    def add(self, code: str) -> None:
        with (self.root / "project.py").open("a") as file:
            file.write(code)


@contextlib.contextmanager
def unchanged(place: Place, *new: str) -> Iterator[None]:
    """Within, files stay what they are, and the ledger grows by facts of the kinds ``new`` only."""
    facts, files = place.facts(), place.holds()
    yield
    assert place.facts() == [*facts, *new]
    assert place.holds() == files


def release(folder: Path) -> Path:
    """The small project with one month, version 1 of ``left`` in Production and version 2 in Staging."""
    root = folder / "small"
    shutil.copytree(PROJECT, root, ignore=shutil.ignore_patterns("__pycache__"))
    place = Place(root)
    place.add(LOGINS)
    settings = (root / "ecluse.toml").read_text()  # so few rows decide nothing between two versions
    (root / "ecluse.toml").write_text(settings.replace("[gates]", "[gates]\nnon_regression = { may_lose = 0.5 }"))
    for seed, as_of in enumerate((datetime(2024, 1, 31, tzinfo=UTC), datetime(2024, 2, 29, tzinfo=UTC))):
        folder = write_month(root / "in", as_of, people=240, seed=seed)
        stamps = [f"{as_of:%Y-%m}-01" + (f"T0{i % 10}:00:00Z" if i % 10 else "") for i in range(240)]
        frame = pl.DataFrame({"person": [f"p{i:04}" for i in range(240)], "at": stamps, "device": ["tv"] * 240})
        frame.write_csv(folder / "logins.csv")
    assert place.quick("ingest", "--from", str(root / "in" / "2024-01-31"), "--as-of", "2024-01-31").code == 0
    assert place.quick("train", "--model", "left", "--no-plots").code == 0
    assert place.quick("gate", "1", "--model", "left").code == 0
    assert place.quick("promote", "1", "--model", "left", "--why", "first").code == 0
    assert place.quick("train", "--model", "left", "--set", "trees=30", "--no-plots").code == 0
    assert place.quick("gate", "2", "--model", "left").code == 0
    return root
