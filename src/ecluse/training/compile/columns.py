"""Column: one column on its way through the encoders, and the matrix a model reads.

A column is a number, or one of a known set of values (a *domain*: the words of a text column, or the distinct numbers an
encoder was fitted on), coded as its position, -1 for a value that is not in the domain and NaN where it is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from ecluse.core.errors import Unsupported
from ecluse.training.compile.graph import BOOL, DOUBLE, INT64, Graph

Domain = tuple[object, ...]


@dataclass(frozen=True)
class Column:
    """Column ``index`` of a double tensor; ``domain`` is None for a number."""

    tensor: str
    index: int
    name: str
    domain: Domain | None = None


Columns = tuple[Column, ...]


def spread(graph: Graph, tensor: str, names: Sequence[str]) -> Columns:
    """All columns of a tensor, as numbers."""
    return tuple(Column(tensor, index, name) for index, name in enumerate(names))


def matrix(graph: Graph, columns: Columns) -> str:
    """One double tensor [n, len(columns)] of the columns, in order: codes where a column has a domain."""
    parts: list[str] = []
    for tensor, run in groupby(columns, key=lambda column: column.tensor):
        indices = [column.index for column in run]
        if indices == list(range(graph.widths[tensor])):
            parts.append(tensor)
        else:
            parts.append(graph.node("Gather", tensor, graph.constant(np.array(indices)), axis=1, width=len(indices)))
    if len(parts) == 1:
        return parts[0]
    return graph.node("Concat", *parts, axis=1, width=len(columns))


def numbers(graph: Graph, columns: Columns, reader: str) -> str:
    """Like ``matrix``, but raises Unsupported when a text column reaches ``reader``, which counts."""
    for column in columns:
        if column.domain is not None:
            cure = "put an encoder (one-hot, ordinal) for text columns before it"
            raise Unsupported(f"text column {column.name!r} reaches {reader}", where="training/compile", cure=cure)
    if not columns:
        raise Unsupported(f"{reader} without any column", where="training/compile", cure="give it a column")
    return matrix(graph, columns)


def truth(graph: Graph, flags: str) -> str:
    """Doubles 0.0/1.0 of booleans."""
    return graph.node("Cast", flags, to=DOUBLE)


def any_of(graph: Graph, flags: str) -> str:
    """Bool [n, 1]: true where any flag of a row [n, C] is true."""
    if graph.widths[flags] == 1:
        return flags
    most = graph.node("ReduceMax", truth(graph, flags), graph.constant(np.array([1])), width=1)
    return graph.node("Cast", most, to=BOOL)


def slots(graph: Graph, codes: str, sizes: Sequence[int], offsets: Sequence[int]) -> str:
    """Positions int64 [n, C] in tables: ``offset`` + 0 missing, 1 unseen, 2 + code, size + 2 beyond the domain.

    A table for a domain of ``size`` values therefore has ``size + 3`` rows, the last equal to the second.
    """
    size, start = np.array(sizes, dtype=np.float64), np.array(offsets, dtype=np.float64)
    bounded = graph.node("Max", graph.node("Min", codes, graph.constant(size)), graph.constant(np.array(-1.0)))
    placed = graph.node("Add", bounded, graph.constant(2.0 + start))
    missing = graph.node("IsNaN", codes)
    filled = graph.node("Where", missing, graph.constant(start), placed, width=len(sizes))
    return graph.node("Cast", filled, to=INT64)


def lookup(graph: Graph, columns: Columns, tables: Sequence[np.ndarray]) -> str:
    """Double [n, C]: every column with a domain replaced by its entry in its table (rows as ``slots`` says)."""
    sizes = [len(column.domain or ()) for column in columns]
    whole = np.concatenate([np.append(table, table[1]) for table in tables]).astype(np.float64)
    offsets = np.concatenate([[0], np.cumsum([len(table) + 1 for table in tables])[:-1]])
    where = slots(graph, matrix(graph, columns), sizes, offsets.tolist())
    return graph.node("Gather", graph.constant(whole), where, axis=0, width=len(columns))


def classify(graph: Graph, columns: Columns, domains: Sequence[Domain]) -> Columns:
    """Numbers as columns with a domain: each value replaced by its position among the domain's numbers."""
    x = matrix(graph, columns)
    values = np.array([value for domain in domains for value in domain], dtype=np.float64)
    owners = np.repeat(np.arange(len(columns)), [len(domain) for domain in domains])
    places = np.zeros((len(values), len(columns)))
    places[np.arange(len(values)), owners] = np.concatenate([np.arange(1, len(domain) + 1) for domain in domains])
    wide = graph.node("Gather", x, graph.constant(owners), axis=1, width=len(values))
    same = truth(graph, graph.node("Equal", wide, graph.constant(values)))
    position = graph.node("MatMul", same, graph.constant(places), width=len(columns))
    codes = graph.node("Sub", position, graph.constant(np.array(1.0)))
    kept = graph.node("Where", graph.node("IsNaN", x), x, codes, width=len(columns))
    return tuple(
        Column(kept, i, column.name, domain) for i, (column, domain) in enumerate(zip(columns, domains, strict=True))
    )
