"""Alert rules: the objectives as rules for Prometheus, and who is called as routes for Alertmanager; both as YAML text."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from ecluse.core.errors import InvalidInput
from ecluse.core.loop_settings import Slo
from ecluse.monitoring.slo import BURNS, Burn, Objective, objectives, states, text_of

WINDOWS = sorted({window for burn in BURNS for window in (burn.long, burn.short)})


def make_rules(slo: Slo, project: str, places: int, match: str = "") -> dict[str, Any]:
    """Rule groups for Prometheus: states, the bad share over every window, an alert for every burn rate, and what must simply be so.

    ``places``: requests a worker answers at once; ``match``: the label matcher of this project's workers (``job="shop"``), where one
    Prometheus watches several. Raises DeclarationError for an objective that cannot be counted.
    """
    named = objectives(slo)
    own, labels = f"{{project={json.dumps(project)}}}", {"project": project}

    def fill(expression: str, window: timedelta | None = None) -> str:
        if window is not None:
            expression = expression.replace("$window", text_of(window))
        more, only = (f",{match}", f"{{{match}}}") if match else ("", "")
        return expression.replace("$more", more).replace("$only", only).replace("$own", own)

    recorded = [{"record": name, "expr": fill(how), "labels": labels} for name, how in states(slo, places)]
    shares = [
        {"record": recorded_as(each, window), "expr": fill(each.bad, window), "labels": labels}
        for each in named
        for window in WINDOWS
    ]
    alerts = [_alert(each, burn, project, slo.window) for each in named for burn in BURNS]
    return {
        "groups": [
            {"name": "ecluse-states", "rules": recorded},
            {"name": "ecluse-budgets", "rules": shares},
            {"name": "ecluse-objectives", "rules": [*alerts, *_plain(project, fill)]},
        ]
    }


def recorded_as(objective: Objective, window: timedelta) -> str:
    """The name of an objective's bad share over a window."""
    return f"ecluse:{objective.name}_bad:share_{text_of(window)}"


def _alert(objective: Objective, burn: Burn, project: str, window: timedelta) -> dict[str, Any]:
    limit = f"{burn.factor * objective.budget:.12g}"
    long, short = (
        f"{recorded_as(objective, window)}{{project={json.dumps(project)}}} > {limit}"
        for window in (burn.long, burn.short)
    )
    spent = burn.factor * burn.long / window
    spends = f"the error budget of {objective.name} burns more than {burn.factor:g} times too fast"
    lost = f"{spent:.0%} of the budget of {text_of(window)} is spent in {text_of(burn.long)}"
    return {
        "alert": f"Ecluse{objective.name.capitalize()}Burn{burn.factor:g}x".replace(".", "_"),
        "expr": f"{long} and {short}",
        "labels": {"severity": burn.severity, "project": project, "objective": objective.name},
        "annotations": {
            "summary": f"{project}: {spends}",
            "description": f"At that rate {lost}. The objective: {objective.says}.",
        },
    }


def _plain(project: str, fill: Callable[[str], str]) -> list[dict[str, Any]]:
    """Silence is an alert, and so is what no budget forgives."""
    told = [
        ("EcluseNoData", "absent(ecluse_ready$only)", "5m", "page", "no worker tells anything"),
        ("EcluseNotReady", "max(ecluse_ready$only) < 1", "2m", "page", "no worker is ready to answer"),
        ("EcluseJournal", "min(ecluse_journal_writable$only) < 1", "2m", "page", "a worker cannot write its journal"),
        (
            "EcluseDocument",
            "max(ecluse_document_refused$only) > 0",
            "5m",
            "ticket",
            "a worker refuses the published document",
        ),
        (
            "EcluseVersion",
            "max(ecluse_versions_not_loaded$only) > 0",
            "5m",
            "ticket",
            "a version that should serve could not be loaded",
        ),
    ]
    return [
        {
            "alert": name,
            "expr": fill(expression),
            "for": wait,
            "labels": {"severity": severity, "project": project},
            "annotations": {"summary": f"{project}: {says}"},
        }
        for name, expression, wait, severity, says in told
    ]


def make_alertmanager(url: str, project: str) -> dict[str, Any]:
    """A configuration of Alertmanager that tells the receiver at ``url``: pages at once, tickets once a day. Raises InvalidInput."""
    if not url.startswith(("https://", "http://")):
        raise InvalidInput(f"{url!r} is no address", where="--webhook", cure="write https://…")
    told = {"webhook_configs": [{"url": url, "send_resolved": True, "http_config": {"follow_redirects": False}}]}
    page = {"matchers": ['severity="page"'], "receiver": "ecluse", "group_wait": "10s", "repeat_interval": "1h"}
    ticket = {"matchers": ['severity="ticket"'], "receiver": "ecluse", "group_wait": "5m", "repeat_interval": "24h"}
    return {
        "route": {"receiver": "ecluse", "group_by": ["project", "alertname"], "routes": [page, ticket]},
        "inhibit_rules": [
            {
                "source_matchers": ['alertname="EcluseNoData"', f"project={json.dumps(project)}"],
                "target_matchers": ['alertname!="EcluseNoData"', f"project={json.dumps(project)}"],
            }
        ],
        "receivers": [{"name": "ecluse", **told}],
    }


def to_yaml(value: object, indent: int = 0) -> str:
    """Mappings, lists and scalars as YAML: strings as JSON writes them, so that nothing is ever read as something else.

    >>> print(to_yaml({"groups": [{"name": "a", "rules": []}]}), end="")
    "groups":
      - "name": "a"
        "rules": []
    """
    pad = "  " * indent
    if isinstance(value, Mapping) and value:
        return "".join(f"{pad}{json.dumps(key)}:{_nested(each, indent)}" for key, each in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str) and value:
        return "".join(f"{pad}- {to_yaml(each, indent + 1).lstrip()}" for each in value)
    return f"{pad}{json.dumps(value, ensure_ascii=False)}\n"


def _nested(value: object, indent: int) -> str:
    flat = not value or isinstance(value, str | int | float | bool)
    return f" {to_yaml(value)}" if flat else f"\n{to_yaml(value, indent + 1)}"
