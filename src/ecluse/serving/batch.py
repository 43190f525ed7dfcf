"""Many rows in one request: each validated as one prediction is, all scored by one call, all journaled by one write.

Every protocol that takes several rows comes through :func:`answer_rows`; what differs is only whether a row that is refused is told in
its place (``POST /predict/batch``) or refuses the request (:func:`whole`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from ecluse.core.errors import Unavailable
from ecluse.serving.admission import Admitted
from ecluse.serving.answers import before, take_request_id
from ecluse.serving.apart import score_apart
from ecluse.serving.call import Call, Reply
from ecluse.serving.choice import choose
from ecluse.serving.plane import Plane
from ecluse.serving.predict import Case, Record, check_finite, conclude, make_answer, matrix_of, prepare, run
from ecluse.serving.problems import Refused, excerpt, problem_facts
from ecluse.serving.scorers import Loaded
from ecluse.serving.validate import REQUEST_ID, parse_object, read_request_id, word

TURN = 32
"""Rows prepared before other requests get their turn on the event loop."""

MAX_BASE = 120
"""Longest id of a request with several rows: the rows are numbered behind it."""

_encode = msgspec.json.Encoder().encode
_FIELDS = frozenset({"instances", "request_id"})


@dataclass(frozen=True, slots=True)
class Said:
    """A row that was answered: what ``POST /predict`` would say of it, and what is in the journal."""

    answer: dict[str, Any]
    record: Record


async def predict_batch(plane: Plane, call: Call) -> Reply:
    """POST /predict/batch: 200 when every row was answered, 207 when some were refused, each in its place."""
    async with Admitted(plane, call):
        loaded = take(call, choose(plane, call.parameters.get("name")))
        rows = _read_instances(call, parse_object(call.body))
        results = await answer_rows(plane, call, loaded, rows)
    refused = sum(isinstance(each, Refused) for each in results)
    answer = {
        "request_id": call.request_id,
        "model": loaded.model,
        "version": loaded.number,
        "answered": len(results) - refused,
        "refused": refused,
        "results": [_tell(each, _row_id(call, rows[i], i)) for i, each in enumerate(results)],
    }
    return Reply(207 if refused else 200, _encode(answer), headers=loaded.headers)


async def answer_rows(
    plane: Plane, call: Call, loaded: Loaded, rows: Sequence[Any], *, all_or_none: bool = False
) -> list[Said | Refused]:
    """Each row (an object as ``POST /predict`` takes it), answered or refused, in its place.

    Only what concerns the whole request is raised: Refused ``empty_batch``, ``batch_too_large``, ``deadline_exceeded``,
    ``scorer_unavailable`` (a scorer process), ``feature_store_unavailable``, ``log_unavailable``; with ``all_or_none`` also the first row's
    refusal, and then nothing is journaled. O(rows · features).
    """
    check_rows(plane, len(rows))
    if len(call.request_id) > MAX_BASE:
        raise Refused(
            "invalid_request_id",
            f"the id of several rows has {len(call.request_id)} characters",
            cure=f"send at most {MAX_BASE}",
        )
    prepared = await _prepare(plane, call, loaded, rows)
    if all_or_none:
        _raise_first(prepared)
    call.in_time()
    cases = [each for each in prepared if isinstance(each, Case)]
    scores = await _score(call, loaded, cases)
    if all_or_none:
        _raise_first(scores)
    journal = plane.parts.journal
    mark = journal.mark
    records = conclude(cases, scores, journal)
    try:
        await journal.durable(mark)
    except Unavailable as error:
        raise Refused("log_unavailable", error.what) from None
    told = iter(zip(cases, records, strict=True))
    results = [each if isinstance(each, Refused) else _said(*next(told)) for each in prepared]
    _count(plane, loaded, results)
    return results


def check_rows(plane: Plane, rows: int) -> None:
    """Raises Refused when a request has no row, or more than one may hold."""
    if not rows:
        raise Refused("empty_batch")
    if rows > plane.serving.max_batch:
        raise Refused("batch_too_large", f"the request has {rows} rows, more than {plane.serving.max_batch}")


def take(call: Call, loaded: Loaded) -> Loaded:
    """The version that answers this call, noted for its counters and headers."""
    call.model, call.version = loaded.model, loaded.version
    return loaded


def all_said(results: Sequence[Said | Refused]) -> list[Said]:
    """The results of a request that is answered all or none."""
    return [each for each in results if isinstance(each, Said)]


def concerns(said: Sequence[Said]) -> list[tuple[bytes, bytes]]:
    """Headers for protocols that have no word for it: how many rows were answered without a view, or hold a value never seen in training."""
    degraded, unseen = (sum(bool(each.record[what]) for each in said) for what in ("degraded", "unseen"))
    counted = ((b"x-ecluse-degraded", degraded), (b"x-ecluse-unseen", unseen))
    return [(name, str(count).encode()) for name, count in counted if count]


async def _prepare(plane: Plane, call: Call, loaded: Loaded, rows: Sequence[Any]) -> list[Case | Refused]:
    now, seen = plane.now_micros(), set[str]()
    cases: list[Case | Refused] = []
    for first in range(0, len(rows), TURN):
        call.in_time()
        turn = range(first, min(first + TURN, len(rows)))
        # side by side: a store behind a network answers them in the time of one
        found = await asyncio.gather(*(_prepare_row(plane, call, loaded, rows[i], i, seen, now) for i in turn))
        for each in found:
            if isinstance(each, Refused) and each.code == "feature_store_unavailable":
                raise each  # the rows to come would each wait for it as well
        cases += found
        await asyncio.sleep(0)
    return cases


async def _prepare_row(
    plane: Plane, call: Call, loaded: Loaded, row: Any, i: int, seen: set[str], now: int
) -> Case | Refused:
    try:
        if not isinstance(row, dict):
            raise Refused("wrong_type", f"the row is {word(row)}, not an object", cure="send one object for each row")
        read_request_id(row.get("request_id"))
        name = _row_id(call, row, i)
        if name in seen:
            what = f"the id {excerpt(name)} stands twice"
            raise Refused("invalid_request_id", what, field="request_id", cure="send each id once")
        seen.add(name)
        return await prepare(loaded, row, name, plane.parts.online, now, call.started)
    except Refused as refused:
        return refused


async def _score(call: Call, loaded: Loaded, cases: Sequence[Case]) -> list[list[float] | Refused]:
    if not loaded.blocking or not cases:
        return run(cases)
    rows: list[list[float]] = (await before(call, score_apart(loaded, matrix_of(cases)))).tolist()
    return [check_finite(case, scores) or scores for case, scores in zip(cases, rows, strict=True)]


def _said(case: Case, record: Record | Refused) -> Said | Refused:
    if isinstance(record, Refused):
        if record.code == "log_unavailable":
            raise record
        return record
    return Said(make_answer(case, record), record)


def _raise_first(results: Sequence[object]) -> None:
    for i, each in enumerate(results):
        if isinstance(each, Refused):
            raise Refused(each.code, f"row {i}: {each.what}", field=each.field, cure=each.cure)


def _count(plane: Plane, loaded: Loaded, results: Sequence[Said | Refused]) -> None:
    records = [each.record for each in results if isinstance(each, Said)]
    plane.metrics.kept["prediction"] += len(records)
    for record in records:
        plane.metrics.note(loaded.model, record)


def _read_instances(call: Call, value: dict[str, Any]) -> list[Any]:
    for name in value:
        if name not in _FIELDS:
            raise Refused(
                "unknown_field",
                f"field {excerpt(name)} is not known",
                field=name[:64],
                cure="send `instances`, `request_id`",
            )
    if "instances" not in value:
        raise Refused("missing_field", "`instances` is missing", field="instances", cure='send {"instances": [{…}, …]}')
    rows = value["instances"]
    if not isinstance(rows, list):
        raise Refused(
            "wrong_type", f"`instances` is {word(rows)}, not a list", field="instances", cure="send a list of objects"
        )
    take_request_id(call, value.get("request_id"))
    return rows


def _row_id(call: Call, row: Any, i: int) -> str:
    """A row's own id when it has one that can be used, else the request's with the row's number."""
    own = row.get("request_id") if isinstance(row, dict) else None
    return own if isinstance(own, str) and REQUEST_ID.fullmatch(own) else f"{call.request_id}.{i}"


def _tell(result: Said | Refused, request_id: str) -> dict[str, object]:
    return {"status": 200, **result.answer} if isinstance(result, Said) else problem_facts(result, request_id)
