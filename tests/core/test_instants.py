"""Instants are UTC microseconds; naive ones need a zone."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecluse.core.errors import DeclarationError, InvalidInput
from ecluse.core.instants import format_duration, format_instant, from_micros, parse_duration, parse_instant, to_micros


@given(st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_text_and_microseconds_are_exact(moment: datetime) -> None:
    assert parse_instant(format_instant(moment)) == moment
    assert from_micros(to_micros(moment)) == moment


@given(st.integers(0, 10_000_000))
def test_durations_read_back(seconds: int) -> None:
    span = timedelta(seconds=seconds)
    assert parse_duration(format_duration(span)) == span


def test_a_bare_date_is_midnight_utc() -> None:
    assert parse_instant("2024-01-31") == datetime(2024, 1, 31, tzinfo=UTC)


def test_a_naive_instant_needs_a_zone() -> None:
    with pytest.raises(InvalidInput, match="no time zone"):
        parse_instant("2024-01-31T12:00:00")
    assert parse_instant("2024-07-01T12:00:00", zone="Europe/Paris") == datetime(2024, 7, 1, 10, tzinfo=UTC)


@pytest.mark.parametrize("text", ["", "soon", "3", "3 parsecs", "1d tomorrow", "-1d"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(DeclarationError, match="45d"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["", "31/01/2024", "2024-13-01", "now"])
def test_what_is_no_instant_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_instant(text)
