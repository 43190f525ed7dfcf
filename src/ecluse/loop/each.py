"""Each: the same work for every model, where the trouble of one holds up none of the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from ecluse.core.errors import EcluseError, NotFound

T = TypeVar("T")


def for_each(models: Iterable[str], work: Callable[[str], Iterable[T]]) -> list[T]:
    """What ``work`` gives for every model. What it raises is raised at the end, when all were done: several as one, that tells all.

    >>> for_each(["a", "b"], lambda model: [model.upper()])
    ['A', 'B']
    """
    found, troubles = list[T](), list[EcluseError]()
    for model in models:
        try:
            found += work(model)
        except EcluseError as error:
            troubles.append(error)
    troubles.sort(key=lambda each: isinstance(each, NotFound))  # what is not there yet is the least of them
    told = list(dict.fromkeys(map(str, troubles)))
    if len(told) > 1:
        raise type(troubles[0])("; ".join(told)) from troubles[0]
    if troubles:
        raise troubles[0]
    return found
