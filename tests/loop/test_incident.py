"""What follows from a look at a champion: one step back at most, never forward, and a person for the rest."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ecluse.core.event import Event, LedgerRow
from ecluse.core.loop_settings import Rollback, Slo
from ecluse.core.verdict import Finding, Outcome, Verdict
from ecluse.loop.commands import Nothing, Promote, Wait
from ecluse.loop.incident import Call, Close, GoOn, Open, Step, calm, what_follows
from ecluse.loop.releases import Releases, tell_releases
from ecluse.monitoring.released import Observed, judge_release

NOW = datetime(2024, 3, 1, tzinfo=UTC)
LIMITS = Rollback(metrics={"revenue": 0.9})
BAD = Verdict("release", (Finding("errors", Outcome.FAILED, "40 of 200 answers failed", 0.2, 0.02),))
GOOD = Verdict("release", (Finding("errors", Outcome.PASSED, "fine", 0.0, 0.02),))


class Book:
    """A ledger of one model, written by hand."""

    def __init__(self) -> None:
        self.rows: list[LedgerRow] = []

    def tell(self, kind: str, version: int | None = None, at: datetime = NOW, **evidence: Any) -> int:
        event = Event(kind, at, "ana", "churn", version, "because", evidence, recorded=at)
        self.rows.append(LedgerRow(len(self.rows) + 1, event, "", ""))
        return len(self.rows)

    @property
    def known(self) -> Releases:
        return tell_releases(Releases(), self.rows, LIMITS.metrics)


def released(*versions: int, at: datetime = NOW) -> Book:
    book = Book()
    for number in versions:
        book.tell("version.promoted", number, at)
    return book


def follows(
    book: Book, verdict: Verdict = BAD, *, after: timedelta = timedelta(minutes=1), targets: Sequence[int] = (1,)
) -> Step | None:
    return what_follows(book.known, verdict, LIMITS, targets, NOW + after)


def test_a_bad_release_goes_back_to_the_version_before() -> None:
    step = follows(released(1, 2))
    assert isinstance(step, Open)
    assert step.to == 1
    assert follows(released(1, 2), GOOD) is None
    assert follows(Book()) is None


def test_an_incident_that_was_opened_is_carried_out() -> None:
    book = released(1, 2)
    book.tell("incident.opened", 2, to=1)
    assert isinstance(follows(book, GOOD), GoOn)


def test_an_incident_closes_when_it_was_calm_for_long_enough() -> None:
    book = released(1, 2)
    book.tell("incident.opened", 2, to=1)
    book.tell("version.rolled_back", 1, NOW + timedelta(seconds=2))
    assert follows(book, GOOD, after=timedelta(minutes=5)) is None
    step = follows(book, GOOD, after=timedelta(minutes=11))
    assert isinstance(step, Close)
    assert "within the declared 1m" in step.why
    book.tell("incident.closed", 2)
    assert book.known.incident is None


def test_a_person_who_releases_another_ends_it() -> None:
    book = released(1, 2)
    book.tell("incident.opened", 2, to=1)
    book.tell("version.promoted", 3)
    assert isinstance(follows(book, GOOD), Close)


def test_what_was_gone_back_to_is_not_left_by_itself() -> None:
    book = released(1, 2)
    book.tell("incident.opened", 2, to=1)
    book.tell("version.rolled_back", 1)
    step = follows(book, BAD, targets=())
    assert isinstance(step, Call)
    assert "gone back to" in step.why
    book.tell("alert.raised", 1, incident=step.key)
    assert follows(book, BAD, targets=()) is None  # a person is called once


def test_no_second_rollback_within_the_cool_down() -> None:
    book = released(1, 2)
    book.tell("incident.opened", 2, to=1)
    book.tell("version.rolled_back", 1)
    book.tell("incident.closed", 2)
    book.tell("version.promoted", 3, NOW + timedelta(hours=1))
    step = follows(book, after=timedelta(hours=1, minutes=1))
    assert isinstance(step, Call)
    assert "less than 6h ago" in step.why
    assert isinstance(follows(book, after=timedelta(hours=7)), Open)


def test_an_old_release_stays_and_a_person_is_called() -> None:
    step = follows(released(1, 2), after=timedelta(days=2))
    assert isinstance(step, Call)
    assert "too long ago" in step.why


def test_what_another_system_reports_counts_for_old_releases_too() -> None:
    book = released(1, 2)
    book.tell("incident.reported", 1, id="a")  # about a version that does not serve
    assert "incident" not in book.known.against
    book.tell("incident.reported", 2, id="b")
    found = Verdict("release", (book.known.against["incident"],))
    assert isinstance(follows(book, found, after=timedelta(days=90)), Open)


def test_a_business_metric_has_its_least_value() -> None:
    book = released(1, 2)
    book.tell("incident.reported", None, id="a", metric="revenue", value=0.95)
    assert book.known.against["business"].passed
    book.tell("incident.reported", None, id="b", metric="revenue", value=0.7)
    assert book.known.against["business"].outcome is Outcome.FAILED
    book.tell("incident.reported", None, id="c", metric="unknown", value=0.0)
    assert book.known.against["business"].measured == 0.7


DRIFTED, CALM = (
    [{"check": "drift_share"}],
    {"samples": "passed", "drift_share": "passed", "performance": "inconclusive"},
)


def gone_back() -> Book:
    """Version 1, which was gone back to from version 2 by an incident."""
    book = released(1, 2)
    book.tell("incident.opened", 2, to=1)
    book.tell("version.rolled_back", 1)
    return book


def look_a_day_later(book: Book) -> Step | None:
    limits = replace(LIMITS, on=("drift", "performance"))
    verdict = judge_release(Observed(1, told=book.known.against), limits, Slo())
    return what_follows(book.known, verdict, limits, (), NOW + timedelta(days=1))


def test_a_calm_window_after_a_drift_lets_an_incident_close() -> None:
    book = gone_back()
    book.tell("drift.detected", 1, findings=DRIFTED)
    assert isinstance(look_a_day_later(book), Call)
    book.tell("alert.raised", 1, incident=f"{book.known.moved}/old")
    for version, outcomes in (
        (2, CALM),  # of another version
        (1, {"samples": "inconclusive", "target_shift": "passed"}),  # too few to judge
        (1, {"samples": "passed", "drift_share": "passed", "segment_drift": "failed"}),
    ):
        book.tell("monitor.judged", version, outcomes=outcomes)
        assert "drift" in book.known.against
    assert not isinstance(look_a_day_later(book), Close)
    book.tell("monitor.judged", 1, outcomes=CALM)
    assert isinstance(look_a_day_later(book), Close)
    book.tell("monitor.judged", 1, outcomes=CALM | {"drift_share": "failed"})
    book.tell("drift.detected", 1, findings=DRIFTED)
    assert not isinstance(look_a_day_later(book), Close), "and it may come back"


def test_performance_told_is_over_when_as_many_truths_pass() -> None:
    book = gone_back()
    missed = [{"check": "performance"}]
    book.tell("drift.detected", 1, findings=missed)
    book.tell("monitor.judged", 1, outcomes=CALM)
    assert "performance" in book.known.against, "no truths have come of that window"
    book.tell("outcomes.settled", 1, by="outcomes", outcomes={"performance": "passed"})
    assert "performance" in book.known.against, "many good months do not make up for a window"
    book.tell("monitor.judged", 1, outcomes=CALM | {"performance": "passed"})
    assert not book.known.against
    book.tell("drift.detected", 1, findings=missed, by="outcomes")
    book.tell("outcomes.settled", None, counts={})
    assert "performance" in book.known.against
    book.tell("outcomes.settled", 1, by="outcomes", outcomes={"performance": "passed"})
    assert not book.known.against


def test_nowhere_to_go_back_to_calls_a_person() -> None:
    step = follows(released(1), targets=())
    assert isinstance(step, Call)
    assert "no version to go back to" in step.why


def test_the_loop_releases_nothing_while_an_incident_lasts() -> None:
    promote, other = Promote("churn", 3, 9, "gates passed"), Nothing("no gain")
    book = released(1, 2)
    assert calm(book.known, LIMITS, [promote, other], NOW) == (promote, other)
    book.tell("incident.opened", 2, to=1)
    held = calm(book.known, LIMITS, [promote, other], NOW)
    assert isinstance(held[0], Wait)
    assert held[1] == other
    book.tell("version.rolled_back", 1)
    book.tell("incident.closed", 2)
    assert isinstance(calm(book.known, LIMITS, [promote], NOW + timedelta(hours=5))[0], Wait)
    assert calm(book.known, LIMITS, [promote], NOW + timedelta(hours=7)) == (promote,)


def play(looks: list[tuple[int, bool, bool]], limits: Rollback) -> list[tuple[datetime, int, int]]:
    """Every rollback of a story: minutes pass, a version is released (by a person) or not, the champion is bad or not."""
    book, now, newest, back = Book(), NOW, 1, []
    previous: list[int] = []
    book.tell("version.promoted", 1, now)
    for minutes, release, bad in looks:
        now += timedelta(minutes=minutes)
        if release:
            previous.append(book.known.champion or 0)
            newest += 1
            book.tell("version.promoted", newest, now)
        known = book.known
        step = what_follows(known, BAD if bad else GOOD, limits, previous[::-1], now)
        if isinstance(step, Open):
            book.tell("incident.opened", known.champion, now, to=step.to)
            book.tell("version.rolled_back", step.to, now)
            previous = previous[: previous.index(step.to)]
            back.append((now, known.champion or 0, step.to))
        elif isinstance(step, Call):
            book.tell("alert.raised", known.champion, now, incident=step.key)
        elif isinstance(step, Close):
            book.tell("incident.closed", known.champion, now)
    return back


STORIES = st.lists(st.tuples(st.integers(0, 600), st.booleans(), st.booleans()), max_size=30)


@given(STORIES)
def test_never_back_and_forth(looks: list[tuple[int, bool, bool]]) -> None:
    back = play(looks, LIMITS)
    assert all(to < left for _, left, to in back)
    assert len({left for _, left, _ in back}) == len(back)  # none is taken back twice
    times = [time for time, _, _ in back]
    assert all(later - earlier >= LIMITS.cool_down for earlier, later in pairwise(times))


def test_without_a_cool_down_it_flaps() -> None:
    """The planted defect."""
    looks = [(10, True, True)] * 6
    assert len(play(looks, LIMITS)) == 1
    assert len(play(looks, replace(LIMITS, cool_down=timedelta(0)))) == 3
