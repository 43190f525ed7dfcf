"""Encoders: OneHotEncoder, OrdinalEncoder, TargetEncoder and imputing of text, tabulated.

A text column has finitely many answers: each word seen in training, a word never seen, missing. So the fitted encoder is
asked for each of them once, and its answers become a table in the graph. Whatever its options mean (``handle_unknown``,
``drop``, infrequent categories, missing values), they mean the same in the compiled model. Where the encoder raises an
error the compiled model answers NaN.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from ecluse.core.errors import Unsupported
from ecluse.training.compile.column import Column, Columns, Domain
from ecluse.training.compile.columns import classify, lookup, spread, truth
from ecluse.training.compile.graph import Graph

_UNSEEN_WORD, _UNSEEN_NUMBER = "\x00never seen", 1.2345678901234567e300
_NO_NUMBER: Domain = (-_UNSEEN_NUMBER,)  # the domain of a number column that was empty in training


def one_hot(graph: Graph, encoder: Any, columns: Columns) -> Columns:
    """Columns of OneHotEncoder: each column's answers grouped by equal rows, then one comparison per output column."""
    columns = _with_domains(graph, columns, encoder.categories_)
    widths = [_one_hot_width(encoder, i) for i in range(len(columns))]
    starts = np.concatenate([[0], np.cumsum(widths)])
    tables, owners = [], []
    for i, width in enumerate(widths):
        rows = _answers(graph, encoder, columns, i)[:, starts[i] : starts[i + 1]]
        # -1: all zeros (unseen or dropped); otherwise the one output column that is 1
        tables.append(
            np.where(rows.sum(axis=1) > 0, rows.argmax(axis=1) + starts[i], -1.0) if width else -np.ones(len(rows))
        )
        owners += [i] * width
    if not owners:
        return ()
    groups = lookup(graph, columns, tables)
    wide = graph.node("Gather", groups, graph.constant(np.array(owners)), axis=1, width=len(owners))
    hot = truth(graph, graph.node("Equal", wide, graph.constant(np.arange(len(owners), dtype=np.float64))))
    return spread(hot, tuple(columns[i] for i in owners))


def table_encoder(graph: Graph, encoder: Any, columns: Columns) -> Columns:
    """Columns of OrdinalEncoder and TargetEncoder: one number for each value of each column."""
    columns = _with_domains(graph, columns, encoder.categories_)
    tables = []
    for i in range(len(columns)):
        rows = _answers(graph, encoder, columns, i)
        if rows.shape[1] != len(columns):
            cure = "use one column per feature: TargetEncoder for binary or regression targets only"
            raise Unsupported(f"{type(encoder).__name__} with several outputs", where="training/compile", cure=cure)
        tables.append(rows[:, i])
    return spread(lookup(graph, columns, tables), columns)


def text_imputer(graph: Graph, imputer: Any, columns: Columns) -> Columns:
    """Columns of SimpleImputer over text: still text, with the domain the imputer's answers have."""
    if imputer.add_indicator:
        cure = "add the indicator over number columns only"
        raise Unsupported("SimpleImputer(add_indicator=True) over text", where="training/compile", cure=cure)
    tables, domains = [], []
    for i, column in enumerate(columns):
        domain = column.domain or ()
        out = np.asarray(imputer.transform(_probe(imputer, columns, i, [None, _UNSEEN_WORD, *domain])), dtype=object)[
            :, i
        ]
        after = tuple(dict.fromkeys(str(word) for word in out if word not in (None, _UNSEEN_WORD)))
        place = {None: np.nan, _UNSEEN_WORD: -1.0} | {word: float(k) for k, word in enumerate(after)}
        tables.append(np.array([place[word] for word in out]))
        domains.append(after)
    filled = lookup(graph, columns, tables)
    return tuple(Column(filled, i, column.name, domains[i], column.source) for i, column in enumerate(columns))


def _one_hot_width(encoder: Any, i: int) -> int:
    rare = getattr(encoder, "infrequent_categories_", None)
    grouped = max(len(rare[i]) - 1, 0) if rare is not None and rare[i] is not None else 0
    dropped = encoder.drop_idx_ is not None and encoder.drop_idx_[i] is not None
    return len(encoder.categories_[i]) - grouped - int(dropped)


def _with_domains(graph: Graph, columns: Columns, categories: Sequence[np.ndarray]) -> Columns:
    """Columns with domains: text columns checked against what the encoder knows, number columns classified."""
    known = [tuple(value for value in values if not _is_missing(value)) for values in categories]
    text = [column.domain is not None for column in columns]
    for column, words in zip(columns, known, strict=True):
        if column.domain is not None and (beyond := [word for word in words if word not in column.domain]):
            cure = "list every category the encoder was fitted with in the model's schema"
            raise Unsupported(
                f"category {beyond[0]!r} of {column.name!r} is not in the schema", where="encoder", cure=cure
            )
    plain = tuple(column for column, is_text in zip(columns, text, strict=True) if not is_text)
    coded = (
        classify(graph, plain, [known[i] or _NO_NUMBER for i, is_text in enumerate(text) if not is_text])
        if plain
        else ()
    )
    rest = iter(coded)
    return tuple(column if is_text else next(rest) for column, is_text in zip(columns, text, strict=True))


def _answers(graph: Graph, encoder: Any, columns: Columns, i: int) -> np.ndarray:
    """What the encoder answers for column ``i``, a row each: missing, unseen, each value. Refused ones are rows of zeros."""
    domain = columns[i].domain or ()
    of_words = not domain or isinstance(domain[0], str)
    values = [None if of_words else np.nan, _UNSEEN_WORD if of_words else _UNSEEN_NUMBER, *domain]
    rows = [_ask(encoder, columns, i, [value]) for value in values[:2]]
    known = _ask(encoder, columns, i, list(domain)) if domain else None
    rows += [_ask(encoder, columns, i, [value]) for value in domain] if known is None else [row[None] for row in known]
    refused = np.array([row is None for row in rows])
    if refused.any():
        graph.refuse(spread(lookup(graph, (columns[i],), [refused.astype(np.float64)]), (columns[i],)))
    width = next(row.shape[1] for row in rows if row is not None)
    return np.concatenate([np.zeros((1, width)) if row is None else row for row in rows])


def _ask(encoder: Any, columns: Columns, i: int, values: list[object]) -> np.ndarray | None:
    """The answers to several values, None where the encoder refuses one of them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # "found unknown categories": that is the question
        try:
            return _dense(encoder.transform(_probe(encoder, columns, i, values)))
        except ValueError:
            return None


def _probe(encoder: Any, columns: Columns, i: int, values: list[object]) -> Any:
    """A table with ``values`` in column ``i`` and a value the encoder knows everywhere else."""
    known = getattr(encoder, "categories_", None)
    names = list(getattr(encoder, "feature_names_in_", [str(k) for k in range(len(columns))]))
    data: dict[str, Any] = {}
    for k, column in enumerate(columns):
        if k == i:
            cells: list[object] = values
        else:
            cells = [known[k][0] if known is not None else (column.domain or ("",))[0]] * len(values)
        data[names[k]] = _series(cells, column.domain or ())
    frame = pl.DataFrame(data)
    return frame if hasattr(encoder, "feature_names_in_") else frame.to_numpy()


def _series(cells: list[object], domain: Domain) -> pl.Series:
    if domain and not isinstance(domain[0], str):
        return pl.Series(cells, dtype=pl.Float64)
    return pl.Series([None if _is_missing(cell) else cell for cell in cells], dtype=pl.String)


def _dense(answer: Any) -> np.ndarray:
    array = answer.toarray() if hasattr(answer, "toarray") else answer
    return np.asarray(array, dtype=np.float64)


def _is_missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and bool(np.isnan(value)))
