"""Columns together: the matrix a model reads, and tables looked up for columns with a domain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

import numpy as np

from ecluse.core.errors import Unsupported
from ecluse.training.compile.column import Column, Columns, Domain, Source
from ecluse.training.compile.graph import DOUBLE, INT64, Graph


def spread(tensor: str, parents: Columns) -> Columns:
    """All columns of a tensor, as numbers: column by column rising or falling functions of ``parents``, or of their codes."""
    return tuple(Column(tensor, i, parent.name, source=parent.source) for i, parent in enumerate(parents))


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
    check_numbers(columns, reader)
    return matrix(graph, columns)


def check_numbers(columns: Columns, reader: str) -> None:
    """Raise Unsupported when a text column, or none at all, reaches ``reader``."""
    for column in columns:
        if column.domain is not None:
            cure = "put an encoder (one-hot, ordinal) for text columns before it"
            raise Unsupported(f"text column {column.name!r} reaches {reader}", where="training/compile", cure=cure)
    if not columns:
        raise Unsupported(f"{reader} without any column", where="training/compile", cure="give it a column")


def truth(graph: Graph, flags: str) -> str:
    """Doubles 0.0/1.0 of booleans."""
    return graph.node("Cast", flags, to=DOUBLE)


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
        replace(column, tensor=kept, index=i, domain=domain, source=_known(column, domain))
        for i, (column, domain) in enumerate(zip(columns, domains, strict=True))
    )


def _known(column: Column, domain: Domain) -> Source | None:
    """The source of a number that was classified: the numbers known, where they are those of ``x`` itself."""
    if column.source is None or column.source.cuts is not None:
        return column.source
    return Source.points(column.source.index, np.asarray(domain)) if column.tensor == "x" else None
