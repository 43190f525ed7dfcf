"""The command line within this process, and a small churn project to run it in."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from ecluse.adapters.project_template import write_project
from ecluse.cli.main import app

MONTHS = {"01": "31", "02": "29", "03": "31", "04": "30", "05": "31"}
# What 600 subscribers can keep; the mirror has tests of its own.
SMALL = {
    "rows = 1000": "rows = 500",
    "positives = 100": "positives = 50",
    "max_gap = 0.12": "max_gap = 0.5",
    "may_lose = 0.02": "may_lose = 0.4",
    "roc_auc = 0.60": "roc_auc = 0.30",
    "[training]\n": "[mlflow]\nenabled = false\n\n[training]\n",
}


@dataclass(frozen=True)
class Said:
    """What a command answered."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one document on stdout; anything beside it fails."""
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, str]:
        """The error of a --json answer."""
        return dict(self.json["error"])


def ecluse(*arguments: object, project: Path | None = None) -> Said:
    """Run the command line as `ecluse ARGUMENTS -C PROJECT` would; a traceback that escapes fails the test."""
    words = [str(each) for each in arguments] + (["-C", str(project)] if project else [])
    result = CliRunner().invoke(app.typer, words)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert "Traceback" not in result.stderr, result.stderr
    return Said(result.exit_code, result.stdout, result.stderr)


def small_project(folder: Path) -> Path:
    """A churn project with five months of 600 subscribers in ``data/``, its settings made fit for so few; nothing ingested."""
    write_project(folder)
    settings = folder / "ecluse.toml"
    text = settings.read_text(encoding="utf-8")
    for before, after in SMALL.items():
        assert before in text, before
        text = text.replace(before, after)
    settings.write_text(text, encoding="utf-8")
    generate(folder, "--months", str(len(MONTHS)), "--subscribers", "600")
    return folder


def generate(folder: Path, *arguments: str) -> None:
    """Run the project's own generator."""
    command = [sys.executable, "generate.py", *arguments]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=60)


def ingest_all(folder: Path, months: Sequence[str] = tuple(MONTHS)) -> None:
    """Ingest months of 2024, as of their last days."""
    for month in months:
        said = ecluse(
            "ingest",
            "--from",
            folder / f"data/2024-{month}",
            "--as-of",
            f"2024-{month}-{MONTHS[month]}",
            project=folder,
        )
        assert said.code == 0, said
