"""One prediction, from bytes to bytes: parse and validate, features, score, journal, answer. The hot path.

The journal is written before the answer leaves; a prediction that cannot be journaled is not made.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from ecluse.core.errors import EcluseError, Unavailable
from ecluse.core.expression import Value
from ecluse.core.instants import from_micros, to_micros
from ecluse.core.ports import Journal, OnlineReads, OnlineRow
from ecluse.core.prediction import Prediction
from ecluse.features.online import Assembled, FeatureProblem, assemble
from ecluse.serving.problems import Refused
from ecluse.serving.scorers import Loaded
from ecluse.serving.validate import Asked, read_request

_encode = msgspec.json.Encoder().encode
PROPENSITY = 1.0


@dataclass(frozen=True, slots=True)
class Case:
    """A request with its features, ready to be scored. ``as_of`` is the moment its features are of (UTC microseconds)."""

    loaded: Loaded
    asked: Asked
    request_id: str
    features: Assembled
    as_of: int
    now: datetime
    started: float

    @property
    def matrix(self) -> npt.NDArray[np.float64]:
        """What the scorer sees, double [1, F]."""
        return np.array([self.features.vector], dtype=np.float64)


async def prepare(
    loaded: Loaded, value: Mapping[str, Any], request_id: str, online: OnlineReads, now: datetime, started: float
) -> Case:
    """Validate a parsed body and fetch its features. ``started`` is the monotonic second the request came. Raises Refused."""
    asked = read_request(value, loaded.form)
    now_micros = to_micros(now)
    given: Mapping[str, Value] = asked.given
    rows: dict[str, OnlineRow] = {}
    if asked.explicit is None:
        rows = await _fetch(loaded, asked, online)
        as_of = max((row.as_of for row in rows.values()), default=now_micros)
        _check_as_of(asked, rows)
    else:  # features sent by the caller are of the moment the caller names
        as_of = now_micros if asked.as_of is None else asked.as_of
        given = {**asked.given, **asked.explicit}
    try:
        features = assemble(loaded.schema, rows, given, now_micros, as_of)
    except FeatureProblem as problem:
        raise Refused(problem.code, _where(problem), field=problem.field, cure=problem.cure) from None
    return Case(loaded, asked, request_id, features, as_of, now, started)


def run(case: Case) -> npt.NDArray[np.float64]:
    """The scorer's answer, double [K]. Raises Refused when it cannot be run or answers no number."""
    try:
        scores: npt.NDArray[np.float64] = case.loaded.scorer.score(case.matrix)[0]
    except EcluseError as error:
        raise Refused("scorer_unavailable", error.what) from None
    check_finite(case, scores)
    return scores


def check_finite(case: Case, scores: npt.NDArray[np.float64]) -> None:
    """Raises Refused when the model answered no number."""
    if all(map(math.isfinite, scores.tolist())):
        return
    if case.features.unseen:
        field = case.features.unseen[0]
        raise Refused("unknown_category", f"`{field}` has a value the model cannot take", field=field)
    raise Refused("not_finite")


def conclude(case: Case, scores: npt.NDArray[np.float64], journal: Journal) -> tuple[bytes, Prediction]:
    """Decide, journal, and only then the answer's bytes. Raises Refused when the journal cannot be written."""
    prediction = decide(case, scores.tolist(), journal.next_id())
    try:
        journal.append(_encode(prediction))
    except Unavailable as error:
        raise Refused("log_unavailable", error.what) from None
    return _encode(make_answer(case, prediction)), prediction


def time_text(moment: datetime) -> str:
    """RFC 3339 UTC text, always with microseconds, as the journal orders records."""
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


@lru_cache(maxsize=1_024)
def _micros_text(micros: int) -> str:
    """:func:`time_text` of UTC microseconds; the moments of views are the same from request to request."""
    return time_text(from_micros(micros))


async def _fetch(loaded: Loaded, asked: Asked, online: OnlineReads) -> dict[str, OnlineRow]:
    rows: dict[str, OnlineRow] = {}
    for entity in loaded.form.entities:
        views = [view.name for view in loaded.schema.views if view.entity.name == entity.name]
        try:
            found = await online.fetch(views, asked.keys[entity.name])
        except EcluseError as error:
            raise Refused("feature_store_unavailable", error.what) from None
        if not found:
            raise Refused("unknown_entity", f"nothing is known of this {entity.name}", field=entity.columns[0])
        rows |= found
    return rows


def _where(problem: FeatureProblem) -> str:
    return f"{problem.what} (view {problem.view})" if problem.view else problem.what


def _check_as_of(asked: Asked, rows: Mapping[str, OnlineRow]) -> None:
    if asked.as_of is None:
        return
    for view, row in rows.items():
        if row.as_of != asked.as_of:
            held, wanted = (
                from_micros(micros).isoformat().replace("+00:00", "Z") for micros in (row.as_of, asked.as_of)
            )
            cure = f"leave `as_of` out, or send {held}"
            raise Refused(
                "as_of_mismatch", f"features of {view} are as of {held}, not {wanted}", field="as_of", cure=cure
            )


def decide(case: Case, scores: list[float], prediction_id: str) -> Prediction:
    """The prediction that a row of scores means."""
    schema, features = case.loaded.schema, case.features
    threshold, score, classes = case.loaded.threshold, scores[0], None
    decision: bool | str | None = None
    if schema.task == "binary":
        decision = None if threshold is None else score >= threshold
    elif schema.task == "multiclass":
        best = max(range(len(scores)), key=scores.__getitem__)
        decision, score, classes = schema.classes[best], scores[best], dict(zip(schema.classes, scores, strict=True))
    keys, now = list(case.asked.keys.values()), time_text(case.now)
    return Prediction(
        kind="prediction",
        id=prediction_id,
        request_id=case.request_id,
        time=now,
        model=case.loaded.model,
        version=case.loaded.number,
        arm=case.loaded.arm,
        propensity=PROPENSITY,
        entity=None if not keys else keys[0],
        as_of=_micros_text(case.as_of),
        inputs=features.raw,
        moments={view: _micros_text(at) for view, at in features.moments.items()},
        score=score,
        scores=classes,
        threshold=threshold,
        decision=decision,
        unseen=features.unseen,
        degraded=features.degraded,
        latency_us=int((time.perf_counter() - case.started) * 1e6),
    )


def make_answer(case: Case, made: Prediction) -> dict[str, Any]:
    """What the caller gets: the prediction without the inputs, its score under the name of the task."""
    answer: dict[str, Any] = {
        **case.asked.entity,
        "prediction_id": made.id,
        "request_id": made.request_id,
        "model": made.model,
        "version": made.version,
    }
    if made.scores is not None:
        answer["probabilities"] = made.scores
    else:
        answer["proba" if case.loaded.schema.task == "binary" else "value"] = made.score
    return answer | {
        "threshold": made.threshold,
        "decision": made.decision,
        "as_of": made.as_of,
        "moments": made.moments,
        "timestamp": made.time,
        "unseen": made.unseen,
        "degraded": made.degraded,
    }
