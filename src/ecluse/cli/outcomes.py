"""The command about truths: what was predicted, how well it turned out, what is expected of the rest, and which truths were not used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from ecluse.cli.console import Group, Option, Reply, Shell, table, verdict_table
from ecluse.cli.models import ModelName
from ecluse.core.instants import format_instant, from_micros

if TYPE_CHECKING:
    from ecluse.loop.outcomes import OutcomesReport
    from ecluse.monitoring.told import Held

SHOWN = 200


def outcomes(
    shell: Shell,
    *,
    model: ModelName = None,
    held: Annotated[bool, Option("--quarantine", help="list the truths that are not used, and why")] = False,
) -> Reply:
    """Realised performance per version, arm and segment, estimated performance of what is not known yet, and what became of every truth."""
    from ecluse.loop.outcomes import quarantine, sentence

    name = shell.model(model)
    if held:
        found = quarantine(shell.app.world, shell.app.declared, name)
        rows = [_row(each) for each in found.quarantine[:SHOWN]]
        text = sentence(found.counts) + "\n\n" + table(["reason", "from", "about", "value", "known", "why"], rows)
        if (more := len(found.quarantine) - SHOWN) > 0:
            text += f"\n… and {more:,} more: --json has them all"
        return Reply(
            {"model": name, "counts": found.counts, "quarantine": [_plain(each) for each in found.quarantine]}, text
        )
    report = shell.app.outcomes(name)
    return Reply(report, _text(report), refused=report.verdict.breached)


def _plain(each: Held) -> dict[str, object]:
    told = each.told
    entity, at = (None, None) if isinstance(told.about, str) else (told.about[0], _moment(told.about[1]))
    return {
        "reason": each.reason,
        "source": told.source,
        "request_id": told.about if isinstance(told.about, str) else None,
        "entity": entity,
        "at": at,
        "value": told.value,
        "known_at": _moment(told.known),
        "why": each.why,
    }


def _row(each: Held) -> tuple[str, ...]:
    told = each.told
    about = told.about if isinstance(told.about, str) else f"{told.about[0]} {_moment(told.about[1])}"
    return each.reason, told.source, about, str(told.value), _moment(told.known), each.why


def _moment(micros: int) -> str:
    return format_instant(from_micros(micros))


def _text(report: OutcomesReport) -> str:
    from ecluse.loop.outcomes import sentence

    names = sorted({metric for each in report.versions.values() for metric in each.metrics})
    rows = [
        (number, each.joined, each.waiting, *(each.metrics.get(n) for n in names))
        for number, each in report.versions.items()
    ]
    said = [table(["version", "with truth", "waiting", *names], rows), sentence(report.counts)]
    said += [each for each in (_parts(report), _estimated(report)) if each]
    said += [verdict_table(each) for each in (report.verdict, report.estimates) if each.findings]
    return "\n\n".join(said)


def _parts(report: OutcomesReport) -> str:
    """Metrics with an interval: of each version as a whole, and of its arms and segments."""
    rows = [
        (number, what, known.joined, metric, known.metrics[metric], f"[{low:.3f}, {high:.3f}]")
        for number, what, known in [
            *((number, "all", each) for number, each in report.versions.items()),
            *((each.version, each.segment or f"arm {each.arm}", each.realised) for each in report.parts),
        ]
        for metric, (low, high) in known.intervals.items()
    ]
    return table(["version", "of", "with truth", "metric", "realised", "90 %"], rows) if rows else ""


def _estimated(report: OutcomesReport) -> str:
    rows = [
        (number, each.rows, name, value, each.error.get(name), each.worst.get(name), len(each.windows))
        for number, each in report.estimated.items()
        for name, value in each.metrics.items()
    ]
    said = [f"version {number}: {each.why}" for number, each in report.estimated.items() if each.why]
    columns = ["version", "waiting", "metric", "estimated", "off by (mean)", "off by (worst)", "checked windows"]
    return "\n".join([*([table(columns, rows)] if rows else []), *said])


def register(app: Group) -> None:
    """Add this command."""
    app.add(outcomes)
