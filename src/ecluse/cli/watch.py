"""The command that watches: monitor."""

from __future__ import annotations

from typing import Annotated

from ecluse.cli.console import Group, Option, Reply, Shell, verdict_table
from ecluse.cli.models import ModelName
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


def register(app: Group) -> None:
    """Add this command."""
    app.add(monitor)
