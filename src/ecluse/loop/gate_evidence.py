"""Gathering evidence for the gates: the candidate's held-out rows rebuilt from its own snapshots, both versions' answers on them, costs.

Nothing is taken on trust from the training: rows, labels and answers are computed anew from sealed bytes; only the metrics on the rows
trained on come from the run.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import polars as pl

from ecluse.core.bundle import Bundle
from ecluse.core.codec import from_plain
from ecluse.core.errors import Corrupt, DeclarationError, EcluseError, Unavailable
from ecluse.core.model import Model
from ecluse.core.ports import Scorer, World
from ecluse.core.project import Project
from ecluse.core.recipe import trained_on
from ecluse.core.schema import Schema
from ecluse.core.settings import FILE, Settings
from ecluse.core.snapshot import Dataset
from ecluse.core.version import ModelVersion
from ecluse.data.frame import KEY
from ecluse.data.labels import AT, Y
from ecluse.gates.evidence import Champion, Evidence
from ecluse.loop.dataset import current_dataset
from ecluse.loop.labelled import labelled_rows
from ecluse.loop.promote import check_seal
from ecluse.loop.segment_reference import write_segments
from ecluse.training.encode import encode
from ecluse.training.evaluate import segment_values
from ecluse.training.make import declared_costs
from ecluse.training.split import masks

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
ROWS, CALLS, WARM = 200, 3, 20


@dataclass(frozen=True)
class _Opened:
    """A verified bundle with what it declares."""

    bundle: Bundle
    model: Model
    schema: Schema
    dataset: Dataset
    scorer: Scorer


@dataclass(frozen=True)
class _Rows:
    """The rows judged on: features and moments, their codes or values; what was left out, what stands on both sides of the split."""

    frame: pl.DataFrame
    y: Array
    judged: Mask
    left_out: int
    overlap: int


def gather(
    world: World,
    project: Project,
    settings: Settings,
    version: ModelVersion,
    champion: int | None,
    reproduced: bool | None,
) -> Evidence:
    """Everything the gates look at. ``settings`` are the model's own.

    Raises NotFound (pruned bundle, missing snapshot), Corrupt (damaged bytes, another's seal), NotAllowed (a key that is not trusted),
    DeclarationError (a segment that is no feature), Unavailable. What is wrong with the *champion* raises nothing but Unavailable: it is
    evidence.
    """
    opened = _open(world, version)
    schema, features = opened.schema, opened.schema.features
    rows = _rows(world, project, settings, opened)
    matrix = encode(rows.frame, features)
    run = world.state.run(version.run)
    write_segments(world, version.bundle, opened.model, rows.frame, settings.gates.segments)
    return Evidence(
        task=schema.task,
        judged_by=opened.model.judged_by,
        y=rows.y,
        keys=rows.frame[KEY].to_numpy().astype(np.str_),
        answers=_answers(opened.scorer.score(matrix), schema),
        schema=schema,
        inputs=rows.frame.select(feature.name for feature in features),
        latency_ms=latency_ms(opened.scorer, matrix),
        bundle_bytes=sum(size for _, size in opened.bundle.manifest.files.values()),
        champion=None if champion is None else _champion(world, project, opened, rows, version, champion),
        threshold=version.threshold,
        trained_threshold=run.threshold,
        costs=declared_costs(settings),
        train=run.metrics.get("train", {}),
        segments={name: _segment(rows.frame, name) for name in settings.gates.segments},
        overlap=rows.overlap,
        overlap_of="entities" if opened.bundle.manifest.split.kind == "entity" else "rows",
        left_out=rows.left_out,
        at=rows.frame[AT].dt.epoch("us").cast(pl.Float64).to_numpy(),
        reproduced=reproduced,
        seed=settings.training.seed,
    )


def latency_ms(scorer: Scorer, matrix: Array) -> float:
    """What one row costs to score, in milliseconds: the 99th percentile over 200 rows; NaN without a row.

    A row's time is the quickest of three calls. Other work on the machine only ever adds to a call, and a gate must not refuse a version
    for what ran beside it: this is the version's own cost over its rows, not the tail a loaded server would show.
    """
    if not len(matrix):
        return float("nan")
    rows = [np.ascontiguousarray(matrix[i % len(matrix)][None, :]) for i in range(ROWS)]
    for row in rows[:WARM]:
        scorer.score(row)
    return float(np.quantile([min(_seconds(scorer, row) for _ in range(CALLS)) for row in rows], 0.99)) * 1_000


def _seconds(scorer: Scorer, row: Array) -> float:
    began = time.perf_counter()
    scorer.score(row)
    return time.perf_counter() - began


def _open(world: World, version: ModelVersion) -> _Opened:
    """The bundle of a version, seal and every byte checked before anything of it is parsed."""
    check_seal(world, version)
    # Ed25519 is deterministic: a seal of the one key this profile trusts is exactly what that key would sign again.
    if world.bundles.seal(version.bundle) != world.sealer.sign(version.bundle):
        raise Corrupt(f"the seal of version {version.number} is forged", where=version.model, cure="train again")
    bundle = world.bundles.get(version.bundle)
    model = from_plain(Model, bundle.document("declaration.json"), where="declaration.json")
    dataset = from_plain(Dataset, bundle.document("dataset.json"), where="dataset.json")
    return _Opened(bundle, model, bundle.schema, dataset, world.open_scorer(bundle))


def _rows(world: World, project: Project, settings: Settings, opened: _Opened) -> _Rows:
    found = labelled_rows(world, project, opened.model, opened.dataset.moment, opened.dataset)
    keys, at = found.frame[KEY], found.frame[AT]
    split, schema = opened.bundle.manifest.split, opened.schema
    trained, held = masks(split, keys, at, settings.training)
    y = _codes(found.labels.frame[Y], schema)
    judged = held & ~np.isnan(y)
    what = [KEY] if split.kind == "entity" else [KEY, AT]
    both = (found.frame.filter(pl.Series(part)).select(what).unique() for part in (trained, held))
    overlap = next(both).join(next(both), on=what, how="inner").height
    return _Rows(found.frame.filter(pl.Series(judged)), y[judged], judged, int(held.sum()) - int(judged.sum()), overlap)


def _codes(y: pl.Series, schema: Schema) -> Array:
    """Labels as numbers; NaN for a class the version does not know."""
    if schema.task != "multiclass":
        return y.cast(pl.Float64).to_numpy()
    codes = [float(code) for code in range(len(schema.classes))]
    return (
        y.replace_strict(list(schema.classes), codes, default=None, return_dtype=pl.Float64)
        .fill_null(np.nan)
        .to_numpy()
    )


def _answers(scores: Array, schema: Schema) -> Array:
    return scores if schema.task == "multiclass" else scores[:, 0]


def _champion(
    world: World, project: Project, candidate: _Opened, rows: _Rows, version: ModelVersion, number: int
) -> Champion:
    """The champion's answers on the candidate's rows; a champion that cannot be asked is said to be one."""
    schema: Schema | None = None
    try:
        production = world.state.version(version.model, number)
        opened = _open(world, production)
        schema = opened.schema
        if schema.task != candidate.schema.task:
            return Champion(number, schema, problem=f"it answers {schema.task}, not {candidate.schema.task}")
        frame = _frame_of(world, project, candidate, opened, rows)
        answers = _answers(opened.scorer.score(encode(frame, schema.features)), schema)
    except Unavailable:
        raise
    except EcluseError as problem:
        return Champion(number, schema, problem=str(problem))
    split = opened.bundle.manifest.split
    clean = [not trained_on(split, key, at) for key, at in rows.frame.select(KEY, AT).iter_rows()]
    aligned = align(answers, schema.classes, candidate.schema.classes)
    fresh = (rows.frame[AT] + candidate.model.predicts.delay > opened.dataset.moment).to_numpy()
    return Champion(number, schema, aligned, np.array(clean, dtype=np.bool_), production.threshold, fresh=fresh)


def align(answers: Array, old: tuple[str, ...], new: tuple[str, ...]) -> Array:
    """Answers (n, K) over the ``old`` classes in the order of the ``new`` ones: 0 for a class the old version never answers.

    >>> align(np.array([[0.2, 0.8]]), ("a", "b"), ("b", "c")).tolist()
    [[0.8, 0.0]]
    """
    if old == new:
        return answers
    places = {name: place for place, name in enumerate(old)}
    columns = [answers[:, places[name]] if name in places else np.zeros(len(answers)) for name in new]
    return np.stack(columns, axis=1)


def _frame_of(world: World, project: Project, candidate: _Opened, champion: _Opened, rows: _Rows) -> pl.DataFrame:
    """The champion's features on the judged rows. Tables only it reads are taken as they were known at the candidate's moment."""
    if champion.bundle.files["declaration.json"] == candidate.bundle.files["declaration.json"]:
        return rows.frame
    asked = replace(champion.model, predicts=candidate.model.predicts)
    dataset = candidate.dataset
    own = {table.name for table in project.tables_of(candidate.model)}
    others = [table for table in project.tables_of(asked) if table.name not in own]
    more = current_dataset(world, others, dataset.moment).snapshots if others else ()
    together = Dataset((*dataset.snapshots, *more), dataset.moment)
    return labelled_rows(world, project, asked, dataset.moment, together).frame.filter(pl.Series(rows.judged))


def _segment(frame: pl.DataFrame, column: str) -> npt.NDArray[np.str_]:
    known = [name for name in frame.columns if not name.startswith("__")]
    if column not in known:
        raise DeclarationError(
            f"no feature `{column}`", where=f"{FILE}: gates.segments", cure=f"features: {', '.join(known)}"
        )
    return segment_values(frame[column]).to_numpy().astype(np.str_)


def describe_rows(evidence: Evidence) -> Mapping[str, object]:
    """What a report says of the rows and costs it rests on."""
    champion = evidence.champion
    compared = None if champion is None or champion.clean is None else int(champion.clean.sum())
    return {
        "rows": evidence.rows,
        "rows_compared": compared,
        "left_out": evidence.left_out,
        "latency_ms": evidence.latency_ms if np.isfinite(evidence.latency_ms) else None,
        "bundle_bytes": evidence.bundle_bytes,
    }
