"""One prediction, from bytes to bytes: parse and validate, features, score, journal, answer. The hot path.

The journal is written before the answer leaves; a prediction that cannot be journaled is not made.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from ecluse.core.errors import EcluseError, Unavailable
from ecluse.core.expression import Value
from ecluse.core.instants import from_micros
from ecluse.core.ports import Journal, OnlineReads, OnlineRow
from ecluse.features.online import Assembled, FeatureProblem
from ecluse.serving.problems import Refused
from ecluse.serving.scorers import Loaded
from ecluse.serving.validate import Asked, read_request

_log = logging.getLogger("ecluse.serving")
_encode = msgspec.json.Encoder().encode
PROPENSITY = 1.0
_NO_ROWS: Mapping[str, OnlineRow] = {}

Record = dict[str, Any]
"""A :class:`~ecluse.core.prediction.Prediction` as the journal keeps it; a dictionary costs a fifth of what the frozen value does."""


class Case(NamedTuple):
    """A request with its features, ready to be scored. ``as_of`` is the moment its features are of, ``now`` the project's present (both UTC
    microseconds); ``started`` the monotonic second the request came.
    """

    loaded: Loaded
    asked: Asked
    request_id: str
    features: Assembled
    as_of: int
    now: int
    started: float


async def prepare(
    loaded: Loaded, value: Mapping[str, Any], request_id: str, online: OnlineReads, now: int, started: float
) -> Case:
    """Validate a parsed body and fetch its features. ``now`` in UTC microseconds; ``started`` as :class:`Case` has it. Raises Refused."""
    asked = read_request(value, loaded.form)
    given: Mapping[str, Value] = asked.given
    rows = _NO_ROWS
    if asked.explicit is None:
        rows = await _fetch(loaded, asked, online)
        as_of = max([row.as_of for row in rows.values()]) if rows else now
        if asked.as_of is not None:
            _check_as_of(asked.as_of, rows)
    else:  # features sent by the caller are of the moment the caller names
        as_of = now if asked.as_of is None else asked.as_of
        given = {**given, **asked.explicit} if given else asked.explicit
    try:
        features = loaded.assemble(rows, given, now, as_of)
    except FeatureProblem as problem:
        raise Refused(problem.code, _where(problem), field=problem.field, cure=problem.cure) from None
    return Case(loaded, asked, request_id, features, as_of, now, started)


def run(cases: Sequence[Case]) -> list[list[float] | Refused]:
    """The scorers' answers, K numbers for each case, by one call for each version; a Refused where there is none.

    Should a call fail, each of its cases is scored alone: what one caller sent is not to be told to another.
    """
    alike: dict[int, list[Case]] = {}
    for case in cases:
        alike.setdefault(id(case.loaded.scorer), []).append(case)
    answers = {scorer: iter(_run_alike(each)) for scorer, each in alike.items()}
    return [next(answers[id(case.loaded.scorer)]) for case in cases]


def _run_alike(cases: Sequence[Case]) -> list[list[float] | Refused]:
    try:
        rows: list[list[float]] = cases[0].loaded.scorer.score(matrix_of(cases)).tolist()
    except Exception as error:  # noqa: BLE001 - those of onnxruntime are classes of its own
        if len(cases) > 1:
            return [scores for case in cases for scores in _run_alike([case])]
        if isinstance(error, EcluseError):
            return [Refused("scorer_unavailable", error.what)]
        _log.exception("a model failed", extra={"facts": {"request_id": cases[0].request_id}})
        return [Refused("internal_error", "the model fails on such a row")]
    return [check_finite(case, scores) or scores for case, scores in zip(cases, rows, strict=True)]


def matrix_of(cases: Sequence[Case]) -> npt.NDArray[np.float64]:
    """What the scorer sees, double [n, F]."""
    return np.array([case.features.vector for case in cases], dtype=np.float64)


def check_finite(case: Case, scores: list[float]) -> Refused | None:
    """The refusal when the model answered no number."""
    for score in scores:
        if not math.isfinite(score):
            break
    else:
        return None
    if case.features.unseen:
        field = case.features.unseen[0]
        return Refused("unknown_category", f"`{field}` has a value the model cannot take", field=field)
    return Refused("not_finite")


def conclude(cases: Sequence[Case], rows: Sequence[list[float] | Refused], journal: Journal) -> list[Record | Refused]:
    """Decide, and journal what is answered by one write; the records stand where the cases do. When the journal refuses, so is each case."""
    found: list[Record | Refused] = []
    ahead = 0  # nothing is awaited from the first id to the write: the ids are those of the records
    for case, scores in zip(cases, rows, strict=True):
        if isinstance(scores, Refused):
            found.append(scores)
        else:
            found.append(decide(case, scores, journal.next_id(ahead)))
            ahead += 1
    try:
        if ahead:
            journal.append_many([_encode(record) for record in found if type(record) is dict])
    except Unavailable as error:
        return [each if isinstance(each, Refused) else Refused("log_unavailable", error.what) for each in found]
    return found


def time_text(micros: int) -> str:
    """RFC 3339 UTC text of UTC microseconds, always with all six digits of them, as the journal orders records."""
    second, rest = divmod(micros, 1_000_000)
    return f"{_second_text(second)}.{rest:06d}Z"


_moment_text = lru_cache(maxsize=1_024)(time_text)
"""The moments of views are the same from request to request."""


@lru_cache(maxsize=1_024)
def _second_text(second: int) -> str:
    """To the second; requests share it, and so do the moments of views."""
    return datetime.fromtimestamp(second, UTC).isoformat()[:19]


async def _fetch(loaded: Loaded, asked: Asked, online: OnlineReads) -> Mapping[str, OnlineRow]:
    rows: Mapping[str, OnlineRow] = _NO_ROWS
    for entity in loaded.form.entities:
        try:
            found = await online.fetch(loaded.form.views[entity.name], asked.keys[entity.name])
        except EcluseError as error:
            raise Refused("feature_store_unavailable", error.what) from None
        if not found:
            raise Refused("unknown_entity", f"nothing is known of this {entity.name}", field=entity.columns[0])
        rows = {**rows, **found} if rows else found
    return rows


def _where(problem: FeatureProblem) -> str:
    return f"{problem.what} (view {problem.view})" if problem.view else problem.what


def _check_as_of(asked: int, rows: Mapping[str, OnlineRow]) -> None:
    for view, row in rows.items():
        if row.as_of != asked:
            held, wanted = (from_micros(micros).isoformat().replace("+00:00", "Z") for micros in (row.as_of, asked))
            cure = f"leave `as_of` out, or send {held}"
            raise Refused(
                "as_of_mismatch", f"features of {view} are as of {held}, not {wanted}", field="as_of", cure=cure
            )


def decide(case: Case, scores: list[float], prediction_id: str) -> Record:
    """The prediction that a row of scores means, as the journal keeps it."""
    loaded, features = case.loaded, case.features
    schema, threshold, score, classes = loaded.schema, loaded.threshold, scores[0], None
    decision: bool | str | None = None
    if schema.task == "binary":
        decision = None if threshold is None else score >= threshold
    elif schema.task == "multiclass":
        best = max(range(len(scores)), key=scores.__getitem__)
        decision, score, classes = schema.classes[best], scores[best], dict(zip(schema.classes, scores, strict=True))
    now = time_text(case.now)
    return {
        "kind": "prediction",
        "id": prediction_id,
        "request_id": case.request_id,
        "time": now,
        "model": loaded.model,
        "version": loaded.number,
        "arm": loaded.arm,
        "propensity": PROPENSITY,
        "entity": next(iter(case.asked.keys.values()), None),
        "as_of": now if case.as_of == case.now else time_text(case.as_of),
        "inputs": features.raw,
        "moments": {view: _moment_text(at) for view, at in features.moments.items()},
        "score": score,
        "scores": classes,
        "threshold": threshold,
        "decision": decision,
        "unseen": features.unseen,
        "degraded": features.degraded,
        "latency_us": int((time.perf_counter() - case.started) * 1e6),
    }


def make_answer(case: Case, record: Record) -> dict[str, Any]:
    """What the caller gets: the prediction without the inputs, its score under the name of the task."""
    answer: dict[str, Any] = {
        **case.asked.entity,
        "prediction_id": record["id"],
        "request_id": record["request_id"],
        "model": record["model"],
        "version": record["version"],
    }
    if record["scores"] is not None:
        answer["probabilities"] = record["scores"]
    else:
        answer["proba" if case.loaded.schema.task == "binary" else "value"] = record["score"]
    answer["threshold"] = record["threshold"]
    answer["decision"] = record["decision"]
    answer["as_of"] = record["as_of"]
    answer["moments"] = record["moments"]
    answer["timestamp"] = record["time"]
    answer["unseen"] = record["unseen"]
    answer["degraded"] = record["degraded"]
    return answer
