"""Fresh gain: is the candidate worth replacing the champion on what happened last? A rolling backtest on labels the champion could not know.

Held-out rows whose truth came after the champion's training are cut, in the order of their label moments, into stretches of equal size; in each
both versions are compared. The last stretch decides: what is best there is what to serve tomorrow (the newest window of a rolling-origin
evaluation: Tashman, "Out-of-sample tests of forecasting accuracy", International Journal of Forecasting 16 (2000)).

No gate: it refuses nothing, and a person may release what gains nothing. It is what the loop asks before it releases by itself.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np

from ecluse.core.settings import Gates
from ecluse.core.verdict import Finding, Outcome
from ecluse.gates.evidence import Array, Evidence, Mask
from ecluse.gates.measured import called, gain, metric_named

CHECK = "fresh_gain"
ROUNDS = 200
"""The interval is told, the estimate decides: it stands on the way to a release, and a rough one will do."""


def check_fresh(evidence: Evidence, gates: Gates) -> Finding:
    """PASSED with a gain above ``fresh.min_gain`` on the last stretch (or without a champion), FAILED without, INCONCLUSIVE where too few
    fresh labels are there. O(rows × rounds).
    """
    champion, rules, name = evidence.champion, gates.fresh, evidence.judged_by

    def unknown(why: str) -> Finding:
        return Finding(CHECK, Outcome.INCONCLUSIVE, why, None, rules.min_gain, name)

    if champion is None:
        return Finding(CHECK, Outcome.PASSED, "no champion to gain on", None, rules.min_gain, name)
    if not rules.rows:
        return unknown("gates.fresh.rows = 0 asks nothing")
    if champion.answers is None or champion.clean is None or champion.fresh is None or evidence.at is None:
        return unknown(f"version {champion.number} could not be asked: {champion.problem}")
    fresh = champion.clean & champion.fresh
    if int(fresh.sum()) < rules.rows:
        why = f"{int(fresh.sum())} held-out labels are newer than version {champion.number}'s training, at least {rules.rows} are asked"
        return unknown(why)
    metric = metric_named(evidence.task, name, "judged_by")
    old = called(metric, champion.answers, champion.threshold)
    new = called(metric, evidence.answers, evidence.threshold)
    windows = stretches(evidence.at, fresh, min(rules.windows, int(fresh.sum()) // rules.rows))
    level = replace(gates.non_regression, rounds=min(gates.non_regression.rounds, ROUNDS))
    gains = [gain(evidence, metric, old, new, rows, level, "judged_by") for rows in windows]
    last = gains[-1]
    if np.isnan(last.estimate):
        return unknown(f"{name} cannot be measured on the last {int(windows[-1].sum())} labels")
    enough = last.estimate > rules.min_gain
    why = f"{name} {last.estimate:+.4f} [{last.low:+.4f}, {last.high:+.4f}] at {level.confidence:.0%} on the last {int(windows[-1].sum())} labels"
    why += f" that version {champion.number} could not know"
    if len(gains) > 1:
        why += f" (before: {', '.join(f'{each.estimate:+.4f}' for each in gains[:-1])})"
    why += f"; {'more' if enough else 'no more'} than {rules.min_gain:g}"
    return Finding(CHECK, Outcome.PASSED if enough else Outcome.FAILED, why, last.estimate, rules.min_gain, name)


def stretches(at: Array, rows: Mask, windows: int) -> list[Mask]:
    """At most ``windows`` masks of about as many of the ``rows`` each, earliest first; rows of one moment stay together. O(n log n).

    >>> [int(mask.sum()) for mask in stretches(np.array([3.0, 1, 2, 2, 9]), np.array([True] * 4 + [False]), 2)]
    [1, 3]
    """
    moments = np.sort(at[rows])
    cuts = [moments[len(moments) * each // windows] for each in range(1, windows)]
    bounds = [-np.inf, *dict.fromkeys(cut for cut in cuts if cut > moments[0]), np.inf]
    return [rows & (at >= low) & (at < high) for low, high in pairwise(bounds)]
