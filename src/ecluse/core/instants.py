"""Instants and durations: UTC microseconds, RFC 3339 text, and the durations people write ("45d").

A naive timestamp is refused unless its table declares a zone; a bare date is 00:00 UTC (DESIGN §3.11).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ecluse.core.errors import DeclarationError, InvalidInput

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


MOST_SECONDS = 365_250 * 86_400  # no instant less a duration leaves what a datetime or 64 bits of microseconds can hold


def parse_duration(text: str, *, where: str = "") -> timedelta:
    """``"45d"``, ``"12h"``, ``"1d12h"``, ``"0d"`` as a timedelta. Raises DeclarationError.

    >>> parse_duration("1d12h")
    datetime.timedelta(days=1, seconds=43200)
    """
    compact = text.strip()
    pieces = _DURATION.findall(compact)
    if not pieces or _DURATION.sub("", compact).strip():
        raise DeclarationError(
            f"{text!r} is not a duration", where=where, cure='write it like "45d", "12h", "30m" or "1d12h"'
        )
    seconds = sum(float(number) * _UNITS[unit] for number, unit in pieces)
    if seconds > MOST_SECONDS:
        raise DeclarationError(f"{text!r} is more than a thousand years", where=where, cure="write a shorter one")
    return timedelta(seconds=seconds)


def format_duration(value: timedelta) -> str:
    """The shortest text ``parse_duration`` reads back.

    >>> format_duration(timedelta(days=45)), format_duration(timedelta(hours=36)), format_duration(timedelta(0))
    ('45d', '1d12h', '0d')
    """
    seconds = value.total_seconds()
    text = ""
    for unit in ("d", "h", "m"):
        whole, seconds = divmod(seconds, _UNITS[unit])
        text += f"{int(whole)}{unit}" if whole else ""
    text += f"{seconds:g}s" if seconds else ""
    return text or "0d"


def parse_instant(text: str, *, zone: str | None = None, where: str = "") -> datetime:
    """RFC 3339 text, or a bare date (00:00 UTC), as an aware UTC datetime with microseconds.

    ``zone`` is the IANA name a naive timestamp is to be read in; without it a naive one is refused. Raises InvalidInput.

    >>> parse_instant("2024-01-31").isoformat()
    '2024-01-31T00:00:00+00:00'
    """
    compact = text.strip()
    try:
        value = datetime.fromisoformat(compact)
    except ValueError:
        raise InvalidInput(
            f"{text!r} is not an instant", where=where, cure="write 2024-01-31 or 2024-01-31T12:00:00Z"
        ) from None
    if _DATE.fullmatch(compact):
        return value.replace(tzinfo=UTC)
    if value.tzinfo is None:
        if zone is None:
            raise InvalidInput(
                f"{text!r} has no time zone",
                where=where,
                cure='end it with Z or +01:00, or declare zone="Europe/Paris" on the table',
            )
        value = value.replace(tzinfo=load_zone(zone))
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise InvalidInput(
            f"{text!r} is outside the years 1 to 9999 in UTC", where=where, cure="write an instant within them"
        ) from None


def load_zone(name: str) -> ZoneInfo:
    """The IANA zone of that name. Raises DeclarationError."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise DeclarationError(
            f"{name!r} is not a time zone", where="project.py", cure='use an IANA name such as "Europe/Paris"'
        ) from None


def format_instant(value: datetime) -> str:
    """RFC 3339 UTC text; microseconds only when there are any.

    >>> format_instant(datetime(2024, 1, 31, tzinfo=UTC))
    '2024-01-31T00:00:00Z'
    """
    if value.tzinfo is None:
        raise InvalidInput(f"{value!r} has no time zone", cure="use an aware datetime")
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


def to_micros(value: datetime) -> int:
    """Microseconds since 1970-01-01 UTC, exact.

    >>> to_micros(datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC))
    1000000
    """
    return (value - _EPOCH) // timedelta(microseconds=1)


def from_micros(value: int) -> datetime:
    """The inverse of :func:`to_micros`."""
    return _EPOCH + timedelta(microseconds=value)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
