"""Asking for a retraining: by a person, from outside with a signature, or by the clock and the data. Each asking is a fact; the loop decides."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from ecluse.core.errors import InvalidInput, NotAllowed, NotFound
from ecluse.core.event import Event, LedgerRow, check_line
from ecluse.core.loop_settings import LEAST_SECRET, TRIGGERS
from ecluse.core.ports import World
from ecluse.core.settings import Settings
from ecluse.loop.publish import known_models
from ecluse.loop.story import story_so_far
from ecluse.loop.triggers import Due, Story, due

SECRET = "ECLUSE_TRIGGER_SECRET"  # noqa: S105 - its name
"""The variable with the key of outside events."""
MOST_BYTES = 16_384


def ask(world: World, model: str, wanted: Due, *, actor: str, source: str = "") -> LedgerRow:
    """Ask for a retraining of a model. Raises NotFound for no such model, InvalidInput for no such trigger."""
    if wanted.trigger not in (*TRIGGERS, "retry"):
        raise InvalidInput(f"no trigger is called {wanted.trigger!r}", cure="choose among " + ", ".join(TRIGGERS))
    if model not in (known := known_models(world)):
        raise NotFound(f"model {model!r}", cure="models: " + (", ".join(known) or "none yet"))
    facts: dict[str, Any] = {"trigger": wanted.trigger}
    facts |= {"key": wanted.key} if wanted.key else {}
    facts |= {"deferred": wanted.deferred} if wanted.deferred else {}
    facts |= {"source": source} if source else {}
    now = world.clock.now()
    return world.state.append(Event("trigger.raised", now, actor, model, wanted.version, wanted.reason, facts))


def outside(
    world: World, settings: Settings, payload: bytes, signature: str, *, secret: str | None = None
) -> LedgerRow:
    """An event of another system: ``{"id": …, "model": …, "why": …}`` as JSON bytes with ``signature`` = ``sha256=`` and the hex HMAC-SHA-256 of
    exactly these bytes under ``ECLUSE_TRIGGER_SECRET`` (or ``secret``). The same id again is the same event: the row there is returned.

    Raises NotAllowed (no secret of 32 characters, or the signature is not of these bytes), InvalidInput (not such an object), NotFound (model).
    A refused signature is told to the caller and not to the ledger: nobody unknown may make it grow.
    """
    check_signed(payload, signature, "outside event", secret)
    told = _read(payload)
    model, wanted = told["model"], Due("outside", f"outside/{told['id']}", told["why"])
    if (first := story_so_far(world).of(model).keys.get(wanted.key)) is not None:
        return next(iter(world.state.ledger(model=model, after=first - 1)))
    return ask(world, model, wanted, actor="outside", source=told.get("source", ""))


def check_signed(payload: bytes, signature: str, what: str, secret: str | None = None) -> None:
    """Raises NotAllowed unless a secret worth the name is set and the signature is of these bytes under it, InvalidInput for too many of them."""
    chosen = os.environ.get(SECRET, "") if secret is None else secret
    if len(chosen) < LEAST_SECRET:
        raise NotAllowed(
            f"no {what} is accepted" + (": the secret is too short" if chosen else ""),
            where=SECRET,
            cure=f"set a secret of at least {LEAST_SECRET} characters",
        )
    if len(payload) > MOST_BYTES:
        raise InvalidInput(f"a message of {len(payload)} bytes", where=what, cure=f"send at most {MOST_BYTES}")
    if not hmac.compare_digest(sign(payload, chosen).encode(), signature.encode(errors="replace")):
        raise NotAllowed("the signature is not of this message", where=what, cure="sign the bytes as sent")


def sign(payload: bytes, secret: str) -> str:
    """The signature a sender gives.

    >>> sign(b"{}", "s3cret")[:15]
    'sha256=adbde1ce'
    """
    return "sha256=" + hmac.new(secret.encode(), payload, hashlib.sha256).hexdigest()


def raise_due(world: World, settings: Settings) -> Sequence[LedgerRow]:
    """Raise every trigger whose time has come: schedules, new data, what was deferred until now. Nothing twice for one cause."""
    try:
        now = world.clock.now()
    except NotFound:
        return []  # a data clock without data yet
    story, raised = story_so_far(world), []
    for model in known_models(world):
        for each in _due(world, settings, story, model, now):
            raised.append(ask(world, model, each, actor="loop"))
    return raised


def _due(world: World, settings: Settings, story: Story, model: str, now: datetime) -> list[Due]:
    triggers = settings.for_model(model).triggers
    champion = world.state.rollout(model).champion
    tables = {}
    if champion is not None and (triggers.new_rows or triggers.new_share):
        tables = {name: story.tables.get(name, 0) for name in _label_tables(world, model)}
    return due(story.of(model), triggers, now, tables=tables)


def _label_tables(world: World, model: str) -> list[str]:
    """The table a model's truths come from, as last declared."""
    declared = json.loads(world.state.declaration() or b"{}")
    return [each["predicts"]["table"]["name"] for each in declared.get("models", ()) if each["name"] == model]


def _read(payload: bytes) -> dict[str, str]:
    try:
        told = json.loads(payload)
    except ValueError:
        raise InvalidInput("the event is not JSON", where="outside event", cure="send one JSON object") from None
    known = {"id", "model", "why", "source"}
    if not isinstance(told, dict) or set(told) - known or {"id", "model", "why"} - set(told):
        raise InvalidInput(
            "not an outside event", where="outside event", cure="give id, model, why, and perhaps source"
        )
    if any(not isinstance(value, str) or not 0 < len(value) <= 1_000 for value in told.values()):
        raise InvalidInput("its values are texts of 1 to 1,000 characters", where="outside event", cure="shorten them")
    for key, text in told.items():
        check_line(text, key)
    return told
