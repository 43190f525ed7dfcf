"""Commands about watching and reacting: monitor, outcomes, loop run, loop status."""

from __future__ import annotations

from typing import Annotated

from ecluse.cli.console import Group, Option, Reply, Shell, table, verdict_table
from ecluse.cli.models import ModelName
from ecluse.core.event import LedgerRow
from ecluse.core.instants import parse_duration


def monitor(
    shell: Shell,
    *,
    model: ModelName = None,
    last: Annotated[int | None, Option("--last", help="judge the last N predictions")] = None,
    period: Annotated[str | None, Option("--period", help='judge a period up to now, such as "1d"')] = None,
) -> Reply:
    """Compare what was served with the version's reference; a breach becomes an event (exit code 3)."""
    span = parse_duration(period, where="--period") if period else None
    report = shell.app.monitor(shell.model(model), last=last, period=span)
    text = verdict_table(report.verdict) + "\n\n" + verdict_table(report.features)
    text += "\n\n" + (
        "DRIFT: an event was recorded; `ecluse loop run` handles it" if report.verdict.breached else "no breach"
    )
    return Reply(report, text, refused=report.verdict.breached)


def outcomes(shell: Shell, *, model: ModelName = None) -> Reply:
    """Realised performance: predictions joined with the truths that have arrived, per version."""
    report = shell.app.outcomes(shell.model(model))
    names = sorted({metric for each in report.versions.values() for metric in each.metrics})
    rows = [
        (number, each.joined, each.waiting, *(each.metrics.get(n) for n in names))
        for number, each in report.versions.items()
    ]
    text = table(["version", "with truth", "waiting", *names], rows)
    if report.verdict.findings:
        text += "\n\n" + verdict_table(report.verdict)
    return Reply(report, text, refused=report.verdict.breached)


def run(shell: Shell) -> Reply:
    """Handle every event nobody has handled yet: retrain, gate, release or refuse by policy; durable across kills."""
    shell.say("handling events")
    rows = shell.app.react()
    shell.app.finish()
    if not rows:
        return Reply([], "nothing to do")
    return Reply(rows, table(["#", "what", "model", "version", "why"], [_row(row) for row in rows]))


def _row(row: LedgerRow) -> tuple[object, ...]:
    e = row.event
    return row.sequence, str(e.evidence.get("command") or e.kind), e.model, e.version, e.reason


def status(shell: Shell) -> Reply:
    """What the loop decided, and what waits for it."""
    every = list(shell.app.world.state.ledger())
    decided = [r for r in every if r.event.kind == "loop.decided"][-20:]
    waiting = shell.app.waiting()
    text = table(["#", "decided", "model", "version", "why"], [_row(row) for row in decided])
    text += f"\n\n{len(waiting)} events wait for `ecluse loop run`"
    return Reply({"decided": decided, "waiting": waiting}, text)


def register(app: Group) -> None:
    """Add these commands."""
    app.add(monitor)
    app.add(outcomes)
    loop = app.nest("loop", "The control loop: react to events, see what it decided.")
    loop.add(run)
    loop.add(status)
