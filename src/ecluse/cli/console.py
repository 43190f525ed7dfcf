"""The terminal: what every command shares. The only importer of typer and rich.

A command is a function from a :class:`Shell` and its options to a :class:`Reply`; ``--project``, ``--profile`` and ``--json`` are added
to each. A reply is data for machines and lines for people; an error becomes one sentence and an exit code that means something.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import json
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ecluse.app import App, open_app
from ecluse.core.codec import to_plain
from ecluse.core.errors import EcluseError, InvalidInput
from ecluse.core.event import check_line
from ecluse.core.verdict import Outcome, Verdict

Option = typer.Option
Argument = typer.Argument

REFUSED = 3
CODES = (
    "Exit codes: 0 done, 1 a bug, 2 wrong usage, declaration or input, 3 a verdict says no, 4 not found, "
    "5 conflict or not allowed, 6 unavailable, 7 corrupt."
)


@dataclasses.dataclass(frozen=True)
class Reply:
    """What a command answers: ``data`` (printed with --json), ``text`` for people, and whether a verdict said no."""

    data: object
    text: str = ""
    refused: bool = False


@dataclasses.dataclass(frozen=True)
class Shell:
    """Where a command runs: the project's folder and profile, and how to tell progress."""

    path: Path
    profile: str | None
    machine: bool

    @functools.cached_property
    def app(self) -> App:
        """The project's App. Raises NotFound, DeclarationError."""
        app = open_app(self.path, profile=self.profile)
        set_logging(app.settings.log.level)
        return app

    def model(self, name: str | None) -> str:
        """The model meant: the named one, or the only one; from the remembered declaration, so that no user code runs."""
        return self.app.declared.model(name).name

    def say(self, sentence: str) -> None:
        """Progress for people, on stderr."""
        if not self.machine:
            print(printable(sentence), file=sys.stderr, flush=True)


Command = Callable[..., Reply]


# An answer for "--help" that is a plain bool already: typer would load pydantic (0.2 s) to turn "not given" into one.
_NO_HELP_WANTED: dict[Any, Any] = {"default_map": {"help": False}}


class Group:
    """A set of commands under one help page."""

    def __init__(self, about: str) -> None:
        self.typer = typer.Typer(
            help=about,
            no_args_is_help=True,
            add_completion=False,
            pretty_exceptions_enable=False,
            rich_markup_mode=None,  # plain help pages: drawing boxes costs 0.12 s
            context_settings=_NO_HELP_WANTED,
        )

    def add(self, function: Command, name: str | None = None) -> None:
        """Register a command whose first parameter is a Shell."""
        _add(self.typer, function, name)

    def nest(self, name: str, about: str) -> Group:
        """A group of commands under a name."""
        inner = Group(about)
        self.typer.add_typer(inner.typer, name=name)
        return inner


def run_group(group: Group) -> None:
    """Run the command line; never returns."""
    group.typer()


def _add(group: typer.Typer, function: Command, name: str | None) -> None:
    signature = inspect.signature(function)
    own = list(signature.parameters.values())[1:]
    shared = [
        inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
        for key, (kind, default) in _SHARED.items()
    ]

    def run(**values: Any) -> None:
        shell = Shell(values.pop("project"), values.pop("profile"), values.pop("json_"))
        sys.exit(_answer(shell, lambda: _call(function, shell, values)))

    hints = inspect.get_annotations(function, eval_str=True)
    typed = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[p.name]) for p in own]
    run.__signature__ = inspect.Signature(typed + shared)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in typed + shared}
    run.__doc__ = function.__doc__
    group.command(name or function.__name__.rstrip("_").replace("_", "-"), epilog=CODES)(run)


def _call(function: Command, shell: Shell, values: dict[str, Any]) -> Reply:
    if not str(values.get("why", "given")).strip():
        raise InvalidInput("--why is empty", cure="give the reason: it stands in the ledger")
    for key in ("why", "override"):
        check_line(str(values.get(key, "")), f"--{key}")
    return function(shell, **values)


_SHARED: dict[str, tuple[Any, Any]] = {
    "project": (Annotated[Path, Option("--project", "-C", help="the project's folder")], Path()),
    "profile": (Annotated[str | None, Option("--profile", help="dev, staging or prod")], None),
    "json_": (Annotated[bool, Option("--json", help="one JSON document on stdout")], False),
}


def _answer(shell: Shell, call: Callable[[], Reply]) -> int:
    try:
        with contextlib.redirect_stdout(sys.stderr) if shell.machine else contextlib.nullcontext():
            reply = call()  # what a project or a library prints must not stand beside the one JSON document
        text = json.dumps(to_plain(reply.data), indent=2, ensure_ascii=False) if shell.machine else reply.text
    except EcluseError as error:
        return _report(shell, error)
    except KeyboardInterrupt:
        return 130
    except Exception as bug:  # noqa: BLE001 - whatever it is, people get one sentence and the log gets the traceback
        return _report_bug(shell, bug)
    if text:
        _print_answer(text)
    return REFUSED if reply.refused else 0


def _print_answer(text: str) -> None:
    try:
        print("\n".join(map(printable, text.split("\n"))), flush=True)
    except BrokenPipeError:  # the reader left, as `head` does; nor may the interpreter fail at its last flush
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _report(shell: Shell, error: EcluseError) -> int:
    _print_error(shell, type(error).__name__, error.what, error.where, error.cure)
    return error.exit_code


def _report_bug(shell: Shell, bug: Exception) -> int:
    logging.getLogger("ecluse.cli").debug("a bug", exc_info=bug)
    last = traceback.extract_tb(bug.__traceback__)[-1]
    name = type(bug).__name__
    cure = "this is a bug: run it again with ECLUSE_LOG__LEVEL=debug for the traceback, and report it"
    _print_error(shell, name, f"{name}: {bug}" if str(bug) else name, f"{last.filename}:{last.lineno}", cure)
    return 1


def _print_error(shell: Shell, kind: str, what: str, where: str, cure: str) -> None:
    if shell.machine:
        print(json.dumps({"error": {"kind": kind, "what": what, "where": where, "cure": cure}}, indent=2))
        return
    lines = [f"error: {what}"] + ([f"  where: {where}"] if where else []) + ([f"  do:    {cure}"] if cure else [])
    for line in lines:  # a line within one of them shows as such
        print("\n  | ".join(map(printable, line.split("\n"))), file=sys.stderr)


def set_logging(level: str) -> None:
    """Structured log lines (JSON, one per record) on stderr at a level; what is none counts as "warning" until the settings refuse it."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines())
    logger = logging.getLogger("ecluse")
    logger.handlers[:] = [handler]
    logger.setLevel(level.upper() if level in ("debug", "info", "warning", "error") else "WARNING")


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        extra = dict(getattr(record, "facts", {}))
        if record.exc_info:
            extra["traceback"] = self.formatException(record.exc_info)
        return json.dumps(
            {"level": record.levelname.lower(), "room": record.name, "message": record.getMessage(), **extra}
        )


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = "") -> str:
    """A table people like to read: aligned, numbers to the right.

    >>> print(table(["name", "rows"], [["users", 7043]]))
    name   rows
    users  7043
    """
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(len(c), *(len(row[i]) for row in cells)) if cells else len(c) for i, c in enumerate(columns)]
    right = [bool(cells) and all(_numeric(row[i]) for row in cells) for i in range(len(columns))]
    lines = [_line(columns, widths, right)] + [_line(row, widths, right) for row in cells]
    return "\n".join(([title, ""] if title else []) + lines)


def printable(text: str) -> str:
    r"""The text with what would not show as itself (control characters, line ends, marks of direction) as JSON escapes: what somebody else
    wrote neither steers a terminal nor passes for a line of ours.

    >>> print(printable("why\n7  ana\x1b[2J"))
    why\n7  ana\u001b[2J
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() or each in _BLANKS else json.dumps(each)[1:-1] for each in text)


_BLANKS = "\u00a0\u202f\u3000"
"""Spaces of other writings and of numbers, harmless."""


def _line(row: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    padded = (text.rjust(w) if r else text.ljust(w) for text, w, r in zip(row, widths, right, strict=True))
    return "  ".join(padded).rstrip()


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else printable(str(value))


def _numeric(text: str) -> bool:
    return (
        text == "-"
        or text.lstrip("-").replace(".", "", 1).replace("e", "", 1).replace("+", "").replace("-", "").isdigit()
    )


MARKS = {Outcome.PASSED: "ok", Outcome.FAILED: "NO", Outcome.INCONCLUSIVE: "??"}


def verdict_table(verdict: Verdict) -> str:
    """One line per finding: mark, check, subject, sentence."""
    rows = [(MARKS[f.outcome], f.check, f.subject or "", f.why) for f in verdict.findings]
    return table(["", "check", "subject", "finding"], rows, title=verdict.question)
