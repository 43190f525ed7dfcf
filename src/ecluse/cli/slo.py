"""Commands about objectives: slo rules, slo alertmanager, slo status."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from ecluse.cli.console import Group, Option, Reply, Shell, table

Out = Annotated[Path, Option("--out", help="the file to write")]


def rules(
    shell: Shell,
    *,
    out: Out,
    match: Annotated[
        str, Option("--match", help='this project\'s workers, where Prometheus has others: job="shop"')
    ] = "",
) -> Reply:
    """Write the objectives as recording and burn-rate alert rules for Prometheus."""
    from ecluse.monitoring.alert_rules import make_rules

    settings = shell.app.settings
    made = make_rules(settings.slo, _name(shell), settings.serving.max_in_flight, match)
    return _write(out, made, [rule["alert"] for group in made["groups"] for rule in group["rules"] if "alert" in rule])


def alertmanager(
    shell: Shell, *, out: Out, webhook: Annotated[str, Option("--webhook", help="who is told: an HTTP address")]
) -> Reply:
    """Write a configuration of Alertmanager that calls a webhook for those alerts."""
    from ecluse.monitoring.alert_rules import make_alertmanager

    return _write(out, make_alertmanager(webhook, _name(shell)), [])


def status(shell: Shell) -> Reply:
    """What the running workers counted since their start, held against the objectives."""
    from ecluse.adapters.server_client import read_metrics
    from ecluse.monitoring.exposition import read_samples
    from ecluse.monitoring.slo import measure

    app = shell.app
    text = read_metrics(app.home, app.url, key=os.environ.get("ECLUSE_API_KEY", ""))
    budgets = measure(app.settings.slo, app.settings.serving.max_in_flight, read_samples(text))
    rows = [(each.name, each.total, each.bad, each.share, each.target, each.burn) for each in budgets]
    said = table(["objective", "asked", "bad", "good share", "objective is", "burns"], rows)
    return Reply(budgets, said, refused=any(each.burn > 1 for each in budgets))


def _name(shell: Shell) -> str:
    return shell.app.settings.project or shell.app.root.name


def _write(out: Path, made: dict[str, object], alerts: list[str]) -> Reply:
    from ecluse.adapters.files import write_atomic
    from ecluse.monitoring.alert_rules import to_yaml

    write_atomic(out, to_yaml(made).encode())
    return Reply({"file": str(out), "alerts": alerts}, f"wrote {out}" + (f": {len(alerts)} alerts" if alerts else ""))


def register(app: Group) -> None:
    """Add these commands."""
    slo = app.nest("slo", "Objectives: alert rules for Prometheus, and how the workers stand.")
    for command in (rules, alertmanager, status):
        slo.add(command)
