"""Drift verdicts that can be trusted: few false alarms on stable windows, power where something moved, the same answer at every size."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from ecluse.core.loop_settings import Monitoring
from ecluse.monitoring.drift.counts import count_values
from ecluse.monitoring.sketch import Sketch
from ecluse.monitoring.watch import Watched, judge
from ecluse.stats.false_discovery import benjamini_hochberg
from ecluse.stats.reference import Kind, Reference, describe

Rng = np.random.Generator
Draw = Callable[[Rng, int], Any]
LIMITS = Monitoring()
TRAINED = 7_000


def _share(p: float) -> Draw:
    return lambda rng, n: (rng.random(n) < p).tolist()


def _among(names: list[str], shares: list[float]) -> Draw:
    return lambda rng, n: rng.choice(names, n, p=shares).tolist()


def _holes(rng: Rng, n: int) -> Any:
    return np.where(rng.random(n) < 0.05, np.nan, rng.normal(size=n))


# heavy tails, ties, rare values, holes: where tests made for smooth large samples go wrong
POPULATION: dict[str, tuple[Kind, Draw]] = {
    "normal": ("number", lambda rng, n: rng.normal(20, 8, n)),
    "money": ("number", lambda rng, n: rng.lognormal(3, 1.5, n)),
    "tails": ("number", lambda rng, n: rng.standard_t(3, n)),
    "count": ("number", lambda rng, n: rng.poisson(0.3, n).astype(float)),
    "age": ("number", lambda rng, n: rng.integers(18, 80, n).astype(float)),
    "holes": ("number", _holes),
    "constant": ("number", lambda rng, n: np.full(n, 4.0)),
    "flag": ("boolean", _share(0.4)),
    "rare": ("boolean", _share(0.004)),
    "plan": ("category", _among(["Basic", "Gold", "Silver"], [0.5, 0.2, 0.3])),
    "city": ("category", _among([f"c{i}" for i in range(40)], list(np.arange(1, 41) / 820))),
}


def _reference(rng: Rng, population: Mapping[str, tuple[Kind, Draw]] = POPULATION) -> Reference:
    columns = {name: draw(rng, TRAINED) for name, (_, draw) in population.items()}
    kinds = {name: kind for name, (kind, _) in population.items()}
    return describe(columns, kinds, rng.beta(2, 5, TRAINED), [i % 4 == 0 for i in range(TRAINED)])


def _judge(reference: Reference, columns: Mapping[str, Any], scores: Any, limits: Monitoring = LIMITS) -> Watched:
    rows = len(scores)
    counts = {name: count_values(reference.features[name], values) for name, values in columns.items()}
    sketch = Sketch(
        "m", 1, rows, "2024-01-01T00:00:00Z", "2024-01-02T00:00:00Z", ("a", "b"), rows, 0, counts,
        count_values(reference.score, scores),
    )  # fmt: skip
    return judge(reference, sketch, limits)


def _stable(windows: int) -> tuple[int, int, int]:
    """Of so many stable windows: how many breached, had an input that moved, had anything significant at all."""
    breached = moved = significant = 0
    reference = _reference(np.random.default_rng(0))
    for number in range(windows):
        rng = np.random.default_rng([7, number])
        if number % 20 == 0:
            reference = _reference(rng)
        rows = (200, 500, 1_000, 4_000)[number % 4]
        watched = _judge(reference, {name: d(rng, rows) for name, (_, d) in POPULATION.items()}, rng.beta(2, 5, rows))
        breached += watched.verdict.breached
        moved += bool(watched.drifted)
        p_values = [p for each in watched.shifts for p in each.p_values.values()]
        significant += bool(benjamini_hochberg(p_values, LIMITS.false_discoveries).any())
    return breached, moved, significant


def hold_false_alarms(windows: int) -> None:
    breached, moved, significant = _stable(windows)
    level = LIMITS.false_discoveries
    assert breached / windows <= level, f"{breached} of {windows} stable windows breached"
    assert moved / windows <= level, f"in {moved} of {windows} stable windows an input moved"
    # significance alone must keep its level too, up to three deviations of the count itself
    assert significant <= windows * level + 3 * math.sqrt(windows * level * (1 - level)), significant


def test_stable_windows_raise_no_more_alarms_than_declared() -> None:
    hold_false_alarms(1_000)


@pytest.mark.nightly
def test_stable_windows_raise_no_more_alarms_than_declared_for_long() -> None:
    hold_false_alarms(20_000)


def _cdf(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))


def _population_psi(shift: float) -> float:
    """PSI of a normal moved by so many deviations over 20 bins of equal mass."""
    edges = [_quantile(k / 20) for k in range(1, 20)]
    now = np.diff([0.0, *(_cdf(edge - shift) for edge in edges), 1.0])
    return float(((now - 0.05) * np.log(now / 0.05)).sum())


def _quantile(p: float) -> float:
    low, high = -10.0, 10.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _cdf(middle) < p else (low, middle)
    return low


def _shift_of(psi: float) -> float:
    low, high = 0.0, 3.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _population_psi(middle) < psi else (low, middle)
    return low


def _found(windows: int, rows: int, psi: float, limits: Monitoring) -> float:
    """The share of windows in which a number moved to that PSI is found, others being stable beside it."""
    shift, found = _shift_of(psi), 0
    population = {f"x{i}": ("number", lambda rng, n: rng.normal(size=n)) for i in range(10)}
    reference = _reference(np.random.default_rng(0), population)  # type: ignore[arg-type]
    for number in range(windows):
        rng = np.random.default_rng([11, number])
        if number % 5 == 0:
            reference = _reference(rng, population)  # type: ignore[arg-type]
        columns = {name: rng.normal(shift if name == "x0" else 0.0, 1, rows) for name in population}
        found += "x0" in _judge(reference, columns, rng.beta(2, 5, rows), limits).drifted
    return found / windows


PSI_ALONE = Monitoring(mean_shift=0, jensen_shannon=0, ks=0, wasserstein=0, cramers_v=0)


@pytest.mark.parametrize("limits", [LIMITS, PSI_ALONE], ids=["all", "psi alone"])
def test_a_move_of_psi_a_quarter_is_found_in_a_thousand_rows(limits: Monitoring) -> None:
    assert _found(300, 1_000, 0.25, limits) >= 0.9


@pytest.mark.nightly
@pytest.mark.parametrize("limits", [LIMITS, PSI_ALONE], ids=["all", "psi alone"])
def test_a_move_of_psi_a_quarter_is_found_in_a_thousand_rows_for_long(limits: Monitoring) -> None:
    assert _found(3_000, 1_000, 0.25, limits) >= 0.9


SIZES = (1_000, 10_000, 1_000_000)


@pytest.mark.parametrize(("shift", "drifted"), [(0.0, False), (0.05, False), (0.12, False), (0.5, True), (1.0, True)])
def test_the_same_shift_has_the_same_verdict_at_every_size(shift: float, drifted: bool) -> None:
    rng = np.random.default_rng(3)
    population = {"x": POPULATION["normal"], "plan": POPULATION["plan"]}
    reference = _reference(rng, population)
    p_values = []
    for rows in SIZES:
        shares = np.array([0.5, 0.2, 0.3]) + 0.4 * shift * np.array([-1, 1, 0])
        columns = {
            "x": rng.normal(20 + 8 * shift, 8, rows),
            "plan": rng.choice(["Basic", "Gold", "Silver"], rows, p=shares).tolist(),
        }
        watched = _judge(reference, columns, rng.beta(2, 5, rows))
        assert set(watched.drifted) == ({"x", "plan"} if drifted else set()), (rows, watched.features)
        assert watched.verdict.breached is drifted
        p_values.append(watched.shifts[1].p_values["ks"])
    if shift == 0.12:  # what significance alone would have said: calm at 1,000, drift at 1,000,000
        assert p_values[0] > 0.001 > p_values[-1]
