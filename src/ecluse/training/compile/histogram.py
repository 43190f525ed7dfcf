"""Histogram gradient boosting of scikit-learn: missing values and splits over sets of categories, in doubles."""

from __future__ import annotations

from typing import Any

import numpy as np

from ecluse.training.compile.answer import Answer, constant_rows, distribution
from ecluse.training.compile.column import Columns
from ecluse.training.compile.columns import check_numbers
from ecluse.training.compile.encoders import table_encoder
from ecluse.training.compile.graph import Graph
from ecluse.training.compile.tree import Tree
from ecluse.training.compile.trees import ensemble


def histogram_boosting(graph: Graph, model: Any, columns: Columns) -> Answer:
    """HistGradientBoostingClassifier and -Regressor; native categorical features by ``categorical_features``."""
    columns = _ordered(graph, model, columns)
    check_numbers(columns, type(model).__name__)
    known = _known(model)
    stages = [(k, predictor) for stage in model._predictors for k, predictor in enumerate(stage)]
    trees = [_tree(predictor, known) for _, predictor in stages]
    baseline = np.ravel(model._baseline_prediction).astype(np.float64)

    def score(scale: float) -> str:
        if not trees:
            return constant_rows(graph, scale * baseline)
        return ensemble(graph, columns, trees, [k for k, _ in stages], base=baseline, scale=scale)

    if hasattr(model, "classes_"):
        return distribution(graph, score, model.classes_)
    return Answer(graph.node("Exp", score(1.0)) if model.loss in ("poisson", "gamma") else score(1.0))


def _ordered(graph: Graph, model: Any, columns: Columns) -> Columns:
    """Categorical columns first, coded by the model's own encoder, as the fitted trees expect them."""
    if model.is_categorical_ is None:
        return columns
    chosen = tuple(c for c, flag in zip(columns, model.is_categorical_, strict=True) if flag)
    rest = tuple(c for c, flag in zip(columns, model.is_categorical_, strict=True) if not flag)
    encoder = model._preprocessor.named_transformers_["encoder"]
    return (table_encoder(graph, encoder, chosen) if chosen else ()) + rest


def _known(model: Any) -> dict[int, np.ndarray]:
    """For each categorical feature the 256 flags of the categories the trees know."""
    if model.is_categorical_ is None or not model.is_categorical_.any():
        return {}
    bits, rows = model._bin_mapper.make_known_categories_bitsets()
    return {int(i): _flags(bits[rows[i]]) for i in np.flatnonzero(model._is_categorical_remapped)}


def _tree(predictor: Any, known: dict[int, np.ndarray]) -> Tree:
    nodes = predictor.nodes
    missing = nodes["missing_go_to_left"].astype(bool)
    sets = {}
    for i in np.flatnonzero((nodes["is_categorical"] == 1) & (nodes["is_leaf"] == 0)).tolist():
        inside = _flags(predictor.raw_left_cat_bitsets[nodes["bitset_idx"][i]])
        flags = known[int(nodes["feature_idx"][i])]
        left = inside | (~flags & missing[i])  # a category the trees do not know goes where missing goes
        sets[i] = np.concatenate([[missing[i], missing[i]], left[: int(flags.nonzero()[0].max(initial=0)) + 1]])
    return Tree(
        feature=nodes["feature_idx"].astype(np.int64),
        threshold=nodes["num_threshold"].astype(np.float64),
        left=nodes["left"].astype(np.int64),
        right=nodes["right"].astype(np.int64),
        leaf=nodes["is_leaf"].astype(bool),
        missing_left=missing,
        value=nodes["value"].astype(np.float64),
        sets=sets,
    )


def _flags(bits: np.ndarray) -> np.ndarray:
    """256 booleans of eight 32-bit words, lowest bit first."""
    return np.unpackbits(np.asarray(bits, dtype="<u4").view(np.uint8), bitorder="little").astype(bool)
