"""The process of trials: ``python -m ecluse.tuner``, started by ``loop/tune.py``, ended with it. Here user code runs, and nowhere above.

It opens the project, cuts the folds once and says what is to be searched; then it reads a line of JSON for each trial (``number``,
``parameters``) and answers a line for each fold; after a fold it is told whether to ``go`` on. When stdin closes the search is gone.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

from ecluse.adapters.child_process import answers_only
from ecluse.app import App, open_app
from ecluse.core.codec import digest, to_plain
from ecluse.core.errors import EcluseError, InvalidInput, Unsupported
from ecluse.core.instants import parse_instant
from ecluse.core.tuning import Question
from ecluse.loop.labelled import labelled_rows
from ecluse.stats.catalog import metric_of
from ecluse.training.make import Job, Y
from ecluse.training.parameters import choose_parameters
from ecluse.training.tune import Bench, fixed_of, make_bench, score_fold


def main() -> None:
    """Prepare, say hello, and answer trials until stdin closes."""
    asked = _arguments()
    answers = answers_only()
    lines: queue.Queue[dict[str, Any]] = queue.Queue()
    threading.Thread(target=_read, args=(lines,), daemon=True).start()

    def say(facts: dict[str, Any]) -> None:
        answers.write(json.dumps(facts).encode() + b"\n")
        answers.flush()

    try:
        bench, question = prepare(open_app(asked.project, profile=asked.profile), asked.model, asked.folds, asked.as_of)
    except EcluseError as error:
        say({"error": {"kind": type(error).__name__, "what": error.what, "where": error.where, "cure": error.cure}})
        sys.exit(error.exit_code)
    say({"question": to_plain(question), "verdict": to_plain(bench.verdict)})
    while True:
        order = lines.get()
        _answer(bench, order["parameters"], say, lines)


def prepare(app: App, model_name: str, folds: int, as_of: str) -> tuple[Bench, Question]:
    """The rows known at a moment in folds, and what is searched over them. Raises as a training does."""
    project, settings = app.project, app.settings.for_model(model_name)
    model = project.model(model_name)
    metric = metric_of(model.task, model.judged_by)
    others = {name for each in project.models for name in each.parameters}
    start = choose_parameters(model, settings.parameters, others=others)
    rows = labelled_rows(app.world, project, model, parse_instant(as_of))
    if rows.frame.is_empty():
        raise InvalidInput(f"no mature label of {model.predicts.name}", where="tune", cure="ingest labels first")
    job = Job(model, settings, start, rows.dataset, rows.frame, rows.labels.frame[Y], project.code, app.root)
    bench = make_bench(job, folds)
    question = Question(
        model=model.name,
        metric=metric.name,
        greater=metric.greater_is_better,
        dataset=rows.dataset.digest,
        code=project.code,
        fixed=digest(fixed_of(job)),
        folds=len(bench.folds),
        seed=settings.training.seed,
        space=dict(model.parameters),
        start=start,
    )
    return bench, question


def _answer(bench: Bench, parameters: dict[str, Any], say: Any, lines: queue.Queue[dict[str, Any]]) -> None:
    for fold in bench.folds:
        try:
            score = score_fold(replace(bench.job, parameters=parameters), fold)
        except (InvalidInput, Unsupported) as error:
            say({"failed": str(error)})
            return
        say({"score": score})
        if not lines.get()["go"]:
            return


def _read(lines: queue.Queue[dict[str, Any]]) -> None:
    for line in sys.stdin.buffer:
        lines.put(json.loads(line))
    os._exit(0)  # also in the middle of a fit: nobody waits for it


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m ecluse.tuner")
    parser.add_argument("--project", type=Path, required=True)
    for name in ("profile", "model", "as-of"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--folds", type=int, required=True)
    return parser.parse_args()


if __name__ == "__main__":
    main()
