"""Bootstrap: the fast paths equal the plain one, the draws are repeatable, and the intervals cover."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
from numpy.typing import ArrayLike

from ecluse.core.errors import InvalidInput
from ecluse.stats.arrays import Floats
from ecluse.stats.bootstrap import Interval, bootstrap, paired_bootstrap
from ecluse.stats.metrics_binary import f1, log_loss, pr_auc, roc_auc
from ecluse.stats.metrics_multiclass import macro_f1
from ecluse.stats.metrics_regression import rmse


def scores(seed: int, rows: int = 400) -> tuple[Floats, Floats, Floats]:
    random = np.random.default_rng(seed)
    y = (random.random(rows) < 0.25).astype(int)
    a = (random.normal(size=rows) + y).round(1)
    return y, a, (a + y + random.normal(size=rows)).round(1)


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("metric", [roc_auc, pr_auc])
def test_weighted_path_equals_repeating_the_rows(metric: object, grouped: bool) -> None:
    assert callable(metric)
    y, a, b = scores(1)
    groups = np.arange(y.size) // 3 if grouped else None
    fast = paired_bootstrap(metric, y, a, b, rounds=70, groups=groups)
    slow = paired_bootstrap(partial(metric), y, a, b, rounds=70, groups=groups)
    assert (fast.estimate, fast.rounds) == (slow.estimate, slow.rounds)
    assert (fast.low, fast.high) == pytest.approx((slow.low, slow.high), rel=1e-12, abs=1e-12)


def test_same_seed_same_interval() -> None:
    y, a, b = scores(2)
    assert paired_bootstrap(roc_auc, y, a, b, seed=3) == paired_bootstrap(roc_auc, y, a, b, seed=3)
    assert paired_bootstrap(roc_auc, y, a, b, seed=3) != paired_bootstrap(roc_auc, y, a, b, seed=4)


def test_one_row_per_group_is_the_plain_bootstrap() -> None:
    y, a, _ = scores(3)
    assert bootstrap(roc_auc, y, a, groups=np.arange(y.size)) == bootstrap(roc_auc, y, a)


def test_copies_of_rows_do_not_narrow_a_grouped_interval() -> None:
    y, a, _ = scores(4)
    names = np.array([f"user {i}" for i in range(y.size)])
    plain = bootstrap(roc_auc, y, a, groups=names)
    five_fold = bootstrap(roc_auc, np.tile(y, 5), np.tile(a, 5), groups=np.tile(names, 5))
    assert (five_fold.low, five_fold.high) == pytest.approx((plain.low, plain.high))
    naive = bootstrap(roc_auc, np.tile(y, 5), np.tile(a, 5))
    assert naive.high - naive.low < 0.6 * (plain.high - plain.low)


def test_a_model_against_itself_gains_exactly_nothing() -> None:
    y, a, _ = scores(5)
    assert paired_bootstrap(roc_auc, y, a, a, rounds=50) == Interval(0.0, 0.0, 0.0, 50)


def test_wider_confidence_is_a_wider_interval_around_the_estimate() -> None:
    y, a, b = scores(6)
    narrow, wide = (paired_bootstrap(roc_auc, y, a, b, confidence=c) for c in (0.5, 0.99))
    assert wide.low < narrow.low < narrow.estimate < narrow.high < wide.high


def test_any_metric_runs() -> None:
    y, a, b = scores(7)
    p, q = 1 / (1 + np.exp(-a)), 1 / (1 + np.exp(-b))
    for metric in (log_loss, f1, rmse):
        found = paired_bootstrap(metric, y, p, q, rounds=40)
        assert found.low <= found.estimate <= found.high
    table = np.c_[1 - p, p]
    assert bootstrap(macro_f1, y, table, rounds=40).rounds == 40


def test_rounds_that_cannot_be_measured_are_left_out_or_spoil_the_interval() -> None:
    # With two positives among 40 rows about exp(-2) of the resamples have none.
    y = np.r_[1, 1, np.zeros(38)]
    rare = bootstrap(roc_auc, y, np.linspace(1, 0, 40), rounds=400)
    assert 300 < rare.rounds < 390
    assert (rare.low, rare.high) == (1.0, 1.0)
    none = bootstrap(roc_auc, np.zeros(10), np.arange(10.0), rounds=20)
    assert none.rounds == 0
    assert all(math.isnan(value) for value in (none.estimate, none.low, none.high))
    broken = paired_bootstrap(roc_auc, y, np.full(40, np.nan), y, rounds=20)
    assert broken.rounds == 0
    assert math.isnan(broken.low)


@pytest.mark.parametrize(
    "arguments",
    [{"rounds": 0}, {"confidence": 1.0}, {"confidence": 0.0}, {"groups": [1, 2]}],
)
def test_impossible_arguments_are_refused(arguments: dict[str, object]) -> None:
    y, a, b = scores(8, rows=30)
    with pytest.raises(InvalidInput):
        paired_bootstrap(roc_auc, y, a, b, **arguments)  # type: ignore[arg-type]


def test_no_rows_or_unequal_lengths_are_refused() -> None:
    with pytest.raises(InvalidInput):
        bootstrap(roc_auc, [], [])
    with pytest.raises(InvalidInput):
        paired_bootstrap(roc_auc, [0, 1], [0.1, 0.2], [0.1])


def test_the_interval_of_the_gain_covers_the_truth() -> None:
    """200 worlds of 300 rows, nominal 90 %: coverage within four binomial standard errors (0.085)."""
    # Binormal scores: the areas are Phi(d / sqrt 2) with d = 1 for a, and (1 + 0.8) / sqrt(2) / sqrt(2) for the mean of both.
    from scipy.stats import norm

    random = np.random.default_rng(20)
    truth = norm.cdf(1.8 / np.sqrt(2) / np.sqrt(2)) - norm.cdf(1 / np.sqrt(2))
    covered = 0
    for world in range(200):
        y = (random.random(300) < 0.4).astype(int)
        a, other = random.normal(size=300) + y, random.normal(size=300) + 0.8 * y
        found = paired_bootstrap(roc_auc, y, a, a + other, rounds=200, seed=world, confidence=0.9)
        covered += found.low <= truth <= found.high
    assert 0.815 <= covered / 200 <= 0.985


def test_the_grouped_interval_covers_where_the_row_interval_does_not() -> None:
    """A mean over entities with 8 alike rows each: rows alone claim far too much certainty."""
    random = np.random.default_rng(21)

    def mean(_: ArrayLike, p: ArrayLike) -> float:
        return float(np.asarray(p).mean())

    hits = {"groups": 0, "rows": 0}
    for world in range(120):
        entity = np.repeat(np.arange(60), 8)
        values = random.normal(size=60)[entity] + 0.3 * random.normal(size=480)
        y = np.zeros(480)
        for name, groups in (("groups", entity), ("rows", None)):
            found = bootstrap(mean, y, values, rounds=200, seed=world, confidence=0.9, groups=groups)
            hits[name] += found.low <= 0 <= found.high
    assert 0.79 <= hits["groups"] / 120 <= 0.99
    assert hits["rows"] / 120 < 0.65
