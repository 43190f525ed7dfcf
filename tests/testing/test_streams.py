"""A stream is the same for the same seed, and drifts as its name says."""

import numpy as np
import pytest

from ecluse.testing.streams import DRIFTS, NUMBERS, stream


@pytest.mark.parametrize("drift", DRIFTS)
def test_a_stream_is_repeatable_dated_and_balanced(drift: str) -> None:
    one = stream(drift, days=4, rows_a_day=500, seed=3)
    assert one.equals(stream(drift, days=4, rows_a_day=500, seed=3))
    assert not one.equals(stream(drift, days=4, rows_a_day=500, seed=4))
    assert one["at"].is_sorted()
    assert one["at"].dt.date().value_counts()["count"].to_list() == [500] * 4
    assert 0.3 < float(one["label"].mean() or 0) < 0.8  # type: ignore[arg-type]


def _alike(drift: str, first: float, second: float) -> tuple[float, float]:
    """How alike the odds are at two places of a stream (cosine of the linear parts), and how far the inputs moved."""
    rows = stream(drift, days=40, rows_a_day=2_000, seed=1)
    parts = []
    for place in (first, second):
        part = rows.slice(int(place * rows.height), 4_000)
        x = part.select(f"x{i + 1}" for i in range(NUMBERS)).to_numpy()
        y = part["label"].cast(float).to_numpy()
        parts.append((((x - x.mean(axis=0)) * (y - y.mean())[:, None]).mean(axis=0), x.mean(axis=0)))
    (a, here), (b, there) = parts
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)), float(np.linalg.norm(there - here))


@pytest.mark.parametrize(
    ("drift", "first", "second", "angle"),
    [
        ("steady", 0, 0.9, 0),
        ("abrupt", 0, 0.2, 0),
        ("abrupt", 0.2, 0.4, 70),
        ("gradual", 0, 0.6, 90),
        ("recurring", 0, 0.3, 70),
        ("recurring", 0.05, 0.55, 0),
    ],
)
def test_the_concept_turns_as_far_as_it_is_said_to(drift: str, first: float, second: float, angle: float) -> None:
    cosine, moved = _alike(drift, first, second)
    assert np.rad2deg(np.arccos(np.clip(cosine, -1, 1))) == pytest.approx(angle, abs=15)
    assert moved < 0.15


def test_inputs_move_by_two_deviations() -> None:
    _, moved = _alike("covariate", 0, 0.95)
    assert moved == pytest.approx(1.9, abs=0.15)
