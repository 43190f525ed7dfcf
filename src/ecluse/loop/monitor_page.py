"""Monitor page: a report as one HTML file that opens anywhere, its plots inline, nothing fetched and nothing run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from ecluse.core.errors import Unavailable
from ecluse.core.instants import format_instant
from ecluse.core.settings import Settings
from ecluse.core.verdict import Finding, Outcome
from ecluse.loop.monitor import MonitorReport
from ecluse.monitoring.plots import bars_svg, line_svg
from ecluse.monitoring.skew import Skew
from ecluse.monitoring.trend import INPUTS, MEAN, SCORES
from ecluse.monitoring.watch import FeatureShift, say

STYLE = """

:root{--ink:#1c2733;--soft:#5d6b7a;--line:#dde3e9;--page:#f6f8fa;--card:#fff;--now:#3b82c4;--was:#1c2733;--bad:#b42318;--good:#1f7a4d;--dim:#8a6d1a}
@media(prefers-color-scheme:dark){:root{--ink:#e6ebf0;--soft:#9aa8b6;--line:#313b46;--page:#12171d;--card:#1a2129;--now:#4d94d6;--was:#e6ebf0;--bad:#ff7b70;--good:#5cc796;--dim:#d7b65a}}
*{box-sizing:border-box}body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:1080px;margin:0 auto;padding:28px 20px 48px}h1{font-size:24px;margin:0 0 4px}h2{font-size:17px;margin:32px 0 10px}
p{margin:4px 0;color:var(--soft)}
.badge{font-size:13px;font-weight:600;padding:2px 10px;border-radius:12px;border:1px solid;vertical-align:4px;margin-left:8px}
.failed{color:var(--bad)}.passed{color:var(--good)}.inconclusive{color:var(--dim)}
table{border-collapse:collapse;width:100%;background:var(--card);border:1px solid var(--line);border-radius:6px}
th,td{text-align:left;padding:7px 12px;border-bottom:1px solid var(--line);vertical-align:top}tr:last-child td{border-bottom:0}
th{color:var(--soft);font-weight:500}th.n,td.n{text-align:right}td:nth-child(2){white-space:nowrap}td.n{font-variant-numeric:tabular-nums}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(300px,1fr));gap:14px}
.card{background:var(--card);border:1px solid var(--line);border-radius:6px;padding:12px 14px}.card.moved{border-color:var(--bad)}
.card h3{font-size:14px;margin:0 0 6px;display:flex;justify-content:space-between;gap:8px}.card p{font-size:13px}
svg{width:100%;height:auto;display:block}svg text{font:10px system-ui,sans-serif;fill:var(--soft)}.now{fill:var(--now);opacity:.75}
.was{fill:none;stroke:var(--was);stroke-width:1.2}.limit{stroke:var(--bad);stroke-dasharray:4 3}
polyline{fill:none;stroke:var(--now);stroke-width:1.8}circle{fill:var(--now)}
.key i{display:inline-block;width:12px;height:12px;vertical-align:-1px;margin:0 5px 0 12px}.key i.a{background:var(--now);opacity:.75}
.key i.b{border:1.2px solid var(--was)}
""".strip()
ORDER = {Outcome.FAILED: 0, Outcome.INCONCLUSIVE: 1, Outcome.PASSED: 2}


def monitor_page(report: MonitorReport, settings: Settings, skew: Skew | None = None) -> str:
    """The page of a report, with the skew of a sample where one was compared. ``settings`` give the limits drawn."""
    limits = settings.for_model(report.model).monitoring
    title = f"{report.model} version {report.version}"
    parts = [
        _head(title, report),
        _findings("What was asked", report.verdict.findings),
        _columns(report),
        _windows(report, {SCORES: limits.prediction_psi, INPUTS: limits.psi, **limits.performance}),
        _segments(report),
        _performance(report),
        _skew(skew) if skew is not None else "",
    ]
    meta = '<meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
    safe = "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
    head = f"<head>{meta}{safe}<title>{escape(title)}</title><style>{STYLE}</style></head>"
    return f'<!doctype html><html lang="en">{head}<body><main>{"".join(parts)}</main></body></html>\n'


def write_page(path: Path, page: str) -> None:
    """Write a page whole or not at all. Raises Unavailable."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(page, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise Unavailable(f"{path} cannot be written: {error.strerror}", cure="name another file") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _head(title: str, report: MonitorReport) -> str:
    window, outcome = report.window, _outcome(report.verdict.findings)
    word = {Outcome.FAILED: "drifted", Outcome.PASSED: "calm", Outcome.INCONCLUSIVE: "cannot be judged"}[outcome]
    span = f"{_time(window.first)} to {_time(window.last)}" if window.rows else "no predictions"
    others = ", ".join(
        f"version {number}: {rows:,}" for number, rows in window.versions.items() if number != report.version
    )
    lines = [f"{window.rows:,} predictions, {span}" + (f" (beside {others})" if others else "")]
    if window.degraded:
        lines.append(f"{window.degraded:,} answers were made with features missing")
    lines.append(f"judged {format_instant(report.made)}" + (f", ledger row {report.event}" if report.event else ""))
    badge = f'<span class="badge {outcome.value}">{word}</span>'
    return f"<h1>{escape(title)}{badge}</h1>" + "".join(f"<p>{escape(line)}</p>" for line in lines)


def _outcome(findings: Iterable[Finding]) -> Outcome:
    return min((each.outcome for each in findings), key=lambda outcome: ORDER[outcome], default=Outcome.INCONCLUSIVE)


def _time(text: str) -> str:
    return text[:16].replace("T", " ") + " UTC"


def _findings(title: str, findings: Sequence[Finding]) -> str:
    rows = [
        [_word(each.outcome), escape(each.check.replace("_", " ")), escape(each.subject), escape(each.why)]
        for each in sorted(findings, key=lambda each: ORDER[each.outcome])
    ]
    return f"<h2>{title}</h2>" + _table(["", "check", "of", "finding"], rows)


def _word(outcome: Outcome) -> str:
    return f'<span class="{outcome.value}">{outcome.value}</span>'


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], numbers: frozenset[int] = frozenset()) -> str:
    def cell(place: int, text: str) -> str:
        return f'<td class="n">{text}</td>' if place in numbers else f"<td>{text}</td>"

    head = "".join(f'<th class="n">{each}</th>' if i in numbers else f"<th>{each}</th>" for i, each in enumerate(heads))
    body = "".join("<tr>" + "".join(cell(i, each) for i, each in enumerate(row)) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _columns(report: MonitorReport) -> str:
    shifts = sorted(report.shifts.values(), key=lambda each: (not each.moved, -each.effects.get("psi", 0.0), each.name))
    cards = [_card("score", report.scores, report)] if report.scores is not None else []
    cards += [_card(each.name, each, report) for each in shifts]
    key = '<p class="key"><i class="a"></i>this window<i class="b"></i>what the version was trained on; outlined red: moved</p>'
    return f'<h2>Scores and inputs</h2>{key}<div class="grid">{"".join(cards)}</div>' if cards else ""


def _card(name: str, shift: FeatureShift, report: MonitorReport) -> str:
    said = [
        f'<b class="failed">{escape(say(each, value))}</b>' if each in shift.moved else escape(say(each, value))
        for each, value in shift.measured.items()
    ]
    moved, bars = bool(shift.moved), report.bars.get(name)
    mark = '<span class="failed">moved</span>' if moved else ""
    plot = bars_svg(bars, name) if bars is not None else ""
    return (
        f'<div class="card{" moved" if moved else ""}"><h3><span>{escape(name)}</span>{mark}</h3>{plot}'
        f"<p>{' · '.join(said)}</p></div>"
    )


def _windows(report: MonitorReport, limits: dict[str, float]) -> str:
    if len(report.windows) < 2:
        return ""
    words = {SCORES: "PSI of the scores", INPUTS: "mean PSI of the inputs", MEAN: "mean score, in deviations"}
    names = list(dict.fromkeys(name for each in report.windows for name in each.values))
    cards = []
    for name in names:
        values = [each.values.get(name) for each in report.windows]
        title = words.get(name, name)
        plot = line_svg(values, title, limit=limits.get(name) or None)
        cards.append(f'<div class="card"><h3><span>{escape(title)}</span></h3>{plot}</div>')
    return f'<h2>The last {len(report.windows)} windows</h2><div class="grid">{"".join(cards)}</div>'


def _segments(report: MonitorReport) -> str:
    if not report.segments:
        return ""
    rows = [
        [
            escape(each.segment),
            f"{each.rows:,}",
            f"{len(each.drifted)} of {len(each.shifts)}",
            escape(", ".join(each.drifted)),
        ]
        for each in sorted(report.segments, key=lambda each: (-len(each.drifted), each.segment))
    ]
    return "<h2>Segments</h2>" + _table(["segment", "rows", "inputs that moved", ""], rows, frozenset({1}))


def _performance(report: MonitorReport) -> str:
    known = report.performance
    if not known.joined:
        return f"<h2>Performance</h2><p>no truth has arrived; {known.waiting:,} predictions wait for theirs</p>"
    rows = [[escape(name.replace("_", " ")), f"{value:.4g}"] for name, value in known.metrics.items()]
    text = f"<p>{known.joined:,} predictions with their truth, {known.waiting:,} wait</p>"
    return f"<h2>Performance</h2>{text}" + _table(["metric", "realised"], rows, frozenset({1}))


def _skew(skew: Skew) -> str:
    left = ", ".join(f"{rows:,}: {reason}" for reason, rows in skew.left_out.items())
    text = f"<p>{skew.compared:,} of the newest {skew.sample:,} predictions recomputed" + (
        f" (left out {left})" if left else ""
    )
    rows = [
        [escape(each.view), f"{each.rows:,}", f"{each.median / 3600:,.1f} h", f"{each.longest / 3600:,.1f} h"]
        for each in skew.staleness
    ]
    ages = _table(["view", "used", "median age when served", "longest"], rows, frozenset({1, 2, 3})) if rows else ""
    return _findings("Served against recomputed", skew.verdict.findings) + text + "</p>" + ages
