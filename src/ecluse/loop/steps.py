"""Steps: what a chain does is done in remembered steps; a kill may come before a step's effect, behind it, or once it is remembered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ecluse.core.failpoint import failpoint
from ecluse.core.ports import Step


def killable(step: Step) -> Step:
    """The same step with those three failpoints. One that is only read back from memory passes none of them."""

    def killed_at(name: str, function: Callable[[], Any]) -> Any:
        done = False

        def effect() -> Any:
            nonlocal done
            failpoint("step.begin")
            answer = function()
            failpoint("step.done")
            done = True
            return answer

        answer = step(name, effect)
        if done:
            failpoint("step.kept")
        return answer

    return killed_at
