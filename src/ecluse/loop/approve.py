"""Approve: people say yes or no to a release; what they said is read back out of the ledger, which is the only record of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from ecluse.core.approval import Rule, Standing, Word, approvers, rule_of, say, stand, why_not
from ecluse.core.codec import digest
from ecluse.core.errors import InvalidInput, NotAllowed
from ecluse.core.event import Event, LedgerRow
from ecluse.core.ports import World
from ecluse.core.settings import Settings
from ecluse.core.version import GateReport, ModelVersion, Stage
from ecluse.loop.attest import check_report, tell_refusal
from ecluse.loop.decide import Facts

YES, NO = "version.approved", "version.disapproved"
_CHAIN = re.compile(r"loop, event (\d+)")


def approve(
    world: World, settings: Settings, model: str, number: int, *, reason: str, actor: str, checks: Sequence[str] = ()
) -> Standing:
    """Say yes to the release of a version as its present gate report judged it; ``checks`` are the items of the checklist vouched for.

    Enough of them let the loop release it. Raises NotAllowed (the policy asks for none; not an approver; the author; no passed, unexpired
    report of the present champion and threshold), InvalidInput (no such item), NotFound. What the rules forbid is told in the ledger.
    """
    rule = rule_of((own := settings.for_model(model)).policy, own.approval)
    if unknown := set(checks) - set(rule.checklist):
        items = ", ".join(rule.checklist) or "none"
        raise InvalidInput(f"{min(unknown)!r} is not on the checklist", where=model, cure=f"its items: {items}")
    return _speak(world, settings, YES, model, number, reason, actor, tuple(dict.fromkeys(checks)))


def disapprove(world: World, settings: Settings, model: str, number: int, *, reason: str, actor: str) -> Standing:
    """Say no, or take a yes back: nobody releases the version by this report until the same person says yes. Raises as :func:`approve`."""
    return _speak(world, settings, NO, model, number, reason, actor, ())


def _speak(
    world: World,
    settings: Settings,
    kind: str,
    model: str,
    number: int,
    reason: str,
    actor: str,
    checks: tuple[str, ...],
) -> Standing:
    version = world.state.version(model, number)
    try:
        report = _judged(world, version)
        _check_speaker(world, settings, version, actor)
    except NotAllowed as refusal:
        tell_refusal(world, model, number, "approve" if kind == YES else "disapprove", refusal, actor)
        raise
    facts = {"report": digest(report), "bundle": report.bundle, "checks": list(checks)}
    world.state.append(Event(kind, world.clock.now(), actor, model, number, reason, facts))
    return standing_of(world, settings, version, report)


def _judged(world: World, version: ModelVersion) -> GateReport:
    """The report an approval is bound to. Raises NotAllowed when the version could not be promoted by it anyway."""
    number, where = version.number, version.model
    cure = f"judge it: `ecluse gate {number}`"
    report = world.state.report(where, number)
    if report is None or version.stage is not Stage.STAGING:
        raise NotAllowed(f"version {number} is {version.stage.value}, not in Staging", where=where, cure=cure)
    check_report(world, version, report)
    if report.champion != world.state.rollout(where).champion or report.threshold != version.threshold:
        raise NotAllowed(
            f"the gate report of version {number} is of another champion or threshold", where=where, cure=cure
        )
    if world.clock.now() > report.expires:
        raise NotAllowed(f"the gate report of version {number} expired", where=where, cure=cure)
    return report


def _check_speaker(world: World, settings: Settings, version: ModelVersion, actor: str) -> None:
    own = settings.for_model(version.model)
    rule = rule_of(own.policy, own.approval)
    if not rule.asks:
        raise NotAllowed(
            f"the policy asks for no approval ({rule.name})", where=version.model, cure="see `ecluse policy explain`"
        )
    if why := why_not(own.approval, actor, authors_of(world, version)):
        raise NotAllowed(why, where=version.model, cure="who may: `ecluse policy explain`")


def authors_of(world: World, version: ModelVersion) -> frozenset[str]:
    """Who made a version: who launched its run, who registered it, and, where the loop did, all who asked the loop for the retraining."""
    names = {str(world.state.run(version.run).facts.get("launched_by", ""))}
    rows = list(world.state.ledger(model=version.model))
    names |= {
        row.event.actor
        for row in rows
        if row.event.kind == "version.registered" and row.event.version == version.number
    }
    return (frozenset(names) | _askers(rows, names)) - {""}


def _askers(rows: Sequence[LedgerRow], actors: Iterable[str]) -> frozenset[str]:
    """The people whose askings led to what these actors did: a retry is of whoever asked for what failed, through however many attempts.

    From a chain to its event; from one that was deferred to the decision that deferred it; from that to its cause, and to that one's chain.
    """
    events = {row.sequence: row.event for row in rows}
    ahead, seen = [number for actor in actors for number in _chains(actor)], set[int]()
    while ahead:
        number = ahead.pop()
        if number in seen or number not in events:
            continue
        seen.add(number)
        event = events[number]
        told = [event.evidence.get(name) for name in ("deferred", "cause", "origin")]
        ahead += [each for each in told if isinstance(each, int)] + _chains(event.actor)
    asked = (events[each] for each in seen if events[each].kind == "trigger.raised")
    return frozenset(event.actor for event in asked if event.evidence.get("trigger") == "manual")


def _chains(actor: str) -> list[int]:
    return [int(match[1])] if (match := _CHAIN.fullmatch(actor)) else []


def words_of(rows: Sequence[LedgerRow], number: int) -> tuple[Word, ...]:
    """What people said of a version, out of the ledger's rows of its model."""
    return tuple(
        Word(
            row.sequence,
            row.event.actor,
            row.event.kind == YES,
            str(row.event.evidence.get("report", "")),
            row.event.time,
            tuple(row.event.evidence.get("checks", ())),
        )
        for row in rows
        if row.event.kind in (YES, NO) and row.event.version == number
    )


def standing_of(world: World, settings: Settings, version: ModelVersion, report: GateReport | None) -> Standing:
    """How far what people said of a version goes now, under the model's policy. Linear in the model's facts."""
    own = settings.for_model(version.model)
    rule = rule_of(own.policy, own.approval)
    words = words_of(list(world.state.ledger(model=version.model)), version.number)
    name = "" if report is None else digest(report)
    return stand(rule, own.approval, words, name, authors_of(world, version), world.clock.now())


def hear(world: World, settings: Settings, facts: Facts) -> Facts:
    """The facts of a decision with what people said of its version, where the policy asks them."""
    own = settings.for_model(facts.version.model) if facts.version else settings
    if facts.version is None or not rule_of(own.policy, own.approval).asks:
        return facts
    return replace(facts, standing=standing_of(world, settings, facts.version, facts.report))


def check_approved(world: World, settings: Settings, version: ModelVersion, report: GateReport | None) -> Standing:
    """The standing, when it is enough. Raises NotAllowed."""
    standing = standing_of(world, settings, version, report)
    if not standing.enough:
        raise NotAllowed(
            f"version {version.number} is not approved: {say(standing)}",
            where=version.model,
            cure=f"`ecluse approve {version.number} --why …`; who may: `ecluse policy explain {version.number}`",
        )
    return standing


@dataclass(frozen=True)
class Candidate:
    """A version that may be released: its report's digest and end, who made it, and how far the approvals go."""

    version: int
    report: str
    expires: datetime | None
    authors: tuple[str, ...]
    standing: Standing


@dataclass(frozen=True)
class Explained:
    """The policy of one model: its rule, who may approve (empty: everybody but the author), and its candidates."""

    model: str
    rule: Rule
    approvers: tuple[str, ...]
    author_may_approve: bool
    candidates: tuple[Candidate, ...]


def explain(world: World, settings: Settings, model: str, number: int | None = None) -> Explained:
    """Which rule holds, who may approve, what is missing and until when, for a version or for all in Staging. Raises NotFound."""
    own = settings.for_model(model)
    versions = world.state.versions(model) if number is None else (world.state.version(model, number),)
    chosen = [each for each in versions if number is not None or each.stage is Stage.STAGING]
    return Explained(
        model,
        rule_of(own.policy, own.approval),
        tuple(sorted(approvers(own.approval))),
        own.approval.author_may_approve,
        tuple(_candidate(world, settings, each) for each in chosen),
    )


def _candidate(world: World, settings: Settings, version: ModelVersion) -> Candidate:
    report = world.state.report(version.model, version.number)
    return Candidate(
        version.number,
        "" if report is None else digest(report),
        None if report is None else report.expires,
        tuple(sorted(authors_of(world, version))),
        standing_of(world, settings, version, report),
    )
