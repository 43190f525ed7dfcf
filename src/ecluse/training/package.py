"""Packaging: a fitted model becomes a Bundle, with everything a worker, a monitor and a gate need to know of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from ecluse.core.bundle import Bundle, make_bundle
from ecluse.core.codec import canonical, to_plain
from ecluse.core.model import Model
from ecluse.core.ports import Scorer
from ecluse.core.recipe import Recipe, Split
from ecluse.core.schema import Feature, Schema
from ecluse.core.snapshot import Dataset
from ecluse.stats.reference import Kind, Reference, describe
from ecluse.training.encode import encode
from ecluse.training.model_file import ModelFile
from ecluse.training.parity import Parity
from ecluse.training.target import Target

Array = npt.NDArray[np.float64]
SMOKE_ROWS = 32
OpenScorer = Callable[[Bundle], Scorer]


@dataclass(frozen=True)
class Origin:
    """What a bundle was made from."""

    model: Model
    recipe: Recipe
    dataset: Dataset
    split: Split


def sketch(origin: Origin, file: ModelFile, schema: Schema) -> Bundle:
    """The model and its schema alone: enough to open a scorer and measure what will serve, before the rest is known."""
    files = {f"model.{file.scorer}": file.data, "schema.json": canonical(schema)}
    return _bundle(origin, file, files)


def package(
    origin: Origin,
    file: ModelFile,
    schema: Schema,
    *,
    reference: Reference,
    smoke: Mapping[str, Any],
    parity: Parity | None,
) -> Bundle:
    """The Bundle: model, schema, declaration, dataset, recipe, reference, smoke rows and parity, all canonical. ``parity`` is None only
    for a model trained elsewhere, which has no source to compare with.
    """
    compared: Mapping[str, object] = {"compared": False} if parity is None else {"compared": True, **to_plain(parity)}
    documents: dict[str, object] = {
        "schema.json": schema,
        "declaration.json": origin.model,
        "dataset.json": origin.dataset,
        "recipe.json": origin.recipe,
        "reference.json": reference,
        "smoke.json": smoke,
        "parity.json": compared,
    }
    files = {f"model.{file.scorer}": file.data} | {name: canonical(value) for name, value in documents.items()}
    return _bundle(origin, file, files)


def make_reference(
    model: Model,
    schema: Schema,
    frame: pl.DataFrame,
    target: Target,
    trained: npt.NDArray[np.bool_],
    held_scores: Array,
) -> Reference:
    """Reference statistics: raw inputs (stored and request fields, no instants) and target on the rows trained on, scores on held ones."""
    rows = frame.filter(pl.Series(trained))
    kinds: dict[str, Kind] = {name: kind for name, kind in model.raw_kinds.items() if kind != "instant"}
    columns = {name: rows[name].to_list() for name in kinds}
    if schema.task == "multiclass":
        scores: Any = [schema.classes[code] for code in held_scores.argmax(axis=1)]
    else:
        scores = held_scores[:, 0]
    return describe(columns, kinds, scores, target.named(trained))


def smoke_rows(
    frame: pl.DataFrame, features: Sequence[Feature], scorer: Scorer, seed: int
) -> dict[str, list[dict[str, Any]]]:
    """Some rows with the scorer's answers, seeded: what a worker must answer alike before the version may serve.

    At least 20; rows are drawn again where fewer are held out.
    """
    rng = np.random.default_rng(seed)
    places = np.sort(rng.choice(frame.height, min(SMOKE_ROWS, frame.height), replace=False))
    if places.size < SMOKE_ROWS:
        places = np.resize(places, SMOKE_ROWS)
    rows = frame.select(feature.name for feature in features)[places.tolist()]
    answers = scorer.score(encode(rows, features))
    return {
        "rows": [
            {"inputs": inputs, "answer": answer}
            for inputs, answer in zip(rows.to_dicts(), answers.tolist(), strict=True)
        ]
    }


def _bundle(origin: Origin, file: ModelFile, files: Mapping[str, bytes]) -> Bundle:
    return make_bundle(
        model=origin.model.name,
        scorer=file.scorer,
        recipe=origin.recipe.digest,
        dataset=origin.dataset.digest,
        split=origin.split,
        files=files,
    )
