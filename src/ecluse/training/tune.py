"""Tuning: what a choice of parameters scores on folds inside the rows trained on. Rows held out for the gates are never looked at.

Split by entity, each entity is in one fold; split by time, every fold is judged by a model of what was known before it began.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from ecluse.core.codec import to_plain
from ecluse.core.errors import InvalidInput
from ecluse.core.recipe import held_position
from ecluse.core.settings import Training
from ecluse.core.verdict import Verdict
from ecluse.training.contract import judge_frame
from ecluse.training.evaluate import Judged, metrics_of
from ecluse.training.make import AT, KEY, Job, declared_costs
from ecluse.training.onnx_source import OnnxFile
from ecluse.training.schema import make_features
from ecluse.training.split import make_split, masks
from ecluse.training.target import make_target
from ecluse.training.threshold import choose_threshold
from ecluse.training.train import build, fit, predictor

Mask = npt.NDArray[np.bool_]


class Fold(NamedTuple):
    """Rows to fit on and rows to judge on, disjoint boolean arrays (n,)."""

    fitted: Mask
    judged: Mask


@dataclass(frozen=True)
class Bench:
    """The rows trained on, alone (``job``), and their folds; ``verdict`` is that of the training frame: unless it passed there are none."""

    job: Job
    folds: tuple[Fold, ...]
    verdict: Verdict


def make_bench(job: Job, count: int) -> Bench:
    """Take away the rows held out, and cut the rest into ``count`` folds (fewer where a split by time has fewer moments). O(n log n).

    Raises InvalidInput for fewer than two folds, rows that cannot be split, or a model that is not fitted here.
    """
    if count < 2:
        raise InvalidInput(f"{count} folds", where="tune", cure="judge on at least 2")
    training, at = job.settings.training, job.frame[AT]
    if isinstance(build(job.model, job.parameters, training.seed), OnnxFile):
        raise InvalidInput(
            "a model from an ONNX file is not fitted here", where=f"model {job.model.name}", cure="tune it where it is"
        )
    split = make_split(training, job.frame[KEY], at, job.model.predicts.delay)
    trained, held = masks(split, job.frame[KEY], at, training)
    target = make_target(job.y, job.model.task, trained)
    views = [view.name for view in job.model.features]
    verdict = judge_frame(
        job.model.name, job.model.task, job.frame, target, trained, held, views, job.settings.training.frame
    )
    kept = pl.Series(trained)
    own = replace(job, frame=job.frame.filter(kept), y=job.y.filter(kept))
    if not verdict.passed:
        return Bench(own, (), verdict)
    return Bench(own, make_folds(own.frame, training, job.model.predicts.delay, count), verdict)


def make_folds(frame: pl.DataFrame, training: Training, delay: timedelta, count: int) -> tuple[Fold, ...]:
    """Folds over rows with ``__key`` and ``__at``. By time, what stands before the first fold is only fitted on, and what was not known
    (``delay``, or the declared embargo) when a fold began is not; a single moment is split by entity.
    """
    moments = frame[AT].dt.timestamp("us").to_numpy()
    if training.split == "time" and np.unique(moments).size > 2:
        return _by_time(moments, training, delay, count)
    keys = frame[KEY]
    places = np.array([int(held_position(f"fold/{key}") * count) for key in keys.to_list()])
    return tuple(Fold(places != fold, places == fold) for fold in range(count))


def _by_time(moments: npt.NDArray[np.int64], training: Training, delay: timedelta, count: int) -> tuple[Fold, ...]:
    distinct, rows = np.unique(moments, return_counts=True)
    shares = np.cumsum(rows)[:-1] / rows.sum()
    places = {int(np.argmin(np.abs(shares - fold / (count + 1)))) for fold in range(1, count + 1)}
    starts = sorted(places)
    folds = []
    for place, following in zip(starts, [*starts[1:], distinct.size - 1], strict=True):
        begin, last = int(distinct[place + 1]), int(distinct[following])
        gap = int((delay if training.embargo is None else training.embargo) / timedelta(microseconds=1))
        # What was known when the fold began: by default, truths of moments at least `delay` before it.
        until = min(int(distinct[place]), begin - gap) if training.embargo is None else int(distinct[place]) - gap
        folds.append(Fold(moments <= until, (moments >= begin) & (moments <= last)))
    return tuple(fold for fold in folds if fold.fitted.any() and fold.judged.any())


def score_fold(job: Job, fold: Fold) -> float:
    """The declared metric of ``job.parameters`` on one fold: fitted, answered and judged as a training does it, by the estimator itself.

    Raises InvalidInput when the fit fails or the metric cannot be measured there.
    """
    model, settings = job.model, job.settings
    seed = settings.training.seed
    fitted, judged = job.frame.filter(pl.Series(fold.fitted)), job.frame.filter(pl.Series(fold.judged))
    features = make_features(model, fitted)
    target = make_target(job.y, model.task, fold.fitted)
    estimator = fit(model, job.parameters, fitted, target.values[fold.fitted], seed, features=features)
    answers = predictor(estimator, features, model.task)(judged)
    y, costs = target.values[fold.judged], declared_costs(settings)
    if not np.isfinite(answers).all():
        raise InvalidInput("the model predicts NaN or infinity", where=f"model {model.name}", cure="impute before it")
    threshold = None
    if model.task == "binary":
        threshold = choose_threshold(settings.threshold, y.astype(np.int64), answers, costs)
    found = metrics_of(model.task, Judged(y, answers), threshold, costs).get(model.judged_by)
    if found is None:
        raise InvalidInput(
            f"{model.judged_by} cannot be measured on a fold of {y.size} rows", where="tune", cure="use fewer folds"
        )
    return float(found)


def fixed_of(job: Job) -> dict[str, object]:
    """Every setting a score depends on besides the parameters searched."""
    settings = job.settings
    return {name: to_plain(getattr(settings, name)) for name in ("training", "threshold", "costs")}
