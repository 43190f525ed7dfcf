"""Problems of the control API: every error as RFC 9457 problem details with a status, a stable code and the cure; nothing of our insides."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from ecluse.core import errors
from ecluse.core.errors import EcluseError
from ecluse.serving.problems import KINDS, Kind, Refused

STATUS: dict[type[EcluseError], tuple[int, str]] = {
    errors.DeclarationError: (422, "declaration"),
    errors.InvalidInput: (422, "invalid_input"),
    errors.Unsupported: (422, "unsupported"),
    errors.NotFound: (404, "not_found"),
    errors.Conflict: (409, "conflict"),
    errors.NotAllowed: (403, "not_allowed"),
    errors.Unavailable: (503, "unavailable"),
    errors.Corrupt: (500, "corrupt"),
}


@dataclass(frozen=True)
class Problem:
    """One answer that is none: what goes into its body, and headers beside it."""

    status: int
    code: str
    title: str
    detail: str
    cure: str = ""
    field: str = ""
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def body(self) -> bytes:
        """``application/problem+json``."""
        facts: dict[str, Any] = {
            "type": f"urn:ecluse:problem:{self.code}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
        }
        facts |= {key: value for key, value in (("cure", self.cure), ("field", self.field)) if value}
        return json.dumps(facts).encode()


def problem_of(error: EcluseError) -> Problem:
    """How an error is told to a caller.

    >>> problem_of(errors.NotAllowed("version 2 is not approved", cure="approve it")).status
    403
    """
    if isinstance(error, Refused):
        return _of_kind(error.code, error.kind, error.what, error.cure)
    status, code = STATUS.get(type(error), (500, "internal_error"))
    detail = error.what + (f" ({error.where})" if error.where else "")
    headers = (("Retry-After", "1"),) if status == 503 else ()
    return Problem(status, code, type(error).__name__, detail, error.cure, headers=headers)


def problem_named(code: str, detail: str = "", field: str = "") -> Problem:
    """A problem by the code of its kind.

    >>> problem_named("not_found").status
    404
    """
    kind = KINDS[code]
    return Problem(kind.status, code, kind.title, detail or kind.title, field=field)


def _of_kind(code: str, kind: Kind, what: str, cure: str) -> Problem:
    headers = [("WWW-Authenticate", "Bearer")] if code == "unauthorized" else []
    if kind.retry_after is not None:
        headers.append(("Retry-After", str(kind.retry_after)))
    return Problem(kind.status, code, kind.title, what, cure, headers=tuple(headers))
