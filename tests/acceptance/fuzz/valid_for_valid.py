"""A hook of schemathesis: what two schemas cannot say of each other. It puts a valid value for a valid one, so no case changes sides."""

from __future__ import annotations

import re
from typing import Any

import schemathesis

from ecluse.serving.validate import REQUEST_ID


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: schemathesis.Case[Any], kwargs: dict[str, Any]) -> None:
    """Header and body name a request by one id; and a deadline of a millisecond would be granted with a 503."""
    headers = case.headers if case.headers is not None else {}
    own = case.body.get("request_id") if isinstance(case.body, dict) else None
    if isinstance(own, str) and REQUEST_ID.fullmatch(own) and REQUEST_ID.fullmatch(headers.get("X-Request-Id") or ""):
        headers["X-Request-Id"] = own
    if re.fullmatch(r"[0-9]{1,9}", str(headers.get("X-Request-Timeout-Ms", ""))):
        headers["X-Request-Timeout-Ms"] = "30000"
