"""What we say to MLflow, as plain values: a run's parameters, metrics and tags; a version's inputs. Pure, without MLflow itself.

MLflow's names may hold letters, digits, ``_ - . : /`` and spaces, none may look like a path that leads elsewhere, none is longer than 250.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Literal

from ecluse.core.codec import digest_bytes
from ecluse.core.expression import AS_OF, Node
from ecluse.core.schema import Schema
from ecluse.core.verdict import Finding, Verdict
from ecluse.core.version import GateReport, Run

InputType = Literal["boolean", "string", "any"]
MAX_NAME, MAX_VALUE = 250, 6_000
_REFUSED = re.compile(r"[^\w\-.: ]")


def run_parameters(run: Run) -> dict[str, str]:
    """The hyperparameters as text."""
    return {plain_name(name): str(value)[:MAX_VALUE] for name, value in run.parameters.items()}


def run_metrics(run: Run) -> dict[str, float]:
    """``validation_roc_auc``, ``train_roc_auc``, ``segment/plan_type:Basic/roc_auc``, ``rows_train``, ``threshold``, ``seconds``.

    What could not be measured (None, NaN, infinite) is left out.
    """
    found: dict[str, float] = {}
    for name, value in _measured(run):
        if value is None or not math.isfinite(value):
            continue
        # two segments may differ only in characters MLflow refuses
        free = name not in found
        found[name if free else f"{name[: MAX_NAME - 7]}_{digest_bytes(repr((name, len(found))).encode())[:6]}"] = value
    return found


def run_tags(run: Run, owner: Mapping[str, str]) -> dict[str, str]:
    """Our own tags (``ecluse.*``: recipe, dataset, bundle and every fact) and those MLflow's pages read: source, commit, user."""
    facts = {f"ecluse.{name}": value for name, value in run.facts.items()}
    own = {
        "ecluse.run": run.id,
        "ecluse.model": run.model,
        "ecluse.recipe": run.recipe,
        "ecluse.dataset": run.dataset,
        "ecluse.bundle": run.bundle,
    }
    theirs = {
        "mlflow.source.name": "ecluse train",
        "mlflow.source.type": "PROJECT",
        "mlflow.user": run.facts.get("launched_by", ""),
        "mlflow.source.git.commit": run.facts.get("git_commit", ""),
    }
    every = {**facts, **own, **owner, **{name: value for name, value in theirs.items() if value}}
    return {plain_name(name): value[:MAX_VALUE] for name, value in every.items()}


def plain_name(text: str) -> str:
    """One part of a name: ``=`` becomes ``:``, whatever else MLflow refuses ``_``.

    >>> plain_name("plan_type=Très/cher"), plain_name("..")
    ('plan_type:Très_cher', '_..')
    """
    name = _REFUSED.sub("_", text.replace("=", ":"))[:MAX_NAME]
    return name if name.strip(". ") else f"_{name}"


def model_inputs(schema: Schema) -> dict[str, tuple[InputType, bool]]:
    """The columns ``predict`` takes: name -> (MLflow type, required), stored features and request fields first, then what may be derived.

    Any column may hold missing values. Numbers are ``any``: as ``double`` MLflow would refuse a column of integers, as ``long`` one with a
    missing value, and a caller who writes 40 for an age means 40.0. Instants are ``any``: MLflow's own type refuses those with a time zone.
    What the loader is then given it checks itself.
    """
    types: dict[str, InputType] = {"boolean": "boolean", "category": "string"}
    kinds = {feature.name: feature.kind for feature in schema.features}
    # an instant is no input of the scorer: only derived features read it, and they may be given instead
    inputs = {name: (types.get(kinds.get(name, ""), "any"), name in kinds) for name in schema.columns}
    inputs |= dict.fromkeys(schema.derived, ("any", False))
    if any(_reads_as_of(node) for node in schema.derived.values()):
        inputs["as_of"] = ("any", False)
    return inputs


def gate_word(verdict: Verdict) -> str:
    """``passed``, ``failed``, or ``inconclusive`` when nothing failed and yet not everything passed."""
    return "passed" if verdict.passed else "failed" if verdict.breached else "inconclusive"


def report_text(report: GateReport) -> str:
    """The report as a Markdown table, for people who look at it in MLflow."""
    champion = "no champion" if report.champion is None else f"version {report.champion}"
    head = f"# {report.model} version {report.version}: {gate_word(report.verdict)}\n\nCompared with {champion}.\n"
    lines = ["| check | subject | measured | limit | outcome | why |", "| --- | --- | --- | --- | --- | --- |"]
    lines += [f"| {' | '.join(_cells(finding))} |" for finding in report.verdict.findings]
    return head + "\n" + "\n".join(lines) + "\n"


def _measured(run: Run) -> Iterator[tuple[str, float | None]]:
    for part, metrics in run.metrics.items():
        yield from ((f"{plain_name(part)}_{plain_name(name)}"[:MAX_NAME], value) for name, value in metrics.items())
    for segment, metrics in run.segments.items():
        for name, value in metrics.items():
            tail = f"/{plain_name(name)}"
            yield f"segment/{plain_name(segment)[: MAX_NAME - len(tail) - 8]}{tail}", value
    yield from ((f"rows_{plain_name(part)}", float(count)) for part, count in run.rows.items())
    yield "threshold", run.threshold
    yield "seconds", run.seconds


def _reads_as_of(node: Node) -> bool:
    if node == AS_OF:
        return True
    return any(_reads_as_of(each) for each in vars(node).values() if hasattr(each, "__dataclass_fields__"))


def _cells(finding: Finding) -> tuple[str, ...]:
    cells = (finding.check, finding.subject, finding.measured, finding.limit, finding.outcome.value, finding.why)
    return tuple("" if cell is None else str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells)
