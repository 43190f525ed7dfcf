"""Commands about who releases: approve, policy explain."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated

from ecluse.cli.console import Argument, Group, Option, Reply, Shell, printable, table
from ecluse.cli.models import ModelName, Number
from ecluse.core.approval import Standing, say
from ecluse.core.instants import format_instant
from ecluse.loop.approve import Candidate, Explained, explain

Why = Annotated[str, Option("--why", help="the reason, for the ledger")]


def approve(
    shell: Shell,
    *,
    number: Number,
    why: Why,
    model: ModelName = None,
    check: Annotated[
        list[str] | None, Option("--check", help="an item of the checklist you vouch for (may be repeated)")
    ] = None,
    withdraw: Annotated[bool, Option("--withdraw", help="say no instead, or take your yes back")] = False,
) -> Reply:
    """Say yes to the release of a version as its present gate report judged it; enough of them let the loop release it."""
    from ecluse.loop.approve import approve as say_yes
    from ecluse.loop.approve import disapprove as say_no

    app, name = shell.app, shell.model(model)
    if withdraw:
        standing = say_no(app.world, app.settings, name, number, reason=why, actor=app.actor)
    else:
        standing = say_yes(app.world, app.settings, name, number, reason=why, actor=app.actor, checks=check or ())
    follows = "`ecluse loop run` releases it" if standing.enough else f"see `ecluse policy explain {number}`"
    return Reply(standing, f"version {number}: {say(standing)}; {follows}")


def explain_(
    shell: Shell,
    *,
    number: Annotated[int | None, Argument(help="a version (all in Staging)")] = None,
    model: ModelName = None,
) -> Reply:
    """Which rule releases a version, who may approve, what is missing and until when."""
    app = shell.app
    names = [shell.model(model)] if model or number is not None else [each.name for each in app.declared.models]
    explained = [explain(app.world, app.settings, name, number) for name in names]
    return Reply({"models": explained}, "\n\n".join(_explained(each) for each in explained))


RELEASED_BY = {
    "manual": "a person releases it: `ecluse promote N --why …`",
    "automatic": "the loop releases it as soon as it passed its gates",
}


def _explained(policy: Explained) -> str:
    rule = policy.rule
    lines = [f"{policy.model}: {rule.name}"]
    if rule.asks:
        lines.append(f"  the loop releases a version that passed its gates once it has {rule.approvals} approvals")
        who = ", ".join(policy.approvers) or "everybody"
        lines.append(f"  who may approve: {who}" + ("" if policy.author_may_approve else ", but not the author"))
        if rule.checklist:
            lines.append("  to be vouched for: " + ", ".join(rule.checklist))
    else:
        lines.append("  " + RELEASED_BY["automatic" if rule.by_itself else "manual"])
    if not policy.candidates:
        lines.append("  no version is in Staging")
    for each in policy.candidates:
        lines += ["", *_candidate(each)]
    return "\n".join(lines)


def _candidate(candidate: Candidate) -> Iterable[str]:
    standing = candidate.standing
    by = printable(", ".join(candidate.authors))
    yield f"version {candidate.version}, made by {by}"
    if candidate.expires is None:
        yield f"  not judged yet: `ecluse gate {candidate.version}`"
    else:
        yield f"  gate report {candidate.report[:12]}, good until {format_instant(candidate.expires)}"
    if standing.rule.asks:
        until = f", the first of them until {format_instant(standing.until)}" if standing.until else ""
        yield f"  {say(standing)}{until}"
    if rows := _words(standing):
        yield table(["#", "who", "said", "when", ""], rows)


def _words(standing: Standing) -> Sequence[tuple[object, ...]]:
    counted = [(word, ", ".join(word.checks)) for word in (*standing.given, *standing.against)]
    void = [(each.word, f"does not count: {each.why}") for each in standing.void]
    return [
        (word.sequence, word.who, "yes" if word.yes else "no", format_instant(word.when), note)
        for word, note in sorted(counted + void, key=lambda each: each[0].sequence)
    ]


def register(app: Group) -> None:
    """Add these commands."""
    app.add(approve)
    policy = app.nest("policy", "Who releases a version, by policy.")
    policy.add(explain_)
