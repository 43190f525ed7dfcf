"""docs/cli.md and docs/settings.md name every command and every setting, with the defaults and exit codes there are."""

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.cli import documents
from tests.conftest import ROOT
from typer.main import get_command

from ecluse.cli.console import REFUSED
from ecluse.cli.main import app
from ecluse.core import errors
from ecluse.core.codec import to_plain
from ecluse.core.settings import RESERVED_ENVIRONMENT, Settings


def _commands(command: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    inner = getattr(command, "commands", None)
    if inner is None:
        yield name, command
        return
    for word, each in inner.items():
        yield from _commands(each, f"{name} {word}".strip())


COMMANDS = dict(_commands(get_command(app.typer)))


def test_every_command_is_documented_and_nothing_else() -> None:
    assert set(documents.commands()) == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str) -> None:
    command = COMMANDS[name]
    assert command.help
    assert {"--project", "--profile", "--json"} <= {flag for each in command.params for flag in each.opts}
    assert [each.name for each in command.params if not each.help and each.name != "help"] == []


def test_every_exit_code_is_documented() -> None:
    table = {
        cells[0].strip(): cells[-1]
        for line in (ROOT / "docs/cli.md").read_text().splitlines()
        if (cells := line.strip("|").split("|"))
    }
    for kind in errors.EcluseError.__subclasses__():
        if kind.__module__ != errors.__name__:
            continue  # a room's own, met only when another test has imported it
        assert kind.__name__ in table[str(kind.exit_code)]
    assert "Verdict" in table[str(REFUSED)]


def _defaults(table: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    for each in dataclasses.fields(table):
        value = getattr(table, each.name)
        if dataclasses.is_dataclass(value):
            yield from _defaults(value, f"{path}{each.name}.")
        else:
            yield f"{path}{each.name}", to_plain(value)


def test_every_setting_is_documented_with_its_default() -> None:
    told = {key: default.strip("`") for key, (default, _) in documents.settings().items()}
    there = {key: "None" if value is None else json.dumps(value) for key, value in _defaults(Settings())}
    assert told == there | {"project": "the folder's name"}


def test_every_setting_says_what_it_means_and_reserved_names_are_told() -> None:
    assert [key for key, (_, meaning) in documents.settings().items() if len(meaning) < 10] == []
    text = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert [name for name in RESERVED_ENVIRONMENT if f"`{name}`" not in text] == []
