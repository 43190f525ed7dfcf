"""The story: what the ledger says of each model, folded row by row, in any slices."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ecluse.core.event import Event, LedgerRow
from ecluse.core.loop_settings import Triggers
from ecluse.loop.triggers import History, Story, due, tell, trigger_of

NOW = datetime(2024, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def rows(*events: Event) -> list[LedgerRow]:
    return [LedgerRow(place, event, "", str(place)) for place, event in enumerate(events, 1)]


def event(kind: str, hours: float = 0, actor: str = "ana", version: int | None = None, **evidence: Any) -> Event:
    return Event(kind, NOW + hours * HOUR, actor, "churn", version, "because", evidence)


def decided(plan: str, origin: int, hours: float = 0, kind: str = "loop.decided", **more: Any) -> Event:
    cause = more.pop("cause", origin)
    plain = {"kind": plan, "reason": "because", **more}
    return event(kind, hours, f"loop, event {origin}", cause=cause, origin=origin, plan=plain)


def history(*events: Event) -> History:
    return tell(Story(), rows(*events)).of("churn")


def test_a_retraining_begins_with_its_decision_and_ends_with_its_run() -> None:
    begun = history(event("trigger.raised", trigger="slo"), decided("Retrain", 1), decided("Retrain", 1))
    assert begun.running is not None
    assert len(begun.starts) == 1, "a chain that goes on after a kill begins nothing"
    done = history(decided("Retrain", 1), event("run.finished", 1, "loop, event 1", run="r", seconds=60.0))
    assert done.running is None
    assert (done.starts[0].seconds, done.trained_at) == (60.0, NOW + HOUR)
    others = history(decided("Retrain", 1), event("run.finished", 1, "ana", run="r"))
    assert others.running is not None, "a person's training is another one"


def test_failures_in_a_row_are_the_loops_own() -> None:
    def failed(origin: int) -> list[Event]:
        return [decided("Retrain", origin), event("run.failed", 0, f"loop, event {origin}")]

    assert history(*failed(1), *failed(2), event("run.failed", 0, "ana")).failures == 2
    assert history(*failed(1), event("run.finished", 0, "ana", run="r")).failures == 0
    assert history(*failed(1), event("trigger.raised", trigger="manual")).failures == 0
    waits = event("run.failed", 0, "loop, event 1", waits_until="2024-04-01T00:00:00Z")
    assert history(decided("Retrain", 1), waits).failures == 0, "labels are late: nothing failed"


def test_a_wait_after_a_failure_is_taken_up_when_it_is_over() -> None:
    until = "2024-03-01T02:00:00Z"
    told = [decided("Retrain", 1), event("run.failed", 0, "loop, event 1")]
    wait = event(
        "loop.decided", 0, "loop, event 1", cause=2, origin=1, plan={"kind": "Wait", "reason": "x", "until": until}
    )
    after = history(*told, wait)
    assert due(after, Triggers(), NOW + HOUR, tables={}) == []
    [retry] = due(after, Triggers(), NOW + 2 * HOUR, tables={})
    assert (retry.trigger, retry.deferred) == ("retry", 3)
    raised = event("trigger.raised", 2, "loop", trigger="retry", key=retry.key, deferred=3)
    assert due(history(*told, wait, raised), Triggers(), NOW + 3 * HOUR, tables={}) == []
    other = event(
        "loop.decided", 0, "loop, event 9", cause=9, origin=9, plan={"kind": "Wait", "reason": "x", "until": until}
    )
    assert history(*told, other).deferred is None, "an approval that expires is no cause"


def test_a_retry_is_never_displaced_by_another_cause() -> None:
    def held(trigger: str, hours: int) -> Event:
        until = f"2024-03-01T{hours:02}:00:00Z"
        return decided("Suppress", 9, 0, "trigger.suppressed", until=until, again=True, trigger=trigger, why="budget")

    assert [history(held("slo", a), held("outside", b)).deferred.until.hour for a, b in ((2, 3), (3, 2))] == [2, 2]  # type: ignore[union-attr]
    for told in ([held("slo", 1), held("retry", 3)], [held("retry", 3), held("slo", 1)]):
        later = history(*told).deferred
        assert later is not None
        assert later.trigger == "retry"


def _held(trigger: str, version: int | None, hours: int = 1, **more: Any) -> Event:
    plan = {"until": f"2024-03-01T{hours:02}:00:00Z", "again": True, "trigger": trigger, "why": "debounced", **more}
    return replace(decided("Suppress", 9, 0, "trigger.suppressed", **plan), version=version)


def test_what_another_system_asked_does_not_end_with_the_version_it_waited_behind() -> None:
    """Drift of version 1 and an outside event wait as one; version 1 is replaced meanwhile, and the outside event is still to be answered."""
    for told in ([_held("drift", 1), _held("outside", None, 2)], [_held("outside", None, 2), _held("drift", 1)]):
        [each] = due(history(*told), Triggers(), NOW + HOUR, tables={})
        assert (each.trigger, each.version) == ("outside", None), "drift would not be asked again, held back once more"
    [mixed] = due(history(_held("drift", 1), _held("drift", 2)), Triggers(), NOW + HOUR, tables={})
    assert mixed.version is None
    [same] = due(history(_held("drift", 1), _held("slo", 1)), Triggers(), NOW + HOUR, tables={})
    assert (same.trigger, same.version) == ("slo", 1)


def test_what_was_asked_while_a_retraining_ran_is_asked_again_when_it_has_ended() -> None:
    told = [decided("Retrain", 1), _held("outside", None, until=None, why="running")]
    assert due(history(*told), Triggers(), NOW + HOUR, tables={}) == []
    ended = [*told, event("run.finished", 1, "loop, event 1", run="r")]
    [each] = due(history(*ended), Triggers(), NOW + HOUR, tables={})
    assert (each.trigger, each.deferred) == ("outside", 2)
    failed = [*told, event("run.failed", 1, "loop, event 1")]
    assert due(history(*failed), Triggers(), NOW + HOUR, tables={}) == [each]


def test_new_rows_are_counted_from_the_newest_training_whatever_became_of_its_candidate() -> None:
    def rows_due(told: list[Event], rows: int) -> list[str]:
        return [each.key for each in due(history(*told), Triggers(new_rows=1_000), NOW, tables={"labels": rows})]

    came = event("data.ingested", table="labels", rows=5_000)
    told = [came, event("run.finished", run="champion"), event("version.promoted", version=1)]
    assert rows_due(told, 5_999) == []
    for month in range(1, 4):
        told.append(came)
        [key] = rows_due(told, 5_000 * (month + 1))
        told.append(event("trigger.raised", trigger="new_data", key=key))
        assert rows_due(told, 5_000 * (month + 1)) == [], "once for one cause"
        origin = len(told)
        told += [decided("Retrain", origin), event("run.finished", 0, f"loop, event {origin}", run=f"refused {month}")]
        told.append(decided("Nothing", origin, cause=len(told)))
        assert rows_due(told, 5_000 * (month + 1)) == []


def test_rows_that_came_while_it_trained_are_new() -> None:
    came = event("data.ingested", table="labels", rows=5_000)
    told = [came, decided("Retrain", 9), came, event("run.finished", 1, "loop, event 9", run="r")]
    [each] = due(history(*told), Triggers(new_rows=5_000), NOW, tables={"labels": 10_000})
    assert each.trigger == "new_data"


def _window(first: int, last: int, *, breached: bool = True) -> list[Event]:
    """The predictions of these minutes, one each."""
    ends = {"first": f"2024-03-01T00:{first:02}:00Z", "last": f"2024-03-01T00:{last:02}:00Z", "rows": last - first + 1}
    facts: dict[str, Any] = {"key": f"{first} to {last}", "window": ends, "findings": []}
    kinds = ("monitor.judged", "drift.detected") if breached else ("monitor.judged",)
    return [event(kind, version=1, **facts) for kind in kinds]


def test_windows_that_share_rows_are_one_breach() -> None:
    def streak(*windows: list[Event]) -> int:
        return history(*(each for window in windows for each in window)).streak

    assert streak(*(_window(n, n + 20) for n in range(3))) == 1
    assert streak(*(_window(n, n + 20) for n in range(21))) == 1, "the last prediction is in both"
    assert streak(*(_window(n, n + 20) for n in range(22))) == 2
    assert streak(_window(0, 20), _window(10, 30, breached=False), _window(11, 31)) == 1, "a calm one between"
    assert streak(_window(0, 9), _window(0, 18)) == 1, "of all predictions so far"
    assert streak(_window(0, 9), _window(0, 18), _window(0, 19), _window(0, 38), _window(0, 39)) == 3, "doubled"


def test_windows_breached_in_a_row() -> None:
    def window(name: str, breached: bool, version: int = 1) -> list[Event]:
        judged = event("monitor.judged", version=version, key=name)
        return [judged, event("drift.detected", version=version, key=name, findings=[])] if breached else [judged]

    assert history(*window("a", True), *window("b", True)).streak == 2
    assert history(*window("a", True), *window("a", True)).streak == 1, "the same window, looked at twice"
    assert history(*window("a", True), *window("b", False), *window("c", True)).streak == 1
    assert history(*window("a", True), *window("b", True, version=2)).streak == 1
    assert history(*window("a", True), decided("Retrain", 1), *window("b", True)).streak == 1


def test_a_clock_set_back_moves_what_was_before_it() -> None:
    after = history(decided("Retrain", 1, 720), decided("Nothing", 9, 0))
    assert after.starts[0].time == NOW


def test_performance_is_told_from_drift() -> None:
    def of(*checks: str) -> str:
        return trigger_of(event("drift.detected", findings=[{"check": check} for check in checks]))

    assert [of("performance"), of("performance", "drift_share"), of("drift_share"), of()] == [
        "performance",
        *["drift"] * 3,
    ]


kinds = st.sampled_from(
    ["trigger.raised", "drift.detected", "monitor.judged", "run.finished", "run.failed", "data.ingested"]
)
plain = st.builds(
    lambda kind, key, actor, hours: event(
        kind, hours, actor, 1, key=key, run=key, table="labels", rows=3, trigger="slo"
    ),
    kinds,
    st.sampled_from("abc"),
    st.sampled_from(["ana", "loop, event 1", "loop, event 2"]),
    st.integers(-3, 3),
)
decisions = st.builds(
    decided, st.sampled_from(["Retrain", "Nothing", "Suppress"]), st.integers(1, 3), st.integers(-3, 3)
)


@given(st.lists(st.one_of(plain, decisions), max_size=30), st.data())
def test_any_slices_tell_the_same_story(events: list[Event], data: st.DataObject) -> None:
    told = rows(*events)
    whole, story, place = tell(Story(), told), Story(), 0
    while place < len(told):
        size = data.draw(st.integers(1, 5))
        story, place = tell(story, told[place : place + size]), place + size
    assert story == whole
    assert whole.sequence == len(told)
    running = [start for start in whole.of("churn").starts if not start.ended]
    assert len({start.origin for start in running}) == len(running)
