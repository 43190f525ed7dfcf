"""Commands about data: ingest, check, materialize, clock."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from ecluse.cli.console import Argument, Group, Option, Reply, Shell, table, verdict_table
from ecluse.core.errors import InvalidInput
from ecluse.core.instants import format_instant, parse_instant

From = Annotated[Path, Option("--from", help="folder with one CSV or Parquet file per table")]
AsOf = Annotated[str, Option("--as-of", help="the moment the data speaks of: 2024-01-31 or an RFC 3339 instant")]
Only = Annotated[list[str] | None, Option("--table", help="only this table (may be repeated)")]


def ingest(shell: Shell, *, from_: From, as_of: AsOf, only: Only = None) -> Reply:
    """Check every table's file and freeze the good rows as snapshots; bad rows go to quarantine with their reasons."""
    return _ingest(shell, from_, as_of, only, dry_run=False)


def check(shell: Shell, *, from_: From, as_of: AsOf, only: Only = None) -> Reply:
    """Check files against their contracts and change nothing."""
    return _ingest(shell, from_, as_of, only, dry_run=True)


def _ingest(shell: Shell, folder: Path, as_of: str, only: list[str] | None, *, dry_run: bool) -> Reply:
    moment = parse_instant(as_of, where="--as-of")
    shell.say(f"reading {folder} as of {format_instant(moment)}")
    result = shell.app.ingest(folder, moment, only=only or (), dry_run=dry_run)
    rows = [
        (t.table, t.rows, t.quarantined, t.snapshot.digest[:12] if t.snapshot else None, t.status)
        for t in result.tables
    ]
    text = table(["table", "rows", "quarantined", "snapshot", ""], rows)
    broken = [(t.table, rule, count) for t in result.tables for rule, count in t.counts.items() if count]
    if broken:
        text += "\n\n" + table(["table", "rule broken", "rows"], broken)
    for each in result.tables:
        if each.verdict.breached:
            text += "\n\n" + verdict_table(each.verdict)
    text += "".join(f"\n{note}" for note in result.notes)
    return Reply(result, text, refused=not result.passed)


def materialize(shell: Shell, *, at: Annotated[str | None, Option("--at", help="moment (now)")] = None) -> Reply:
    """Bring the online store up to now; newer values are never overwritten with older ones, nor with the same."""
    result = shell.app.materialize(parse_instant(at, where="--at") if at else None)
    rows = [(each.view, each.written, each.kept) for each in result.views]
    text = f"features as of {format_instant(result.moment)}\n\n" + table(["view", "written", "kept"], rows)
    return Reply(result, text)


def clock(
    shell: Shell,
    *,
    action: Annotated[str, Argument(help="show or set")] = "show",
    moment: Annotated[str | None, Argument(help="the instant to set")] = None,
) -> Reply:
    """Show the project's clock, or move a data clock on (`ecluse clock set 2024-07-31`)."""
    if (action, moment is None) not in (("show", True), ("set", False)):
        asked = f"clock {action}" + (f" {moment}" if moment else "")
        raise InvalidInput(asked, cure="write `ecluse clock show` or `ecluse clock set 2024-07-31`")
    wanted = parse_instant(moment, where="clock set") if moment else None
    now = shell.app.world.clock.now() if wanted is None else shell.app.set_clock(wanted)
    mode = shell.app.settings.time.now
    return Reply({"now": now, "mode": mode}, f"{format_instant(now)} ({mode} clock)")


def register(app: Group) -> None:
    """Add these commands."""
    for command in (ingest, check, materialize, clock):
        app.add(command)
