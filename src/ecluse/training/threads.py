"""Thread counts under which the same fit gives the same bits on every machine; the only importer of ``threadpoolctl``.

Measured on 20,000 x 30 rows with 1, 2 and 4 threads: LogisticRegression, Ridge and LinearRegression change with the number of BLAS
threads (sums are cut elsewhere); HistGradientBoosting, LightGBM, XGBoost and the growing of forests do not. So BLAS gets one thread,
OpenMP one too unless every learner is one of those, and ``n_jobs`` all cores where that changes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

INDIFFERENT = ("HistGradientBoosting", "LGBM", "XGB", "RandomForest", "ExtraTrees")
"""Learners (by the start of their class's name) whose result does not depend on the number of threads."""


@contextmanager
def fixed_threads(estimator: Any) -> Iterator[None]:
    """One BLAS thread, and one OpenMP thread unless the estimator's learners are indifferent to it."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, "blas"), threadpool_limits(None if _indifferent(estimator) else 1, "openmp"):
        yield


def use_cores(estimator: Any) -> None:
    """Set ``n_jobs`` that the user left open to all cores, where the result does not depend on it."""
    for part in parts(estimator):
        if type(part).__name__.startswith(INDIFFERENT) and getattr(part, "n_jobs", 1) is None:
            part.set_params(n_jobs=_cores())


def forget_cores(estimator: Any) -> None:
    """Set every ``n_jobs`` to 1 after the fit: it must not be in the bundle, and one thread sums a forest's trees in one order."""
    if hasattr(estimator, "get_params"):
        names = [
            name
            for name, value in estimator.get_params(deep=True).items()
            if name.endswith("n_jobs") and value is not None
        ]
        estimator.set_params(**dict.fromkeys(names, 1))


def parts(estimator: Any) -> list[Any]:
    """The estimator and every estimator among its parameters."""
    if not hasattr(estimator, "get_params") or isinstance(estimator, type):
        return [estimator]
    return [
        estimator,
        *(v for v in estimator.get_params(deep=True).values() if hasattr(v, "fit") and not isinstance(v, type)),
    ]


def _indifferent(estimator: Any) -> bool:
    learners = [part for part in parts(estimator) if hasattr(part, "predict") and not hasattr(part, "steps")]
    return all(type(part).__name__.startswith(INDIFFERENT) for part in learners)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
