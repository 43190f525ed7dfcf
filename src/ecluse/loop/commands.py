"""Commands: what the loop decided to do about an event. Frozen values, kept in the ledger as plain JSON."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, get_args

from ecluse.core.codec import from_plain, tagged, to_plain


@tagged
@dataclass(frozen=True)
class Retrain:
    """Train the model on what is known now; ``cause`` is the number of the event that asked for it."""

    model: str
    cause: int
    reason: str


@tagged
@dataclass(frozen=True)
class Gate:
    """Make a run a version (it stays the one it is) and judge it."""

    model: str
    run: str
    reason: str


@tagged
@dataclass(frozen=True)
class Promote:
    """Put a version into Production."""

    model: str
    version: int
    cause: int
    reason: str


@tagged
@dataclass(frozen=True)
class Wait:
    """Nothing now: for a person or for labels, ``until`` when it is known."""

    reason: str
    until: datetime | None = None


@tagged
@dataclass(frozen=True)
class Nothing:
    """Nothing at all, and why."""

    reason: str


@tagged
@dataclass(frozen=True)
class Suppress:
    """A trigger leads to no retraining now: ``why`` names the rule, ``until`` when it ends; ``again``: the cause is looked at again then,
    without an ``until`` when the retraining under way has ended.
    """

    model: str
    reason: str
    why: str
    trigger: str
    until: datetime | None = None
    again: bool = False


@tagged
@dataclass(frozen=True)
class Alert:
    """Call a person."""

    model: str
    reason: str


Command = Retrain | Gate | Promote | Wait | Nothing | Suppress | Alert


def command_to_plain(command: Command) -> dict[str, Any]:
    """JSON values with the command's name under ``kind``.

    >>> command_to_plain(Nothing("refused: floor"))
    {'kind': 'Nothing', 'reason': 'refused: floor'}
    """
    plain: dict[str, Any] = to_plain(command)
    return plain


def command_from_plain(value: dict[str, Any]) -> Command:
    """The inverse of :func:`command_to_plain`. Raises DeclarationError.

    >>> command_from_plain({"kind": "Nothing", "reason": "refused: floor"})
    Nothing(reason='refused: floor')
    """
    named = {each.__name__: each for each in get_args(Command)}
    command: Command = from_plain(named[value["kind"]], value, where="loop.decided")
    return command
