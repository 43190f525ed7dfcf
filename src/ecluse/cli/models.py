"""Commands about models: train, runs, versions, show, gate, prune."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

from ecluse.cli.console import Argument, Group, Option, Reply, Shell, printable, table, verdict_table
from ecluse.core.errors import InvalidInput
from ecluse.core.instants import format_instant, parse_instant
from ecluse.core.version import ModelVersion, Run, Stage

ModelName = Annotated[str | None, Option("--model", "-m", help="which model (needed when there are several)")]
Number = Annotated[int, Argument(help="version number")]
Sort = Annotated[str | None, Option("--sort", help="a metric, best first (-name: worst first)")]
Limit = Annotated[int, Option("--limit", "-n", min=1, help="at most so many")]


def train(
    shell: Shell,
    *,
    model: ModelName = None,
    register_: Annotated[
        bool | None, Option("--register/--no-register", help="make the run a version (policy decides)")
    ] = None,
    set_: Annotated[list[str] | None, Option("--set", help="hyperparameter, as name=value")] = None,
    as_of: Annotated[str | None, Option("--as-of", help="train on what was known then (now)")] = None,
    dry_run: Annotated[bool, Option("--dry-run", help="compute the bundle's digest, record nothing")] = False,
    drill: Annotated[
        bool, Option("--drill", help="train on shuffled labels: a candidate the gates must refuse")
    ] = False,
    plots: Annotated[bool, Option("--plots/--no-plots", help="make plots and mirror to MLflow afterwards")] = True,
) -> Reply:
    """Train on the snapshots known now: deterministic, with metrics, a parity-checked bundle and a seal."""
    app = shell.app
    name = app.project.model(model).name
    shell.say(f"training {name}")
    moment = parse_instant(as_of, where="--as-of") if as_of else None
    trained = app.train(name, parameters=_parameters(set_), moment=moment, dry_run=dry_run, permute_labels=drill)
    if trained.run is None:
        waits = f"\n\nwaits for labels until {format_instant(trained.waits_until)}" if trained.waits_until else ""
        return Reply(trained, verdict_table(trained.verdict) + waits, refused=True)
    run = trained.run
    policy = app.settings.for_model(name).policy.register
    wanted = register_ if register_ is not None else policy == "automatic"
    version = app.register(run.id) if wanted and not dry_run else None
    if plots and not dry_run:
        shell.say("making plots")
        app.after_release(run.id)
        _mirror(shell)
    return Reply({"run": run, "version": version, "bundle": run.bundle}, _trained(run, version))


def _mirror(shell: Shell) -> None:
    from ecluse.core.errors import EcluseError

    try:
        shell.app.mirror()
    except EcluseError as error:  # the mirror is off the way to a release: it catches up later
        shell.say(f"the MLflow mirror is behind: {error}")


def _trained(run: Run, version: ModelVersion | None) -> str:
    judged = ", ".join(f"{name} {value:.4f}" for name, value in _main_metrics(run).items())
    rows = " + ".join(f"{count:,} {part}" for part, count in run.rows.items())
    name = f"version {version.number}" if version else "no version (register it with `ecluse versions --register RUN`)"
    return f"run {run.id[:12]} · dataset {run.dataset[:8]} · {rows} rows · {judged} · bundle {run.bundle[:12]} · {name}"


def _main_metrics(run: Run) -> Mapping[str, float]:
    validation = {k: v for k, v in run.metrics.get("validation", {}).items() if v is not None}
    first = [
        n for n in ("roc_auc", "pr_auc", "log_loss", "macro_f1", "accuracy", "rmse", "mae", "r2") if n in validation
    ]
    return {name: validation[name] for name in first[:3]}


def _parameters(given: list[str] | None) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for text in given or ():
        name, equals, value = text.partition("=")
        if not equals:
            raise InvalidInput(f"--set {text!r}", cure="write --set name=value")
        try:
            out[name] = json.loads(value)
        except ValueError:
            out[name] = value
    return out


def runs(
    shell: Shell,
    *,
    model: ModelName = None,
    sort: Sort = None,
    where: Annotated[list[str] | None, Option("--where", help='filter: "roc_auc>0.8" or "learning_rate=0.1"')] = None,
    limit: Limit = 20,
) -> Reply:
    """Trainings, newest first, with their metrics; filter, sort and compare."""
    every = [
        run for run in reversed(shell.app.world.state.runs(model)) if all(_matches(run, each) for each in where or ())
    ]
    chosen = _sorted(every, sort)[:limit]
    names = _metric_names(chosen, sort)
    rows = [_run_row(run, names) for run in chosen]
    return Reply(chosen, table(["run", "model", "started", "dataset", "seconds", *names, "by"], rows))


def versions(
    shell: Shell,
    *,
    model: ModelName = None,
    stage: Annotated[str | None, Option("--stage", help="only this stage")] = None,
    sort: Sort = None,
    limit: Limit = 50,
    register_: Annotated[str | None, Option("--register", metavar="RUN", help="make this run a version first")] = None,
) -> Reply:
    """Registered versions with stage, metrics and threshold; the champion is in Production."""
    app = shell.app
    if register_:
        app.register(register_)
    state = app.world.state
    if stage is not None and stage.lower() not in (stages := [each.value.lower() for each in Stage]):
        raise InvalidInput(f"--stage {stage}", cure="choose among " + ", ".join(stages))
    every = [v for v in state.versions(model) if stage is None or v.stage.value.lower() == stage.lower()]
    of = {v.run: state.run(v.run) for v in every}
    order = [run.id for run in _sorted(list(of.values()), sort)] if sort else []
    every.sort(key=lambda v: order.index(v.run) if sort else -v.number)
    names = _metric_names(list(of.values()), sort)
    rows = [_version_row(version, of[version.run], names) for version in every[:limit]]
    return Reply(every[:limit], table(["model", "version", "stage", "threshold", *names, "run", "bundle"], rows))


def show(
    shell: Shell,
    *,
    number: Number,
    model: ModelName = None,
    against: Annotated[int | None, Option("--against", help="compare with this version")] = None,
) -> Reply:
    """One version: where it came from, its metrics for train and validation, segments, gate report."""
    state = shell.app.world.state
    name = shell.model(model)
    version = state.version(name, number)
    run = state.run(version.run)
    report = state.report(name, number)
    facts = {
        "stage": version.stage.value, "run": run.id, "started": format_instant(run.started), "dataset": run.dataset, "recipe": run.recipe,
        "bundle": version.bundle, "threshold": version.threshold, **run.facts,
    }  # fmt: skip
    text = f"{name} version {number}\n\n" + "\n".join(
        f"  {key:<12} {printable(str(value))}" for key, value in facts.items()
    )
    parts = {**run.metrics}
    if against is not None:
        other = state.run(state.version(name, against).run)
        parts[f"validation of {against}"] = other.metrics.get("validation", {})
    metrics = sorted({m for each in parts.values() for m in each})
    text += "\n\n" + table(["metric", *parts], [(m, *(each.get(m) for each in parts.values())) for m in metrics])
    text += "\n\n" + table(["parameter", "value"], sorted(run.parameters.items()))
    if run.segments:
        shown = _metric_names([run], None)
        text += "\n\n" + table(["segment", *shown], [(s, *(m.get(n) for n in shown)) for s, m in run.segments.items()])
    if report is not None:
        text += "\n\n" + verdict_table(report.verdict)
    return Reply({"version": version, "run": run, "report": report}, text)


def gate(
    shell: Shell,
    *,
    number: Number,
    model: ModelName = None,
    dry_run: Annotated[bool, Option("--dry-run", help='only answer "why would this be refused?"')] = False,
) -> Reply:
    """Judge a version against its gates and the champion, on rows neither was trained on."""
    report = shell.app.gate(shell.model(model), number, dry_run=dry_run)
    passed = sum(f.passed for f in report.verdict.findings)
    total = len(report.verdict.findings)
    sentence = f"{total} findings, {passed} passed: " + (
        "may be promoted" if report.verdict.passed else "may not be promoted"
    )
    return Reply(report, verdict_table(report.verdict) + "\n\n" + sentence, refused=not report.verdict.passed)


def prune(
    shell: Shell,
    *,
    model: ModelName = None,
    dry_run: Annotated[bool, Option("--dry-run", help="only say what would be deleted")] = False,
) -> Reply:
    """Delete versions and journal segments that retention no longer keeps: never the champion, what can be rolled back to, a candidate or
    one held for audit, and no record a monitor still reads.
    """
    from ecluse.loop.journal import prune_journal

    app = shell.app
    gone = app.prune(shell.model(model), dry_run=dry_run)
    old = prune_journal(app.world, app.declared, app.settings, app.journal, dry_run)
    verb = "would be deleted" if dry_run else "deleted"
    rows = [(f"version {v.number}", v.bundle[:12], verb) for v in gone]
    rows += [(f"journal of {e.start.worker}", f"{e.records} records before {e.start.sequence + 1}", verb) for e in old]
    text = table(["what", "which", ""], rows) if rows else "nothing to prune"
    return Reply({"versions": gone, "journal": old}, text)


def _run_row(run: Run, metrics: list[str]) -> tuple[object, ...]:
    when = format_instant(run.started)[:16]
    by = run.facts.get("launched_by", "")
    return run.id[:12], run.model, when, run.dataset[:8], run.seconds, *(_metric(run, name) for name in metrics), by


def _version_row(version: ModelVersion, run: Run, metrics: list[str]) -> tuple[object, ...]:
    flags = (" (pruned)" if version.pruned else "") + (" (held)" if version.held else "")
    measured = (_metric(run, name) for name in metrics)
    stage = version.stage.value + flags
    return version.model, version.number, stage, version.threshold, *measured, version.run[:12], version.bundle[:12]


def _matches(run: Run, condition: str) -> bool:
    for sign in (">=", "<=", ">", "<", "="):
        name, found, text = condition.partition(sign)
        if found:
            break
    else:
        raise InvalidInput(f"--where {condition!r}", cure='write "roc_auc>0.8" or "learning_rate=0.1"')
    value = {**run.parameters, **run.metrics.get("validation", {}), "model": run.model}.get(name.strip())
    if value is None:
        return False
    if sign == "=" and not isinstance(value, int | float):
        return str(value) == text.strip()
    try:
        number, limit = float(value), float(text)
    except ValueError:
        raise InvalidInput(f"--where {condition!r}", cure="compare with a number") from None
    return {
        ">=": number >= limit,
        "<=": number <= limit,
        ">": number > limit,
        "<": number < limit,
        "=": number == limit,
    }[sign]


def _sorted(every: list[Run], sort: str | None) -> list[Run]:
    if not sort:
        return every
    name = sort.lstrip("-")
    known = sorted({metric for run in every for metric in run.metrics.get("validation", {})})
    if every and name not in known:
        raise InvalidInput(f"--sort {sort}", cure="choose among " + ", ".join(known))
    best_low = name in ("log_loss", "brier", "rmse", "mae", "mape", "calibration_error", "median_absolute_error")
    down = best_low == sort.startswith("-")
    return sorted(every, key=lambda run: _key(_metric(run, name), down), reverse=down)


def _key(value: float | None, down: bool) -> float:
    return value if value is not None else (float("-inf") if down else float("inf"))


def _metric(run: Run, name: str) -> float | None:
    return run.metrics.get("validation", {}).get(name)


def _metric_names(every: list[Run], sort: str | None) -> list[str]:
    names: dict[str, None] = {}
    for run in every[:3]:
        names |= dict.fromkeys(_main_metrics(run))
    if sort:
        names = {sort.lstrip("-"): None} | names
    return list(names)[:5]


def register(app: Group) -> None:
    """Add these commands."""
    for command in (train, runs, versions, show, gate, prune):
        app.add(command)
