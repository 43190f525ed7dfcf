"""Reports of another system that a champion does harm, or what a business metric came to; believed by their signature, told to the ledger."""

from __future__ import annotations

import json
import math
from typing import Any

from ecluse.core.errors import InvalidInput, NotFound
from ecluse.core.event import Event, LedgerRow, check_line
from ecluse.core.ports import World
from ecluse.loop.asking import check_signed
from ecluse.loop.publish import known_models

_NEEDED, _KNOWN = {"id", "model", "why"}, {"id", "model", "why", "version", "metric", "value"}


def report_incident(world: World, payload: bytes, signature: str, *, secret: str | None = None) -> LedgerRow:
    """``{"id", "model", "why"}`` as JSON bytes, perhaps with the ``version`` it is about, or a business ``metric`` with its ``value``; the
    ``signature`` is ``sha256=`` and the hex HMAC-SHA-256 of exactly these bytes under ``ECLUSE_TRIGGER_SECRET`` (or ``secret``).

    The same id again is the same report: the row there is returned. Raises NotAllowed (no secret of 32 characters, or the signature is not of these
    bytes), InvalidInput (not such an object), NotFound (model). What is refused is told to the caller and not to the ledger.
    """
    check_signed(payload, signature, "incident report", secret)
    told = _read(payload)
    model = told["model"]
    if model not in (known := known_models(world)):
        raise NotFound(f"model {model!r}", cure="models: " + (", ".join(known) or "none yet"))
    for row in world.state.ledger(model=model):
        if row.event.kind == "incident.reported" and row.event.evidence.get("id") == told["id"]:
            return row
    facts: dict[str, Any] = {key: told[key] for key in ("id", "metric", "value") if key in told}
    now = world.clock.now()
    return world.state.append(
        Event("incident.reported", now, "outside", model, told.get("version"), told["why"], facts)
    )


def _read(payload: bytes) -> dict[str, Any]:
    where = "incident report"
    try:
        told = json.loads(payload)
    except ValueError:
        raise InvalidInput("the report is not JSON", where=where, cure="send one JSON object") from None
    if (
        not isinstance(told, dict)
        or set(told) - _KNOWN
        or _NEEDED - set(told)
        or ("metric" in told) != ("value" in told)
    ):
        raise InvalidInput("no incident report", where=where, cure="give id, model, why; metric and value together")
    texts = {key: told[key] for key in ("id", "model", "why", "metric") if key in told}
    if any(not isinstance(text, str) or not 0 < len(text) <= 1_000 for text in texts.values()):
        raise InvalidInput("texts are of 1 to 1,000 characters", where=where, cure="shorten them")
    for key, text in texts.items():
        check_line(text, key)
    version, value = told.get("version"), told.get("value", 0.0)
    if version is not None and (not isinstance(version, int) or isinstance(version, bool)):
        raise InvalidInput(f"version {version!r}", where=where, cure="give its number")
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidInput(f"value {value!r}", where=where, cure="give a finite number")
    return told
