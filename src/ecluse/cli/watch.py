"""The command that watches: monitor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from ecluse.cli.console import Group, Option, Reply, Shell, table, verdict_table
from ecluse.cli.models import ModelName
from ecluse.core.codec import to_plain
from ecluse.core.instants import parse_duration

if TYPE_CHECKING:
    from ecluse.monitoring.skew import Skew


def monitor(
    shell: Shell,
    *,
    model: ModelName = None,
    last: Annotated[int | None, Option("--last", help="judge the last N predictions")] = None,
    period: Annotated[str | None, Option("--period", help='judge a period up to now, such as "1d"')] = None,
    skew: Annotated[int, Option("--skew", help="recompute the stored features of the newest N predictions too")] = 0,
    html: Annotated[Path | None, Option("--html", help="write the report as one HTML file")] = None,
) -> Reply:
    """Compare what was served with the version's reference; a breach becomes an event (exit code 3), so does skew."""
    span = parse_duration(period, where="--period") if period else None
    name = shell.model(model)
    report = shell.app.monitor(name, last=last, period=span)
    text = verdict_table(report.verdict) + "\n\n" + verdict_table(report.features)
    compared = None
    if skew:
        from ecluse.loop.skew import skew as recompute

        compared = recompute(shell.app.world, name, rows=skew, actor=shell.app.actor)
        text += "\n\n" + verdict_table(compared.verdict) + "\n" + _ages(compared)
    if html is not None:
        from ecluse.loop.monitor_page import monitor_page, write_page

        write_page(html, monitor_page(report, shell.app.settings, compared))
        text += f"\n\nwritten to {html}"
    text += "\n\n" + (
        "DRIFT: an event was recorded; `ecluse loop run` handles it" if report.verdict.breached else "no breach"
    )
    skewed = compared is not None and compared.verdict.breached
    data = report if compared is None else {**to_plain(report), "skew": to_plain(compared)}
    return Reply(data, text, refused=report.verdict.breached or skewed)


def _ages(skew: Skew) -> str:
    """How old stored values were when they were served."""
    rows = [(each.view, each.rows, f"{each.median:,.0f} s", f"{each.longest:,.0f} s") for each in skew.staleness]
    return table(["view", "used", "median age when served", "longest"], rows) if rows else "no stored feature was used"


def register(app: Group) -> None:
    """Add this command."""
    app.add(monitor)
