"""Commands about incidents and those who are told of them: incidents list, check, report; notify send."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

from ecluse.cli.console import Argument, Group, Option, Reply, Shell, table
from ecluse.core.instants import format_instant


def list_(shell: Shell) -> Reply:
    """Releases that were taken back, by which numbers, and whether it is over."""
    from ecluse.loop.incidents import incidents

    found = incidents(shell.app.world)
    rows = [
        (
            each.number,
            format_instant(each.time)[:16],
            each.model,
            each.version,
            each.to,
            each.seconds,
            each.state,
            each.why,
        )
        for each in found
    ]
    head = ["#", "when", "model", "version", "back to", "seconds", "state", "why"]
    return Reply(found, table(head, rows) if rows else "no incident")


def check(shell: Shell) -> Reply:
    """Look at every champion once, and take back what does harm (the loop that stays up does so every second)."""
    from ecluse.adapters.server_client import read_metrics
    from ecluse.loop.release_guard import guard_releases

    app, key = shell.app, os.environ.get("ECLUSE_API_KEY", "")
    rows = guard_releases(app.world, app.settings, {}, lambda: read_metrics(app.home, app.url, key=key))
    told = [(row.sequence, row.event.kind, row.event.model, row.event.version, row.event.reason) for row in rows]
    said = table(["#", "what", "model", "version", "why"], told) if told else "nothing to take back"
    return Reply(rows, said, refused=any(row.event.kind == "incident.opened" for row in rows))


def report(
    shell: Shell,
    *,
    file: Annotated[Path, Argument(help="the report as it was sent: one JSON object with id, model, why")],
    signature: Annotated[str, Option("--signature", help="sha256=… of exactly these bytes")],
) -> Reply:
    """Take another system's signed report of an incident, or of a business metric, into the ledger."""
    from ecluse.adapters.files import read_file
    from ecluse.loop.incident_reports import report_incident

    row = report_incident(shell.app.world, read_file(file), signature)
    return Reply(row, f"event {row.sequence}: the loop, or `ecluse incidents check`, looks at it")


def send(shell: Shell) -> Reply:
    """Tell every receiver of `[notify]` what it was not told yet, once (the loop that stays up does so by itself)."""
    from ecluse.adapters.webhook import post
    from ecluse.loop.notify import Outbox, deliver

    outbox = Outbox()
    count = deliver(shell.app.world, shell.app.settings, post, outbox)
    failed = sorted(outbox.failures)
    said = f"{count} messages told" + (f"; to be tried again: {', '.join(failed)}" if failed else "")
    answer: dict[str, Any] = {"told": count, "failed": failed}
    return Reply(answer, said)


def register(app: Group) -> None:
    """Add these commands."""
    group = app.nest("incidents", "Releases that were taken back, and reports that ask for it.")
    group.add(list_)
    group.add(check)
    group.add(report)
    app.nest("notify", "Those who are told of events by webhook.").add(send)
