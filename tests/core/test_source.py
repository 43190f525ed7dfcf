"""What a drop's name says, when it is whole, when a source is late."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecluse.core.errors import DeclarationError, InvalidInput
from ecluse.core.source import Seen, Source, complete, is_late, moment_of


def _moment(name: str, as_of: str = "name") -> datetime:
    return moment_of(Source("in/*", as_of=as_of), Seen(name, "", 1_000_000))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "moment"),
    [
        ("in/2024-06-30", datetime(2024, 6, 30, tzinfo=UTC)),
        ("in/usage-20240630.csv", datetime(2024, 6, 30, tzinfo=UTC)),
        ("in/usage_2024-06-30T06:15:00Z.csv", datetime(2024, 6, 30, 6, 15, tzinfo=UTC)),
        ("in/20240630T0615Z.parquet", datetime(2024, 6, 30, 6, 15, tzinfo=UTC)),
        ("2024-01-01/part-2024-06-30.csv", datetime(2024, 6, 30, tzinfo=UTC)),
        ("as_of=2024-06-30/usage.csv", datetime(2024, 6, 30, tzinfo=UTC)),
    ],
)
def test_a_name_says_its_moment(name: str, moment: datetime) -> None:
    assert _moment(name) == moment


@pytest.mark.parametrize("name", ["in/june", "in/2024-13-01", "in/2024-02-30", "in/1234567890", "in/2024-06"])
def test_a_name_that_says_none_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="moment"):
        _moment(name)


def test_a_drop_may_speak_of_when_it_was_modified() -> None:
    assert _moment("in/june", "modified") == datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)


@given(st.integers(1, 9998), st.integers(1, 12))
def test_a_month_speaks_of_its_last_day(year: int, month: int) -> None:
    moment = _moment(f"in/{year:04}-{month:02}", "month")
    after = moment + timedelta(days=1)
    assert (moment.year, moment.month, after.day) == (year, month, 1)


def test_a_day_is_no_month() -> None:
    with pytest.raises(InvalidInput):
        _moment("in/2024-06-30", "month")


def test_a_drop_is_whole_when_it_rests_or_is_marked() -> None:
    rests, marked = Source("in/*", settle=timedelta(seconds=2)), Source("in/*", marker="_SUCCESS")
    seen = Seen("in/a", "", 0)
    assert not complete(rests, seen, timedelta(seconds=1.9))
    assert complete(rests, seen, timedelta(seconds=2))
    assert not complete(marked, seen, timedelta(days=1))
    assert complete(marked, Seen("in/a", "", 0, marked=True), timedelta(0))


def test_late_is_later_than_promised() -> None:
    source, newest = Source("in/*", freshness=timedelta(days=2)), datetime(2024, 6, 1, tzinfo=UTC)
    assert not is_late(source, newest, newest + timedelta(days=2))
    assert is_late(source, newest, newest + timedelta(days=2, microseconds=1))
    assert not is_late(Source("in/*"), newest, newest + timedelta(days=9_999))


@pytest.mark.parametrize(
    "wrong",
    [
        {"drops": ""},
        {"drops": "/etc/*"},
        {"drops": "../*"},
        {"drops": "s3://shop"},
        {"drops": "s3://shop/"},
        {"drops": "s3://shop//in/*"},
        {"drops": "s3://shop/../*"},
        {"drops": "s3://sh*p/in/*"},
        {"drops": "s3:///in/*"},
        {"drops": "gs://shop/in/*"},
        {"drops": "file:///etc/*"},
        {"marker": "a/b"},
        {"freshness": timedelta(0)},
    ],
)
def test_a_source_that_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(DeclarationError):
        Source(**({"drops": "in/*"} | wrong))  # type: ignore[arg-type]


def test_a_source_lies_in_folders_or_in_a_bucket() -> None:
    assert (Source("in/*").bucket, Source("in/*").pattern) == ("", "in/*")
    far = Source("s3://my-shop.eu/landing/*/usage-*.parquet")
    assert (far.bucket, far.pattern) == ("my-shop.eu", "landing/*/usage-*.parquet")


def test_a_bucket_does_not_say_the_moment() -> None:
    with pytest.raises(InvalidInput, match="moment"):
        moment_of(Source("s3://shop-2024-06-30/in/*"), Seen("in/june", "", 0))


def test_credentials_in_a_source_are_refused_and_not_repeated() -> None:
    with pytest.raises(DeclarationError) as refused:
        Source("s3://key:secret@shop/in/*")
    assert "secret@" not in str(refused.value)
    assert "AWS_SECRET_ACCESS_KEY" in str(refused.value)
