"""The command about hyperparameters: tune."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Annotated

from ecluse.cli.console import Group, Option, Reply, Shell, table, verdict_table
from ecluse.cli.models import ModelName
from ecluse.core.errors import EcluseError, InvalidInput
from ecluse.core.instants import parse_duration
from ecluse.core.tuning import Trial, Tuning
from ecluse.core.version import GateReport


def tune(
    shell: Shell,
    *,
    model: ModelName = None,
    trials: Annotated[int, Option("--trials", min=1, help="in all, those of a resumed search included")] = 20,
    workers: Annotated[int, Option("--workers", min=1, help="trials at once; 1 is repeatable")] = 1,
    folds: Annotated[int, Option("--folds", min=2, help="judge each trial on so many parts of the training rows")] = 3,
    timeout: Annotated[str | None, Option("--timeout", help='begin no trial after so long: "10m"')] = None,
    resume: Annotated[bool, Option("--resume", help="go on with the newest search")] = False,
    train: Annotated[
        bool, Option("--train", help="train a candidate with the best parameters and judge it by its gates")
    ] = False,
) -> Reply:
    """Search better hyperparameters on folds inside the training rows; what the gates judge on is never looked at."""
    from ecluse.adapters.tuner_optuna import opener
    from ecluse.loop.tune import Plan
    from ecluse.loop.tune import tune as search

    app = shell.app
    name = _meant(shell, model)
    seconds = parse_duration(timeout, where="--timeout").total_seconds() if timeout else None
    plan = Plan(trials, workers, seconds, folds, resume)
    shell.say(f"searching {name}: {trials} trials")
    tuned = search(
        app.world, app.settings, name, plan, opener(app.home), actor=app.actor, say=lambda t: shell.say(_line(t))
    )
    if tuned.tuning is None:
        nothing = {"tuning": None, "best": None, "new": 0, "gate": None, "verdict": tuned.verdict}
        return Reply(nothing, verdict_table(tuned.verdict), refused=True)
    report = _candidate(shell, tuned.tuning) if train else None
    if tuned.new or report is not None:
        _mirror(shell)
    text = _text(tuned.tuning) + ("" if report is None else f"\n\n{verdict_table(report.verdict)}")
    answer = {
        "tuning": tuned.tuning,
        "best": tuned.tuning.best,
        "new": tuned.new,
        "gate": report,
        "verdict": tuned.verdict,
    }
    return Reply(answer, text, refused=report is not None and not report.verdict.passed)


def _meant(shell: Shell, model: str | None) -> str:
    """The model; the declaration is the remembered one, so that no user code runs here."""
    try:
        return shell.model(model)
    except EcluseError:
        if model is None:
            raise
        return model  # declared since: the process of trials knows


def _candidate(shell: Shell, tuning: Tuning) -> GateReport:
    """A run with the best parameters from a process of its own, registered and judged. Raises InvalidInput when it was refused."""
    from ecluse.loop.child import Order, dismiss, give, spawn, wait_for

    if tuning.best is None:
        raise InvalidInput("no trial was complete", where="tune --train", cure="search longer: --resume")
    app, best, model = shell.app, tuning.trial(tuning.best), tuning.question.model
    shell.say(f"training a candidate with trial {best.number}")
    order = Order(app.root, app.settings.profile, model, tuning.ended, app.actor, parameters=best.parameters)
    orders = [order, replace(order, dry_run=True)] if app.settings.for_model(model).gates.reproducible else [order]
    children = [spawn(app.root) for _ in orders]
    try:
        for child, each in zip(children, orders, strict=True):
            give(child, each)
        ended, *again = [wait_for(child) for child in children]
    finally:
        for child in children:
            dismiss(child)
    if ended.code:
        raise InvalidInput(f"no candidate: {ended.why}", where="tune --train", cure="see `ecluse history`")
    run = ended.answer["run"]
    version = app.register(run["id"], reason=f"tuned: {tuning.study}, trial {best.number}")
    reproduced = again[0].answer.get("bundle") == run["bundle"] if again else None
    return app.gate(model, version.number, reproduced=reproduced)


def _mirror(shell: Shell) -> None:
    try:
        shell.app.mirror()
    except EcluseError as error:  # the mirror is off the way: it catches up later
        shell.say(f"the MLflow mirror is behind: {error}")


def _line(trial: Trial) -> str:
    what = trial.why if trial.state != "complete" else f"{trial.score:.4f}"
    return f"trial {trial.number}: {_said(trial)}: {what}"


def _said(trial: Trial) -> str:
    return ", ".join(f"{name}={json.dumps(value)}" for name, value in trial.parameters.items())


def _text(tuning: Tuning) -> str:
    question = tuning.question
    ranked = [trial for trial in tuning.trials if trial.score is not None]
    ranked.sort(key=lambda trial: (trial.score or 0.0) * (-1 if question.greater else 1))
    rows = [(trial.number, trial.score, _said(trial)) for trial in ranked[:5]]
    counts = ", ".join(
        f"{sum(trial.state == state for trial in tuning.trials)} {state}" for state in ("complete", "pruned", "failed")
    )
    lines = [table(["trial", question.metric, "parameters"], rows, title=f"{tuning.study}: {counts}")]
    if tuning.best is not None:
        best = tuning.trial(tuning.best).parameters
        kept = [f"{name} = {json.dumps(best[name])}" for name in question.searched]
        lines += ["", "to train with these from now on, in ecluse.toml:", "", "[parameters]", *kept]
    return "\n".join(lines)


def register(app: Group) -> None:
    """Add this command."""
    app.add(tune)
