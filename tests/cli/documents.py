"""What docs/cli.md and docs/settings.md promise, row by row."""

import re

from tests.conftest import ROOT


def rows(name: str, columns: int) -> list[list[str]]:
    """The cells of every table row with so many columns in a page, without headers and rules."""
    lines = (ROOT / "docs" / name).read_text(encoding="utf-8").splitlines()
    tables = [[cell.strip() for cell in line.strip()[1:-1].split("|")] for line in lines if line.startswith("| `")]
    return [row for row in tables if len(row) == columns]


def commands() -> dict[str, str]:
    """Every documented command with the cell that names its JSON keys. `loop run` is one command."""
    out = {}
    for usage, _does, _refuses, answer in rows("cli.md", 4):
        words = usage.strip("`").split()
        name = [word for word in words[:2] if re.fullmatch("[a-z]+", word)]
        out[" ".join(name)] = answer
    return out


def keys(command: str) -> set[str] | None:
    """The keys promised for a command's JSON; None where it is a list."""
    cell = commands()[command].split(";")[0]
    return None if cell.startswith("list of") else set(re.findall(r"`(\w+)`", cell))


def settings() -> dict[str, tuple[str, str]]:
    """Every documented settings key with its default and meaning."""
    return {row[0].strip("`"): (row[1], row[2]) for row in rows("settings.md", 3)}
