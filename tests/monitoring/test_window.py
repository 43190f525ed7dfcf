from tests.monitoring.records import prediction

from ecluse.monitoring.window import busiest, by_version, make_window


def test_a_window_is_one_version_of_one_model_in_order() -> None:
    records = [
        prediction(1, inputs={"a": 1.0}, score=0.1, time="2024-01-01T00:00:00Z"),
        {"kind": "outcome", "model": "churn", "time": "2024-01-01T00:00:00Z"},
        prediction(2, model="other"),
        prediction(3, version=2, inputs={"a": 3.0}),
        prediction(
            4, inputs={"a": 2.0, "b": "x"}, score=0.2, time="2024-01-02T00:00:00Z", degraded=("profile: missing",)
        ),
    ]
    versions = by_version(records, "churn")
    assert busiest({number: len(each) for number, each in versions.items()}) == 1
    window = make_window("churn", 1, versions)
    assert (window.rows, window.ends, window.versions, window.degraded) == (2, ("w-1", "w-4"), {1: 2, 2: 1}, 1)
    assert (window.first, window.last) == ("2024-01-01T00:00:00Z", "2024-01-02T00:00:00Z")
    assert window.inputs == {"a": [1.0, 2.0], "b": [None, "x"]}
    assert window.scores == [0.1, 0.2]


def test_a_version_that_never_answered_has_an_empty_window() -> None:
    window = make_window("churn", 7, {})
    assert (window.rows, window.inputs, window.first) == (0, {}, "")


def test_answers_are_the_classes_of_a_multiclass_model() -> None:
    records = [prediction(1, decision="gold", scores={"gold": 0.9}), prediction(2, decision=True)]
    assert make_window("churn", 1, by_version(records, "churn")).answers == ["gold", None]


def test_of_two_equally_busy_versions_the_newer_is_judged() -> None:
    assert busiest({1: 5, 3: 5, 2: 5}) == 3
