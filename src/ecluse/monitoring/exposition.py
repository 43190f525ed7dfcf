"""Exposition: the text a worker shows at ``/metrics``, read back as numbers; and how much counters grew between two readings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ecluse.core.errors import InvalidInput

_LINE = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? ([^ ]+)(?: \d+)?$")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"(?:,|$)')

Series = tuple[str, tuple[tuple[str, str], ...]]
"""A metric's name and its labels, sorted."""


@dataclass(frozen=True)
class Answers:
    """What was answered to callers: how many, and how many were the server's failure, by code."""

    total: int = 0
    failed: Mapping[str, int] | None = None

    @property
    def failures(self) -> int:
        """All codes together."""
        return sum((self.failed or {}).values())


def read_samples(text: str) -> dict[Series, float]:
    r"""The samples of a Prometheus text. O(length). Raises InvalidInput for a line that is none.

    >>> read_samples('# TYPE a counter\na_total{b="x"} 3.0\n')
    {('a_total', (('b', 'x'),)): 3.0}
    """
    found: dict[Series, float] = {}
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        match = _LINE.match(line)
        try:
            if match is None:
                raise ValueError
            value = float(match[3])
        except ValueError:
            raise InvalidInput(f"no sample: {line[:80]!r}", where="/metrics", cure="ask a worker of ours") from None
        found[match[1], tuple(sorted(_LABEL.findall(match[2] or "")))] = value
    return found


def grown(before: Mapping[Series, float], now: Mapping[Series, float]) -> dict[Series, float]:
    """By how much each counter grew; one that fell was started anew and counts from 0.

    >>> grown({("a", ()): 5.0}, {("a", ()): 7.0, ("b", ()): 1.0})
    {('a', ()): 2.0, ('b', ()): 1.0}
    """
    return {key: value - before.get(key, 0.0) if value >= before.get(key, 0.0) else value for key, value in now.items()}


def answers_of(samples: Mapping[Series, float], model: str, version: int, excused: frozenset[str]) -> Answers:
    """What a version answered by these counters. Failures with an ``excused`` code are not its own, and count neither way.

    >>> labels = (("code", "not_finite"), ("model", "churn"), ("status", "500"), ("version", "2"))
    >>> answers_of({("ecluse_requests_total", labels): 4.0}, "churn", 2, frozenset())
    Answers(total=4, failed={'not_finite': 4})
    """
    total, failed = 0, dict[str, int]()
    for (name, labels), value in samples.items():
        known = dict(labels)
        if name != "ecluse_requests_total" or (known.get("model"), known.get("version")) != (model, str(version)):
            continue
        code, wrong = known.get("code", ""), known.get("status", "") >= "500"
        if wrong and code in excused:
            continue
        total += int(value)
        if wrong and value:
            failed[code] = failed.get(code, 0) + int(value)
    return Answers(total, failed)
