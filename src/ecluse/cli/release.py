"""Commands about releases: promote, reject, rollback, threshold, hold, status, history."""

from __future__ import annotations

from typing import Annotated

from ecluse.cli.console import Argument, Group, Option, Reply, Shell, table
from ecluse.cli.models import ModelName, Number
from ecluse.core.event import LedgerRow, broken_at, head_of, sentence
from ecluse.core.instants import format_instant

Why = Annotated[str, Option("--why", help="the reason, for the ledger")]


def promote(
    shell: Shell,
    *,
    number: Number,
    why: Why,
    model: ModelName = None,
    override: Annotated[
        str, Option("--override", help="promote without a passed gate report; names who takes it on")
    ] = "",
) -> Reply:
    """Release a version: it becomes the champion and is served within a second."""
    rollout = shell.app.promote(shell.model(model), number, reason=why, override=override)
    back = f"`ecluse rollback` would return to {rollout.previous[-1]}" if rollout.previous else "it is the first"
    return Reply(rollout, f"version {number} is in Production; {back}")


def reject(shell: Shell, *, number: Number, why: Why, model: ModelName = None) -> Reply:
    """Refuse a version for good."""
    version = shell.app.reject(shell.model(model), number, reason=why)
    return Reply(version, f"version {number} is rejected")


def rollback(
    shell: Shell,
    *,
    why: Why,
    model: ModelName = None,
    to: Annotated[int | None, Option("--to", help="a version that has been in Production (the one before)")] = None,
    leaving: Annotated[
        int | None, Option("--from", help="only if this version is in Production: two people react once")
    ] = None,
) -> Reply:
    """The version before serves again: no training, no download."""
    rollout = shell.app.rollback(shell.model(model), reason=why, to=to, leaving=leaving)
    return Reply(rollout, f"version {rollout.champion} serves again")


def threshold(
    shell: Shell,
    *,
    number: Number,
    value: Annotated[float, Argument(help="between 0 and 1")],
    why: Why,
    model: ModelName = None,
) -> Reply:
    """Change a version's decision threshold, without a new version; recorded, and changed back the same way."""
    version = shell.app.set_threshold(shell.model(model), number, value, reason=why)
    return Reply(version, f"version {number} decides at {version.threshold}")


def hold(
    shell: Shell,
    *,
    number: Number,
    why: Why,
    model: ModelName = None,
    release: Annotated[bool, Option("--release", help="end the hold")] = False,
) -> Reply:
    """Keep a version for audit: prune leaves it alone until the hold is released."""
    version = shell.app.hold(shell.model(model), number, reason=why, held=not release)
    return Reply(version, f"version {number} is {'held for audit' if version.held else 'no longer held'}")


def status(shell: Shell) -> Reply:
    """The project at a glance: clock, champions, candidates, data, online features, whether a server answers."""
    report = shell.app.status()
    champions = [(m.model, m.champion, m.previous, m.candidates, m.stage_counts) for m in report.models]
    text = f"{report.project} · {report.profile} · {format_instant(report.now)} ({report.clock} clock) · server: {report.server}\n\n"
    text += table(["model", "champion", "rollback to", "in staging", "versions"], champions)
    text += "\n\n" + table(
        ["table", "snapshots", "newest as of", "rows"], [(t.table, t.snapshots, t.as_of, t.rows) for t in report.tables]
    )
    if report.views:
        text += "\n\n" + table(["view", "online as of"], report.views.items())
    if report.behind:
        text += f"\n\n{report.behind} changes not yet mirrored to MLflow (`ecluse mirror`)"
    return Reply(report, text)


def history(
    shell: Shell,
    *,
    model: ModelName = None,
    limit: Annotated[int, Option("--limit", "-n", min=0, help="the newest so many (0: all)")] = 50,
    kind: Annotated[str | None, Option("--kind", help="only events of this kind, or beginning with it")] = None,
    head: Annotated[bool, Option("--head", help="print the chain's newest hash, to be kept elsewhere")] = False,
    verify: Annotated[
        str | None, Option("--verify", metavar="HEAD", help="check the chain, and that it still holds this hash")
    ] = None,
) -> Reply:
    """Who did what, when and why: the ledger, checked against its hash chain."""
    rows = list(shell.app.world.state.ledger())
    broken = broken_at(rows, verify or "")
    if head:
        newest = head_of(rows[-1]) if rows else ""
        return Reply({"head": newest, "rows": len(rows)}, newest)
    shown = [
        r for r in rows if (model is None or r.event.model == model) and (kind is None or r.event.kind.startswith(kind))
    ]
    shown = shown[-limit:] if limit else shown
    text = table(["#", "when", "who", "what", "model", "version", "why"], [_row(r) for r in shown])
    if broken is not None:
        text += f"\n\nTHE CHAIN IS BROKEN at #{broken}: rows were changed, removed or cut off"
    return Reply({"rows": shown, "broken_at": broken}, text, refused=broken is not None)


def _row(row: LedgerRow) -> tuple[object, ...]:
    e = row.event
    when = format_instant(e.recorded or e.time)[:19].replace("T", " ")
    return row.sequence, when, e.actor, e.kind, e.model or None, e.version, sentence(e)[:90]


def mirror(shell: Shell) -> Reply:
    """Bring the MLflow mirror up to date."""
    applied = shell.app.mirror()
    return Reply({"applied": applied}, f"{applied} changes mirrored")


def register(app: Group) -> None:
    """Add these commands."""
    for command in (promote, reject, rollback, threshold, hold, status, history, mirror):
        app.add(command)
