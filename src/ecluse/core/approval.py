"""Approval: what a policy asks of people before a version is released, and how far what they said goes. Pure rules over the words they gave.

A word counts for one gate report only, for a time, from one who may approve and is not the author. The order of the words of different people
does not matter; of one person only the last word does.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

from ecluse.core.errors import DeclarationError
from ecluse.core.instants import format_instant
from ecluse.core.loop_settings import ROLE, Approval, Policy

TIERS = {"low": 0, "medium": 1, "high": 2}
"""How many approvals a risk tier asks for."""


@dataclass(frozen=True)
class Rule:
    """What a policy asks: so many ``approvals`` and these items of a ``checklist``; ``by_itself``: then the loop releases the version.

    Approvals and items are asked of a person who promotes, too.
    """

    name: str
    by_itself: bool
    approvals: int = 0
    checklist: tuple[str, ...] = ()

    @property
    def asks(self) -> bool:
        """Whether anybody must approve."""
        return self.approvals > 0


def rule_of(policy: Policy, approval: Approval) -> Rule:
    """The rule of a model's settings.

    >>> rule_of(Policy(promotion="risk", tier="high"), Approval(checklist=("segments read",)))
    Rule(name='risk: high', by_itself=True, approvals=2, checklist=('segments read',))
    >>> rule_of(Policy(promotion="risk", tier="low"), Approval(count=3))
    Rule(name='risk: low', by_itself=True, approvals=0, checklist=())
    """
    if policy.promotion == "approval":
        return Rule("approval", True, approval.count, approval.checklist)
    if policy.promotion == "risk":
        checklist = approval.checklist if policy.tier == "high" else ()
        return Rule(f"risk: {policy.tier}", True, TIERS[policy.tier], checklist)
    return Rule(policy.promotion, policy.promotion == "automatic")


def asks_people(policy: Policy) -> bool:
    """Whether a release waits for somebody's approval."""
    return policy.promotion == "approval" or (policy.promotion == "risk" and TIERS[policy.tier] > 0)


def check_rule(policy: Policy, approval: Approval) -> None:
    """Raises DeclarationError for a rule that nobody could satisfy, or a high tier without a checklist."""
    rule = rule_of(policy, approval)
    if policy.promotion == "risk" and policy.tier == "high" and not rule.checklist:
        raise DeclarationError(
            "the tier `high` asks for a checklist", where="policy", cure='declare `[approval] checklist = ["…"]`'
        )
    named = approvers(approval)
    if approval.approvers and len(named) < rule.approvals:
        raise DeclarationError(
            f"{rule.approvals} approvals are asked of {len(named)} approvers",
            where="approval",
            cure="name more of them",
        )


@dataclass(frozen=True)
class Word:
    """What one person said (fact number ``sequence``): yes or no to the release of a version as judged by ``report`` (a digest), with the items
    of the checklist they vouch for.
    """

    sequence: int
    who: str
    yes: bool
    report: str
    when: datetime
    checks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Void:
    """A word that does not count, and why."""

    word: Word
    why: str


@dataclass(frozen=True)
class Standing:
    """How far the words go: those that count for (``given``) and ``against`` the release, those that do not count, how many approvals and
    which items of the checklist are missing, and when the first of the given ones expires (``until``).
    """

    rule: Rule
    given: tuple[Word, ...] = ()
    against: tuple[Word, ...] = ()
    void: tuple[Void, ...] = ()
    missing: int = 0
    unchecked: tuple[str, ...] = ()
    until: datetime | None = None

    @property
    def enough(self) -> bool:
        """Whether nothing more is asked of people."""
        return not (self.missing or self.unchecked or self.against)


def stand(
    rule: Rule, approval: Approval, words: Iterable[Word], report: str, authors: Collection[str], now: datetime
) -> Standing:
    """Judge the words about a version whose present gate report has the digest ``report``. Linear in the words.

    A no counts until the same person says yes, or another report is made; a yes expires.
    """
    given: list[Word] = []
    against: list[Word] = []
    void: list[Void] = []
    said = sorted(words, key=lambda word: word.sequence)
    last = {person(approval, word.who): word for word in said if word.report == report}
    for word in said:
        why = _why_void(approval, word, last, report, authors, now)
        if why:
            void.append(Void(word, why))
        else:
            (given if word.yes else against).append(word)
    ticked = {item for word in given for item in word.checks}
    return Standing(
        rule,
        tuple(given),
        tuple(against),
        tuple(void),
        max(0, rule.approvals - len(given)),
        tuple(item for item in rule.checklist if item not in ticked),
        min((word.when + approval.expires for word in given), default=None),
    )


def _why_void(
    approval: Approval, word: Word, last: dict[str, Word], report: str, authors: Collection[str], now: datetime
) -> str:
    if word.report != report:
        return "it was said of another gate report"
    if last[person(approval, word.who)] is not word:
        return "the same person spoke again"
    if why := why_not(approval, word.who, authors):
        return why
    if word.yes and now > (end := word.when + approval.expires):
        return f"it expired {format_instant(end)}"
    return ""


def why_not(approval: Approval, who: str, authors: Collection[str]) -> str:
    """Why somebody may not approve a version of these authors; empty when they may.

    >>> rules = Approval(approvers=("role:risk",), roles={"risk": ("eva", "bob")}, people={"bob": ("bob-key",)})
    >>> [why_not(rules, who, {"eva"}) for who in ("bob-key", "eva", "ana")]
    ['', 'eva made it: an author does not approve', 'ana is no approver']
    """
    named = person(approval, who)
    if approval.approvers and named not in approvers(approval):
        return f"{who} is no approver"
    if not approval.author_may_approve and named in {person(approval, author) for author in authors}:
        return f"{who} made it: an author does not approve"
    return ""


def approvers(approval: Approval) -> frozenset[str]:
    """The persons who may approve, roles written out; empty: everybody."""
    named: set[str] = set()
    for each in approval.approvers:
        role = each.removeprefix(ROLE)
        named.update([each] if role == each else approval.roles[role])
    return frozenset(person(approval, each) for each in named)


def person(approval: Approval, name: str) -> str:
    """The person who acts under a name: one person with two keys is one person.

    >>> person(Approval(people={"ana": ("ana-laptop", "ana-2")}), "ana-2")
    'ana'
    """
    return next((who for who, names in approval.people.items() if name in names), name)


def say(standing: Standing) -> str:
    """What is there and what is missing, in one line.

    >>> say(Standing(Rule("approval", True, 2, ("segments",)), missing=2, unchecked=("segments",)))
    '0 of 2 approvals; not checked: segments'
    """
    names = ", ".join(word.who for word in standing.given)
    parts = [f"{len(standing.given)} of {standing.rule.approvals} approvals" + (f" ({names})" if names else "")]
    if standing.unchecked:
        parts.append("not checked: " + ", ".join(standing.unchecked))
    if standing.against:
        parts.append(", ".join(f"{word.who} says no" for word in standing.against))
    return "; ".join(parts)
