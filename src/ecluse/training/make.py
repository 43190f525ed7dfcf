"""One training, from labelled rows to a packaged and judged model: split, contract, fit, compile, measure, threshold, parity, bundle.

Nothing here reads or writes the world; ``loop/retrain.py`` does. What is measured is what will serve: the packaged scorer's answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from ecluse.core.bundle import Bundle
from ecluse.core.codec import digest, to_plain
from ecluse.core.errors import InvalidInput
from ecluse.core.model import Model, Scalar
from ecluse.core.ports import Scorer
from ecluse.core.recipe import Recipe, Split
from ecluse.core.schema import Feature
from ecluse.core.settings import Settings
from ecluse.core.snapshot import Dataset
from ecluse.core.verdict import Verdict, judge
from ecluse.training.artifacts import coefficients
from ecluse.training.contract import judge_frame
from ecluse.training.encode import encode
from ecluse.training.evaluate import Judged, Metrics, metrics_of, segments_of
from ecluse.training.libraries import library_versions
from ecluse.training.model_file import ModelFile, model_file
from ecluse.training.onnx_source import OnnxFile
from ecluse.training.package import OpenScorer, Origin, make_reference, package, sketch, smoke_rows
from ecluse.training.parity import Parity, parity
from ecluse.training.schema import declared_features, make_features, make_schema
from ecluse.training.split import make_split, masks
from ecluse.training.target import Target, make_target
from ecluse.training.threshold import choose_threshold
from ecluse.training.train import build, fit, libraries_of, predictor

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
KEY, AT, Y, PREDICTION = "__key", "__at", "y", "__prediction"


@dataclass(frozen=True)
class Job:
    """What is to be trained. ``frame``: ``__key``, ``__at``, every feature and ``__event:<view>``; ``y``: the labels of its rows.

    ``settings`` are the model's own (``Settings.for_model``); ``code`` is the digest of the project's sources, ``root`` its folder.
    ``permute_labels`` is a drill: what is learnt from shuffled labels must be refused by the gates; the recipe says so.
    """

    model: Model
    settings: Settings
    parameters: Mapping[str, Scalar | None]
    dataset: Dataset
    frame: pl.DataFrame
    y: pl.Series
    code: str
    root: Path
    permute_labels: bool = False


@dataclass(frozen=True)
class Product:
    """What a training made. ``bundle`` is None when ``verdict`` did not pass (too few rows, or parity): then nothing may be recorded.

    ``held_out``: the rows judged on, with ``y`` and ``__prediction:<i>`` per output; ``facts`` what is worth recording beside.
    """

    verdict: Verdict
    rows: Mapping[str, int]
    bundle: Bundle | None = None
    recipe: Recipe | None = None
    metrics: Mapping[str, Metrics] = field(default_factory=dict)
    segments: Mapping[str, Metrics] = field(default_factory=dict)
    threshold: float | None = None
    held_out: pl.DataFrame | None = None
    coefficients: Mapping[str, Any] | None = None
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Rows:
    """The labelled rows with their roles."""

    split: Split
    target: Target
    trained: Mask
    held: Mask


@dataclass(frozen=True)
class _Fitted:
    """A fitted estimator with its bytes, features and the scorer that will serve."""

    estimator: Any
    features: tuple[Feature, ...]
    file: ModelFile
    origin: Origin
    scorer: Scorer


def make(job: Job, open_scorer: OpenScorer) -> Product:
    """Train. Raises InvalidInput (a fit that fails, NaN answers), Unsupported (a class of the user's own), DeclarationError."""
    rows = _roles(job)
    views = [view.name for view in job.model.features]
    limits = job.settings.training.frame
    verdict = judge_frame(
        job.model.name, job.model.task, job.frame, rows.target, rows.trained, rows.held, views, limits
    )
    counts = {"train": int(rows.trained.sum()), "validation": int(rows.held.sum())}
    if not verdict.passed:
        return Product(verdict, counts)
    fitted = _fit(job, rows, open_scorer)
    scores = {name: _scores(job, fitted, part) for name, part in (("train", rows.trained), ("validation", rows.held))}
    threshold = _threshold(job, rows, scores["validation"])
    compared = _parity(job, fitted, rows, threshold)
    verdict = judge(verdict.question, (*verdict.findings, *(compared.findings() if compared else ())))
    if not verdict.passed:
        return Product(verdict, counts)
    return Product(
        verdict,
        counts,
        bundle=_package(job, fitted, rows, scores["validation"], compared),
        recipe=fitted.origin.recipe,
        **_judgement(job, rows, scores, threshold),
        threshold=threshold,
        held_out=_held_out(job, rows, scores["validation"]),
        coefficients=coefficients(fitted.estimator),
        facts={"scorer": fitted.file.scorer} | ({"not_compiled": fitted.file.why} if fitted.file.why else {}),
    )


def _roles(job: Job) -> _Rows:
    keys, at, training = job.frame[KEY], job.frame[AT], job.settings.training
    split = make_split(training, keys, at, job.model.predicts.delay)
    trained, held = masks(split, keys, at, training)
    return _Rows(split, make_target(job.y, job.model.task, trained), trained, held)


def _fit(job: Job, rows: _Rows, open_scorer: OpenScorer) -> _Fitted:
    model, training = job.model, job.frame.filter(pl.Series(rows.trained))
    estimator = build(model, job.parameters, job.settings.training.seed)
    features = declared_features(model) if isinstance(estimator, OnnxFile) else make_features(model, training)
    y = rows.target.values[rows.trained]
    if job.permute_labels:
        y = np.random.default_rng(job.settings.training.seed).permutation(y)
    estimator = fit(
        model, job.parameters, training, y, job.settings.training.seed, features=features, estimator=estimator
    )
    file = model_file(estimator, features, model.task, classes=rows.target.classes, root=job.root)
    origin = Origin(model, make_recipe(job, libraries_of(estimator)), job.dataset, rows.split)
    scorer = open_scorer(sketch(origin, file, make_schema(model, features, rows.target.classes)))
    return _Fitted(estimator, features, file, origin, scorer)


def make_recipe(job: Job, libraries: frozenset[str]) -> Recipe:
    """Everything that determines the model but for the data."""
    settings = job.settings
    threshold: dict[str, object] = to_plain(settings.threshold)
    if settings.threshold.rule == "value":
        threshold["costs"] = to_plain(settings.costs)
    return Recipe(
        model=job.model.name,
        declaration=digest(job.model),
        code=job.code,
        parameters=dict(job.parameters),
        training=to_plain(settings.training) | ({"permuted_labels": True} if job.permute_labels else {}),
        threshold=threshold,
        libraries=library_versions(libraries),
    )


def _scores(job: Job, fitted: _Fitted, part: Mask) -> Array:
    answers = np.asarray(fitted.scorer.score(encode(job.frame.filter(pl.Series(part)), fitted.features)))
    bad = int((~np.isfinite(answers)).any(axis=1).sum())
    if bad:
        name = type(fitted.estimator).__name__
        raise InvalidInput(
            f"{name} predicts NaN or infinity on {bad} of {len(answers)} rows",
            where=f"model {job.model.name}",
            cure='impute missing numbers, and give encoders handle_unknown="ignore" (encoder() and scaled_encoder() do both)',
        )
    return answers


def _threshold(job: Job, rows: _Rows, held_scores: Array) -> float | None:
    if job.model.task != "binary":
        return None
    y = rows.target.values[rows.held].astype(np.int64)
    return choose_threshold(job.settings.threshold, y, held_scores[:, 0], declared_costs(job.settings))


def declared_costs(settings: Settings) -> dict[str, float] | None:
    """The costs as metrics take them; None when none is declared."""
    costs = settings.costs
    if not costs.declared:
        return None
    return {
        "false_positive": costs.false_positive,
        "false_negative": costs.false_negative,
        "action_value": costs.action_value,
    }


def _parity(job: Job, fitted: _Fitted, rows: _Rows, threshold: float | None) -> Parity | None:
    if isinstance(fitted.estimator, OnnxFile):
        return None
    return parity(
        predictor(fitted.estimator, fitted.features, job.model.task),
        fitted.scorer,
        job.frame.filter(pl.Series(rows.held)),
        fitted.features,
        threshold=threshold,
        seed=job.settings.training.seed,
        limit=fitted.file.limit,
    )


def _package(job: Job, fitted: _Fitted, rows: _Rows, held_scores: Array, compared: Parity | None) -> Bundle:
    schema = make_schema(job.model, fitted.features, rows.target.classes)
    held = job.frame.filter(pl.Series(rows.held))
    return package(
        fitted.origin,
        fitted.file,
        schema,
        reference=make_reference(job.model, schema, job.frame, rows.target, rows.trained, held_scores),
        smoke=smoke_rows(held, fitted.features, fitted.scorer, job.settings.training.seed),
        parity=compared,
    )


def _judgement(job: Job, rows: _Rows, scores: Mapping[str, Array], threshold: float | None) -> dict[str, Any]:
    """Metrics of both parts, and per segment: ``plan=Basic`` of the held rows, ``train: plan=Basic`` of those trained on."""
    task, costs, gates = job.model.task, declared_costs(job.settings), job.settings.gates
    metrics: dict[str, Metrics] = {}
    segments: dict[str, Metrics] = {}
    for name, part, prefix in (("train", rows.trained, "train: "), ("validation", rows.held, "")):
        judged = Judged(rows.target.values[part], _flat(scores[name], task))
        frame = job.frame.filter(pl.Series(part))
        metrics[name] = metrics_of(task, judged, threshold, costs)
        segments |= segments_of(
            task,
            frame,
            judged,
            gates.segments,
            least=gates.segment_rows,
            threshold=threshold,
            costs=costs,
            prefix=prefix,
        )
    return {"metrics": metrics, "segments": segments}


def _flat(scores: Array, task: str) -> Array:
    return scores if task == "multiclass" else scores[:, 0]


def _held_out(job: Job, rows: _Rows, held_scores: Array) -> pl.DataFrame:
    part = pl.Series(rows.held)
    inputs: Sequence[str] = [*job.model.raw_kinds, *job.model.derived]
    answers = {f"{PREDICTION}:{i}": held_scores[:, i] for i in range(held_scores.shape[1])}
    frame = job.frame.filter(part).select(KEY, AT, *inputs)
    return frame.with_columns(
        pl.Series(Y, rows.target.values[rows.held]), *(pl.Series(n, v) for n, v in answers.items())
    )
