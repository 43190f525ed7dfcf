"""The handlers of Écluse's own JSON: predict, outcomes, and what tells about the worker."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable
from typing import Any

import msgspec

from ecluse.core.errors import EcluseError
from ecluse.core.wish import Wish
from ecluse.serving import health as truth
from ecluse.serving.admission import Admitted
from ecluse.serving.apart import run_apart
from ecluse.serving.call import Call, Reply
from ecluse.serving.choice import choose, choose_version, read_number
from ecluse.serving.metrics import CONTENT_TYPE
from ecluse.serving.outcomes import read_outcomes, write_outcomes
from ecluse.serving.plane import Plane
from ecluse.serving.predict import prepare
from ecluse.serving.problems import Refused, excerpt
from ecluse.serving.scorers import Loaded
from ecluse.serving.validate import parse_object, read_request_id, word

VERSION_FIELD = "model_version"
_encode = msgspec.json.Encoder().encode


async def predict(plane: Plane, call: Call) -> Reply:
    """POST /predict: one prediction."""
    if not plane.admission.take():
        await plane.admission.enter(call.deadline)
    try:
        loaded = _choose(plane, call, value := parse_object(call.body))
        # from here on one version: what is validated, scored and answered is of the same
        call.in_time()
        case = await prepare(loaded, value, call.request_id, plane.parts.online, plane.now_micros(), call.started)
        call.in_time()
        scores = await before(call, run_apart(case)) if loaded.blocking else None
    finally:
        plane.admission.leave()
    answer, record = await plane.turns.join(case, scores)
    plane.metrics.kept["prediction"] += 1
    if record["unseen"] or record["degraded"]:
        plane.metrics.note(loaded.model, record)
    return Reply(200, answer, headers=loaded.headers)


def _choose(plane: Plane, call: Call, value: dict[str, Any]) -> Loaded:
    loaded = choose(plane, call.parameters.get("name"))
    call.model, call.version = loaded.model, loaded.version
    if "request_id" in value:
        take_request_id(call, value["request_id"])
    if VERSION_FIELD in value and VERSION_FIELD not in loaded.form.fields:
        loaded = choose_version(plane, loaded.model, _pop_version(value), call.grant)
        call.version = loaded.version
    return loaded


async def outcomes(plane: Plane, call: Call) -> Reply:
    """POST /outcomes: truths that arrived, journaled together or not at all."""
    async with Admitted(plane, call):
        records = read_outcomes(call.body, plane.fleet.champions, call.parameters.get("name"), plane.now_micros())
        write_outcomes(records, plane.parts.journal)
    plane.metrics.kept["outcome"] += len(records)
    return Reply(202, _encode({"accepted": len(records)}))


async def health(plane: Plane, call: Call) -> Reply:
    """GET /health: the facts, always 200."""
    return Reply(200, _encode(truth.health(plane)))


async def ready(plane: Plane, call: Call) -> Reply:
    """GET /ready: 200, or 503 and why."""
    if (refused := truth.unready(plane)) is not None:
        raise refused
    return Reply(200, _encode({"status": "ready", "generation": plane.fleet.generation}))


async def models(plane: Plane, call: Call) -> Reply:
    """GET /models: every model, its champion, what is warm."""
    return Reply(200, _encode({"generation": plane.fleet.generation, "models": truth.models(plane)}))


async def info(plane: Plane, call: Call) -> Reply:
    """GET /models/info: this worker, and what it holds of every model."""
    return Reply(200, _encode(truth.info(plane)))


async def load(plane: Plane, call: Call) -> Reply:
    """POST /models/{name}/load/{version}: 202, the wish for a version to be kept warm is recorded."""
    document, name = plane.fleet.document, call.parameters["name"]
    if document is None or name not in document.models:
        raise Refused("unknown_model", f"no model {excerpt(name)}")
    wish = Wish(name, read_number(call.parameters["version"]), call.grant.name)
    try:
        await asyncio.to_thread(plane.parts.wish, wish)
    except EcluseError as error:
        raise Refused("wish_unavailable", error.what) from None
    warm = (name, wish.number) in plane.fleet.warm
    return Reply(202, _encode({"model": name, "version": wish.number, "recorded": True, "warm": warm}))


async def metrics(plane: Plane, call: Call) -> Reply:
    """GET /metrics: Prometheus text, of all workers where there are several."""
    text = await exposition(plane)
    return Reply(200, text if plane.board is None else await plane.board.with_others(text), CONTENT_TYPE)


async def exposition(plane: Plane) -> bytes:
    """What this worker has counted, and how it is at this moment."""
    plane.metrics.in_flight.set(plane.in_flight)
    plane.metrics.waiting.set(plane.admission.waiting)
    plane.metrics.ready.set(truth.unready(plane) is None)
    plane.metrics.online_answers.set(plane.online_problem is None)
    with contextlib.suppress(EcluseError):  # told by ecluse_online_answers; the last ages stand
        for view, age in (await plane.feature_ages()).items():
            plane.metrics.feature_age.labels(view).set(age)
    return plane.metrics.render()


async def before(call: Call, work: Awaitable[Any]) -> Any:
    """What ``work`` returns. Raises Refused ``deadline_exceeded`` when it is not there by the call's deadline."""
    await asyncio.sleep(0)  # a timeout wants a task
    try:
        return await asyncio.wait_for(work, call.deadline - time.perf_counter())
    except TimeoutError:
        raise Refused("deadline_exceeded") from None


def _pop_version(value: dict[str, Any]) -> int | None:
    number = value.pop(VERSION_FIELD)
    if number is None or (isinstance(number, int) and not isinstance(number, bool)):
        return number
    if isinstance(number, float) and number.is_integer():  # 2.0 is a whole number to JSON
        return int(number)
    shown = excerpt(number) if isinstance(number, float) else word(number)
    raise Refused("wrong_type", f"`{VERSION_FIELD}` is {shown}, not a whole number", field=VERSION_FIELD)


def take_request_id(call: Call, own: object, field: str = "request_id") -> None:
    """Let a request be called by the id in its body. Raises Refused when its header says otherwise."""
    name = read_request_id(own, field)
    if name is not None and b"x-request-id" in call.headers and name != call.request_id:
        raise Refused("invalid_request_id", "header and field differ", field=field, cure="send one request id")
    call.request_id = name or call.request_id
