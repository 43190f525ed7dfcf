"""Window: what one version of a model was asked and answered over a stretch of the journal, column by column."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from ecluse.core.expression import Value
from ecluse.core.instants import parse_instant
from ecluse.core.recipe import Split, trained_on

Record: TypeAlias = Mapping[str, Any]
"""A journal record: the plain form of ``core.prediction.Prediction``."""


@dataclass(frozen=True)
class Window:
    """``rows`` predictions of one version, oldest first.

    ``inputs`` holds the raw features, ``scores`` the positive class's probability or the value, ``answers`` the decided class of a
    multi-class model (None elsewhere), ``fresh`` whether the version was surely not trained on that row (a model knows its training rows by
    heart: their scores look like no others), each (rows,). ``first`` and ``last`` are the times of its ends, ``ends`` the prediction ids there.
    ``versions`` counts every version of the model over the same stretch; ``degraded`` the answers made with features missing.
    """

    model: str
    version: int
    rows: int
    first: str
    last: str
    ends: tuple[str, str]
    inputs: Mapping[str, Sequence[Value]]
    scores: Sequence[float]
    answers: Sequence[str | None]
    fresh: Sequence[bool]
    degraded: int
    versions: Mapping[int, int]


def by_version(records: Iterable[Record], model: str) -> dict[int, list[Record]]:
    """The predictions of a model among journal records, by version, in their order. One pass; other kinds and models are skipped.

    >>> list(by_version([{"kind": "outcome", "model": "m"}, {"kind": "prediction", "model": "m", "version": 2}], "m"))
    [2]
    """
    found: dict[int, list[Record]] = {}
    for record in records:
        if record["kind"] == "prediction" and record["model"] == model:
            found.setdefault(record["version"], []).append(record)
    return found


def busiest(answers: Mapping[int, int]) -> int | None:
    """The version that answered most, the newer of two that answered equally often; None when there is none.

    >>> busiest({1: 10, 2: 20}), busiest({})
    (2, None)
    """
    return max(answers, key=lambda number: (answers[number], number), default=None)


def make_window(
    model: str, version: int, versions: Mapping[int, Sequence[Record]], split: Split | None = None
) -> Window:
    """The window of one version out of :func:`by_version`. O(rows × features). A version that never answered gives an empty one.

    ``split`` is the version's own: without it, and for predictions that name no entity, every row is fresh.
    """
    records = versions.get(version, ())
    names = sorted({name for record in records for name in record["inputs"]})
    return Window(
        model=model,
        version=version,
        rows=len(records),
        first=records[0]["time"] if records else "",
        last=records[-1]["time"] if records else "",
        ends=(records[0]["id"], records[-1]["id"]) if records else ("", ""),
        inputs={name: [record["inputs"].get(name) for record in records] for name in names},
        scores=[record["score"] for record in records],
        answers=[record["decision"] if isinstance(record["decision"], str) else None for record in records],
        fresh=[not is_trained_on(split, record) for record in records],
        degraded=sum(bool(record["degraded"]) for record in records),
        versions={number: len(versions[number]) for number in sorted(versions)},
    )


def is_trained_on(split: Split | None, record: Record) -> bool:
    """Whether a version with that split may have seen the truth of this prediction in training; False without a split or an entity."""
    if split is None or record["entity"] is None or record["as_of"] is None:
        return False
    return trained_on(split, record["entity"], parse_instant(record["as_of"]))
