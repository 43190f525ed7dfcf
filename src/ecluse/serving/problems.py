"""Problems: every "no" a caller can get, as RFC 9457 problem details with a stable code, the field, and the cure."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from ecluse.core.errors import EcluseError


@dataclass(frozen=True)
class Kind:
    """What a code means: HTTP status, one-line title, what to do about it, and seconds to wait before trying again."""

    status: int
    title: str
    cure: str
    retry_after: int | None = None


KINDS: dict[str, Kind] = {
    # The request cannot be read.
    "invalid_json": Kind(400, "The body is not JSON", "send one JSON object in UTF-8, without NaN or Infinity"),
    "duplicate_key": Kind(400, "A key stands twice in one object", "send each key once"),
    "too_deep": Kind(400, "The body is nested too deeply", "send a flat JSON object"),
    "invalid_csv": Kind(400, "The body is not CSV", "send a line of names and a line for each row, in UTF-8"),
    "unauthorized": Kind(401, "A valid API key is needed", "send the header `Authorization: Bearer <key>`"),
    "forbidden": Kind(403, "The API key does not have the scope", "use a key that has it: `ecluse keys add --scope`"),
    "not_found": Kind(
        404, "No such route", "POST /predict, POST /models/{name}/predict, GET /models, /health, /ready, /metrics"
    ),
    "method_not_allowed": Kind(405, "This route has another method", "use a method named in the header Allow"),
    "invalid_request": Kind(400, "This is not HTTP/1.1", "send a request as RFC 9112 has it"),
    "invalid_deadline": Kind(400, "The deadline cannot be read", "send whole milliseconds in X-Request-Timeout-Ms"),
    "header_timeout": Kind(408, "The headers did not arrive in time", "send the whole request at once"),
    "headers_too_large": Kind(431, "The headers are too large", "send fewer or shorter headers"),
    "body_timeout": Kind(408, "The body did not arrive in time", "send the whole body at once"),
    "body_too_large": Kind(413, "The body is too large", "send one request for each prediction"),
    "unsupported_media_type": Kind(415, "The body is not declared as JSON", "send `Content-Type: application/json`"),
    "host_not_allowed": Kind(
        421, "This server does not answer for that host", "use the address the server was bound to"
    ),
    # The request can be read, but not used.
    "unknown_model": Kind(404, "No such model", "GET /models lists them"),
    "unknown_version": Kind(404, "No such version answers", "GET /models lists them"),
    "batch_too_large": Kind(413, "The request has too many rows", "send fewer rows at once: [serving] max_batch"),
    "empty_batch": Kind(422, "The request has no rows", "send at least one row"),
    "wrong_shape": Kind(422, "A tensor's shape and its data do not agree", "send one element for each row"),
    "model_required": Kind(422, "There are several models", "POST /models/{name}/predict"),
    "unknown_entity": Kind(404, "Nothing is known of this entity", "check the key, or materialize its features"),
    "wrong_type": Kind(422, "A value has the wrong type", "send the type the contract declares"),
    "unknown_field": Kind(422, "A field is not known", "leave it out"),
    "missing_field": Kind(422, "A field is missing", "send it"),
    "missing_value": Kind(422, "A value is null where the contract needs one", "send a value"),
    "out_of_range": Kind(422, "A value is outside its contract", "send a value inside the declared range"),
    "unknown_category": Kind(422, "A category is outside its contract", "send one of the declared categories"),
    "invalid_instant": Kind(422, "A moment cannot be read", "write 2024-01-31 or 2024-01-31T12:00:00Z"),
    "invalid_request_id": Kind(422, "The request id cannot be used", "send 1 to 128 of A-Z a-z 0-9 . _ : -"),
    "ambiguous_request": Kind(422, "The request can be read in two ways", "send either a key or explicit features"),
    "mode_not_accepted": Kind(
        422, "The model does not accept this form of request", "send the form its declaration accepts"
    ),
    "as_of_mismatch": Kind(
        422, "The features held are of another moment", "leave `as_of` out, or send the moment held"
    ),
    # The request is fine, but cannot be answered now.
    "internal_error": Kind(500, "The server failed", "tell whoever runs the server, with the request id"),
    "not_finite": Kind(500, "The model answered no number", "roll back to an earlier version"),
    "feature_missing": Kind(503, "A feature has no value", 'materialize the view, or declare missing="accept"', 30),
    "feature_stale": Kind(503, "A feature is older than its time-to-live", "materialize the view", 30),
    "feature_store_unavailable": Kind(503, "The online store does not answer", "try again; see /health", 1),
    "log_unavailable": Kind(
        503, "The prediction could not be journaled, so it was not made", "try again; see /health", 1
    ),
    "wish_unavailable": Kind(503, "The wish could not be recorded", "try again; see the log", 1),
    "scorer_unavailable": Kind(503, "The model could not be run", "try again; see /health", 1),
    "deadline_exceeded": Kind(503, "The answer took too long", "try again", 1),
    "overloaded": Kind(503, "Too many requests are in flight", "try again later", 1),
    "no_production_version": Kind(503, "No version is in production", "promote one: `ecluse promote`", 5),
    "version_not_loaded": Kind(503, "The production version could not be loaded", "see /health for the reason", 5),
    "draining": Kind(503, "The server is shutting down", "use another server", 1),
    "starting": Kind(503, "The server is starting", "try again", 1),
}


class Refused(EcluseError):
    """A request that gets a problem instead of an answer. ``code`` is a key of :data:`KINDS`; ``field`` names the culprit.

    >>> Refused("wrong_type", "`age` is text", field="age").kind.status
    422
    """

    def __init__(self, code: str, what: str = "", *, field: str | None = None, cure: str = "") -> None:
        self.code, self.field, self.kind = code, field, KINDS[code]
        self.headers: list[tuple[bytes, bytes]] = []
        super().__init__(what or self.kind.title, where="request", cure=cure or self.kind.cure)


def problem_facts(refused: Refused, request_id: str) -> dict[str, object]:
    """The members of a problem. The caller's own values are never echoed beyond a short excerpt."""
    facts: dict[str, object] = {
        "type": f"urn:ecluse:problem:{refused.code}",
        "title": refused.kind.title,
        "status": refused.kind.status,
        "detail": refused.what,
        "code": refused.code,
        "cure": refused.cure,
        "request_id": request_id,
    }
    if refused.field is not None:
        facts["field"] = refused.field
    return facts


def problem_body(refused: Refused, request_id: str, path: str = "") -> bytes:
    """The ``application/problem+json`` body; under ``/v2`` with the member ``error`` that its protocol reads."""
    facts = problem_facts(refused, request_id)
    if path.startswith("/v2"):
        facts["error"] = f"{refused.what}; {refused.cure}"
    return msgspec.json.encode(facts)


def excerpt(value: object, limit: int = 60) -> str:
    """A caller's value in a message, shortened.

    >>> excerpt("x" * 100, 10)
    "'xxxxxxxx…"
    """
    try:
        text = repr(value) if not isinstance(value, str) else repr(value[: limit + 1])
    except RecursionError:  # as deep as can just be read
        text = "…"
    return text if len(text) <= limit else text[: limit - 1] + "…"
