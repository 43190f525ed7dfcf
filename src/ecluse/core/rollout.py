"""Rollout: which version is champion, which were before it, and the legal moves; a move returns a new Rollout or says why not."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from ecluse.core.errors import NotAllowed
from ecluse.core.version import GateReport, ModelVersion, Stage


@dataclass(frozen=True)
class Rollout:
    """``previous`` are the versions a rollback goes back through, newest last; ``left`` those a rollback has left (reachable only by name);
    ``revision`` counts moves (compare-and-swap).
    """

    model: str
    revision: int = 0
    champion: int | None = None
    previous: tuple[int, ...] = ()
    left: tuple[int, ...] = ()

    @property
    def reachable(self) -> tuple[int, ...]:
        """Every version a rollback may name."""
        return tuple(sorted({*self.previous, *self.left}))


def promote(
    rollout: Rollout, version: ModelVersion, report: GateReport | None, now: datetime, *, override: str = ""
) -> Rollout:
    """``version`` becomes champion. Raises NotAllowed unless it has a passed, matching, unexpired report or a named override."""
    if version.number == rollout.champion:
        raise NotAllowed(f"version {version.number} is in Production already", where=rollout.model)
    if version.pruned or version.stage in (Stage.REJECTED, Stage.ARCHIVED):
        cure = (
            "use `ecluse rollback --to` for a version that has served"
            if version.stage is Stage.ARCHIVED
            else "train a new version"
        )
        raise NotAllowed(
            f"version {version.number} is {'pruned' if version.pruned else version.stage.value}",
            where=rollout.model,
            cure=cure,
        )
    if not override:
        _require_report(version, rollout, report, now)
    before = rollout.previous + ((rollout.champion,) if rollout.champion is not None else ())
    kept = tuple(number for number in before if number != version.number)
    left = tuple(number for number in rollout.left if number != version.number)
    return replace(rollout, revision=rollout.revision + 1, champion=version.number, previous=kept, left=left)


def _require_report(version: ModelVersion, rollout: Rollout, report: GateReport | None, now: datetime) -> None:
    cure = f"run `ecluse gate {version.number}`"
    if report is None or report.dry:
        raise NotAllowed(f"version {version.number} has no gate report", where=rollout.model, cure=cure)
    if (report.version, report.bundle) != (version.number, version.bundle):
        raise NotAllowed(f"the gate report is of another version than {version.number}", where=rollout.model, cure=cure)
    if not report.verdict.passed:
        failed = ", ".join(f.check for f in report.verdict.findings if not f.passed)
        raise NotAllowed(
            f"version {version.number} did not pass its gates: {failed}",
            where=rollout.model,
            cure=f"see `ecluse gate {version.number} --dry-run`",
        )
    if report.champion != rollout.champion:
        raise NotAllowed(
            f"the gate report compared with version {report.champion}, production is {rollout.champion}",
            where=rollout.model,
            cure=cure,
        )
    if report.threshold != version.threshold:
        raise NotAllowed(
            f"version {version.number} was judged at threshold {report.threshold}, it decides at {version.threshold}",
            where=rollout.model,
            cure=cure,
        )
    if now > report.expires:
        raise NotAllowed(f"the gate report of version {version.number} expired", where=rollout.model, cure=cure)


def roll_back(rollout: Rollout, to: int | None = None) -> Rollout:
    """The version before becomes champion again (or ``to``, any that has served); a second rollback goes further back, never forward.

    >>> back = roll_back(Rollout("churn", 3, champion=3, previous=(1, 2)))
    >>> back.champion, back.previous, back.left
    (2, (1,), (3,))
    """
    if rollout.champion is None or not (rollout.previous or to is not None):
        cure = (
            f"name one that has served with --to: {', '.join(map(str, rollout.left))}"
            if rollout.left
            else "promote another version"
        )
        raise NotAllowed("there is no earlier production version", where=rollout.model, cure=cure)
    target = rollout.previous[-1] if to is None else to
    if target not in rollout.reachable:
        raise NotAllowed(
            f"version {target} cannot be rolled back to",
            where=rollout.model,
            cure="choose among " + (", ".join(map(str, rollout.reachable)) or "none"),
        )
    kept = rollout.previous[: rollout.previous.index(target)] if target in rollout.previous else rollout.previous
    passed = {rollout.champion, *rollout.left, *rollout.previous[len(kept) :]} - {target}
    return replace(rollout, revision=rollout.revision + 1, champion=target, previous=kept, left=tuple(sorted(passed)))


def stages(before: Rollout, after: Rollout) -> dict[int, Stage]:
    """The stage changes a move implies: the new champion in Production, the one it leaves Archived."""
    changes: dict[int, Stage] = {}
    if before.champion is not None and before.champion != after.champion:
        changes[before.champion] = Stage.ARCHIVED
    if after.champion is not None:
        changes[after.champion] = Stage.PRODUCTION
    return changes
