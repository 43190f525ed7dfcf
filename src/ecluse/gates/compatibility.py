"""Compatibility: the candidate accepts every call the champion accepts, and answers in the same shape.

A worker requires every request field (and, with explicit features, every stored one) and refuses unknown ones; so the fields a caller
sends must stay the same, and what each may hold must not become narrower. Stored features of a model asked by key may change freely.
"""

from __future__ import annotations

from collections.abc import Iterator

from ecluse.core.contract import Category, Column, Integer, Number, Text
from ecluse.core.schema import Schema
from ecluse.core.settings import Gates
from ecluse.core.verdict import Finding, Outcome
from ecluse.gates.evidence import Evidence
from ecluse.gates.measured import names_of

CHECK = "compatibility"


def check_compatibility(evidence: Evidence, gates: Gates) -> list[Finding]:
    """A failed finding per call that would no longer be accepted, or one that passed."""
    champion = evidence.champion
    if champion is None:
        return [Finding(CHECK, Outcome.PASSED, "no champion to be compatible with")]
    if champion.schema is None:
        why = f"the schema of version {champion.number} cannot be read: {champion.problem}"
        return [Finding(CHECK, Outcome.INCONCLUSIVE, why)]
    broken = list(differences(champion.schema, evidence.schema))
    if not broken:
        return [Finding(CHECK, Outcome.PASSED, f"accepts every call version {champion.number} accepts")]
    return [Finding(CHECK, Outcome.FAILED, why, subject=subject) for subject, why in broken]


def differences(old: Schema, new: Schema) -> Iterator[tuple[str, str]]:
    """(what, why) for everything that would refuse or surprise a caller of ``old``."""
    if old.task != new.task:
        yield "task", f"it answers {new.task}, callers expect {old.task}"
    if missing := sorted(set(old.classes) - set(new.classes)):
        yield "classes", f"it no longer answers {names_of(missing)}"
    if new.accepts not in (old.accepts, "both"):
        yield "accepts", f'it accepts "{new.accepts}", callers send "{old.accepts}"'
    if old.accepts != "features":
        yield from _keys(old, new)
        yield from _views(old, new)
    sent, wanted = callers_fields(old), callers_fields(new, old)
    for name in sorted(sent - wanted):
        yield name, f"callers send `{name}`, which it does not know"
    for name in sorted(wanted - sent):
        yield name, f"it requires `{name}`, which callers do not send"
    for name in sorted(sent & wanted):
        for why in narrower(old.columns[name], new.columns[name]):
            yield name, f"`{name}` {why}"


def callers_fields(schema: Schema, old: Schema | None = None) -> set[str]:
    """What a call holds besides keys: request fields, and with explicit features (as the ``old`` version takes them) stored ones."""
    explicit = (old or schema).accepts != "entity"
    return set(schema.columns) if explicit else set(schema.request)


def narrower(old: Column, new: Column) -> Iterator[str]:
    """What a value that ``old`` accepts may be refused for by ``new``.

    >>> list(narrower(Number(min=0), Number(min=1, max=9)))
    ['must be at least 1, was 0', 'must be at most 9, was unlimited']
    """
    if type(old) is not type(new) and not (isinstance(old, Integer) and isinstance(new, Number)):
        yield f"was {type(old).__name__} and is {type(new).__name__}"
        return
    if old.nulls > 0 and new.nulls <= 0:
        yield "may no longer be missing"
    if isinstance(old, Number | Integer) and isinstance(new, Number | Integer):
        if new.min is not None and (old.min is None or new.min > old.min):
            yield f"must be at least {new.min:g}, was {'unlimited' if old.min is None else f'{old.min:g}'}"
        if new.max is not None and (old.max is None or new.max < old.max):
            yield f"must be at most {new.max:g}, was {'unlimited' if old.max is None else f'{old.max:g}'}"
    if isinstance(old, Category) and isinstance(new, Category) and new.values:
        if not old.values:
            yield "took any text and now takes only declared values"
        elif gone := sorted(set(old.values) - set(new.values)):
            yield f"no longer takes {names_of(gone)}"
    if isinstance(old, Text) and isinstance(new, Text) and new.max_length < old.max_length:
        yield f"takes {new.max_length} characters, was {old.max_length}"


def _keys(old: Schema, new: Schema) -> Iterator[tuple[str, str]]:
    before = {(view.entity.name, view.entity.kind, view.entity.columns) for view in old.views}
    after = {(view.entity.name, view.entity.kind, view.entity.columns) for view in new.views}
    if before != after:
        words = [", ".join(f"{name} ({kind})" for name, kind, _ in sorted(each)) or "none" for each in (before, after)]
        yield "entity", f"callers send the keys {words[0]}, it takes {words[1]}"


def _views(old: Schema, new: Schema) -> Iterator[tuple[str, str]]:
    known = {view.name: view for view in old.views}
    for view in new.views:
        before = known.get(view.name)
        if before is None:
            continue
        if before.missing == "accept" and view.missing == "refuse":
            yield view.name, f"entities without a row in {view.name} were answered and would be refused"
        if view.ttl is not None and (before.ttl is None or view.ttl < before.ttl):
            yield view.name, f"values of {view.name} older than {view.ttl} were answered and would be refused"
