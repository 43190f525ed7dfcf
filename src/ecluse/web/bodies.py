"""What callers of the control API send: strict shapes, a reason in each. The only importer of pydantic."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def whole(value: object) -> object:
    """JSON has one kind of number: 7.0 is the integer 7.

    >>> whole(7.0), whole(7.5)
    (7, 7.5)
    """
    return int(value) if isinstance(value, float) and value.is_integer() else value


Version = Annotated[int, Field(ge=1, le=1_000_000_000), BeforeValidator(whole)]
PLAIN = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$"
"""No control character and no line's end: such a text could pass for a row of the ledger, or steer a terminal."""
PLAIN_WORDS = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f\u2028\u2029]*$"
"""The same, and not blank."""
Item = Annotated[str, Field(min_length=1, max_length=200, pattern=PLAIN)]


class Reasoned(BaseModel):
    """Why, for the ledger."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    why: Annotated[str, Field(min_length=1, max_length=1_000, pattern=PLAIN_WORDS, examples=["read the report"])]


class Approval(Reasoned):
    """``checks``: the items of the checklist vouched for."""

    checks: Annotated[list[Item], Field(max_length=100)] = []


class Promotion(Reasoned):
    """``override``: who takes it on to release past gates and approvals; the key must also have the scope ``approve``."""

    override: Annotated[str, Field(max_length=200, pattern=PLAIN)] = ""


class Rollback(Reasoned):
    """``to``: a version that has been in Production (the one before); ``leaving``: only if this version is in Production."""

    to: Version | None = None
    leaving: Version | None = None
