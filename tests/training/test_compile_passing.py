"""Passing: the last double that passes a threshold, whatever the column does on its way."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from ecluse.training.compile.passing import last_passing

Doubles = np.ndarray
LIMITS = np.array([-1e300, -3.0, -0.1, -5e-324, -0.0, 1e-310, 0.1, 1.0 / 3.0, 0.5, 1.0, 2.9999999, 7e9, 1e300])


def single(x: Doubles) -> Doubles:
    return x.astype(np.float32).astype(np.float64)


COLUMNS: dict[str, Callable[[Doubles], Doubles]] = {
    "itself": lambda x: x,
    "single": single,
    "scaled": lambda x: (x - 1e9) / 0.3,
    "scaled, single": lambda x: single((x - 17.3) / 5.1),
    "falling": lambda x: x * -1e-3,
    "falling, single": lambda x: single(x * -0.7 + 3.0),
    "clipped": lambda x: np.clip(x * 2.0 + 1.0, -3.0, 1.0),
    "flat but at the ends": lambda x: np.where(x < -1e290, -np.inf, np.where(x > 1e290, np.inf, 0.25)),
    "a step": lambda x: np.where(x <= 12345.678, 0.0, 1.0),
    "bent": lambda x: np.sign(x) * np.sqrt(np.abs(x)),
    "huge": lambda x: x * 1e40,
}


@pytest.mark.parametrize("name", COLUMNS)
def test_the_next_double_does_not_pass(name: str) -> None:
    column, asked = COLUMNS[name], 0

    def ask(values: Sequence[Doubles]) -> list[Doubles]:
        nonlocal asked
        asked += 1
        with np.errstate(over="ignore"):
            return [column(values[0]), values[1]]

    ends = ask([np.array([-np.inf, np.inf]), np.zeros(0)])[0]
    rising = bool(ends[0] < ends[1])
    passable = (ends.min() <= LIMITS) & (ends.max() > LIMITS)
    limits = LIMITS[passable]
    found, beside = last_passing(ask, [limits, np.array([0.5])], [rising, True])
    with np.errstate(over="ignore"):
        after = np.nextafter(found, np.inf)
    passes, beyond = ask([found, beside])[0], ask([after, beside])[0]
    assert ((passes <= limits) == rising).all()
    assert ((beyond <= limits) != rising).all()
    assert beside.tolist() == [0.5]
    assert asked <= 75
