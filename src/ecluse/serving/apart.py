"""Scoring outside this process, without a thread for each request: what is asked while the scorer is at work is scored together by its next call."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from typing import Protocol, cast

import numpy as np
import numpy.typing as npt

from ecluse.core.errors import EcluseError
from ecluse.core.ports import Scorer
from ecluse.serving.predict import Case, check_finite, matrix_of
from ecluse.serving.problems import Refused
from ecluse.serving.scorers import Loaded

Matrix = npt.NDArray[np.float64]


class ScorerApart(Scorer, Protocol):
    """A scorer whose work is done elsewhere: several requests may wait for it at once."""

    def submit(self, matrix: Matrix) -> Future[Matrix]:
        """As ``score``, to be waited for; cancelled before its turn it is not scored. Raises Unavailable at once when there is nobody to ask."""
        ...


async def run_apart(case: Case) -> list[float]:
    """As ``predict.run``, for one case whose scorer is ``blocking``. Raises Refused."""
    scores: list[float] = (await score_apart(case.loaded, matrix_of([case])))[0].tolist()
    if (refused := check_finite(case, scores)) is not None:
        raise refused
    return scores


async def score_apart(loaded: Loaded, matrix: Matrix) -> Matrix:
    """Answers for the rows, double [n, K]. Cancelled before its turn, it is never scored. Raises Refused ``scorer_unavailable``."""
    try:
        found: Matrix = await asyncio.wrap_future(cast(ScorerApart, loaded.scorer).submit(matrix))
    except EcluseError as error:
        raise Refused("scorer_unavailable", error.what) from None
    return found
