"""Resident: one turn of the loop that stays up. What arrived is taken, what was served is judged, what happened is decided and done.

``ecluse up`` and ``ecluse loop run --follow`` call :func:`step` again and again, over one launched durable runner and with training
processes that wait for their order. Each part of a turn stands for itself: one that fails is told, once, and tried again with the next turn.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ecluse.core.errors import EcluseError, NotFound
from ecluse.core.event import LedgerRow
from ecluse.core.ports import Durable, World
from ecluse.core.project import Project
from ecluse.core.settings import Settings
from ecluse.core.source import Drops
from ecluse.loop.child import Child, dismiss, spawn
from ecluse.loop.monitor import monitor
from ecluse.loop.runner import Chains, react
from ecluse.loop.sources import Looks, take_arrivals

_log = logging.getLogger("ecluse.loop")


@dataclass
class Memory:
    """What one turn leaves to the next; a new process begins with an empty one and misses nothing.

    ``judged``: per model, when (monotonic seconds) it was last judged and the id of the last prediction then; ``troubles``: what each part
    last failed with; ``chains``: events whose chains failed, and until when they wait.
    """

    looks: Looks = field(default_factory=Looks)
    judged: dict[str, tuple[float, str]] = field(default_factory=dict)
    troubles: dict[str, str] = field(default_factory=dict)
    chains: Chains = field(default_factory=Chains)


def step(
    world: World,
    project: Project,
    settings: Settings,
    durable: Durable,
    warm: list[Child],
    memory: Memory,
    drops: Drops | None = None,
) -> Sequence[LedgerRow]:
    """One turn: sources (with ``drops``), monitors that are due, then every event nobody has handled; the rows the loop added.

    ``durable`` must know the work ``handle`` bound to the same ``warm`` list, which is filled up again at the end of a turn that released
    nothing. Raises nothing: what went wrong is logged, and the next turn tries again.
    """
    if drops is not None and settings.sources:
        attempt(memory, "sources", lambda: _arrive(world, project, settings, drops, memory))
    for model in project.models:
        attempt(memory, f"monitor {model.name}", lambda name=model.name: _watch(world, settings, name, memory))  # type: ignore[misc]
    rows: list[LedgerRow] = []
    attempt(memory, "react", lambda: rows.extend(react(world, settings, durable, memory.chains)))
    released = any(row.event.kind == "version.promoted" for row in rows)
    # after a release the cores are for the workers that take the new version up: the next turn will do
    if settings.loop.warm and not released:
        attempt(memory, "warm", lambda: keep_warm(world, project, settings, warm))
    for row in rows:
        event = row.event
        facts = {"row": row.sequence, "model": event.model, "version": event.version, "why": event.reason}
        _log.info(str(event.evidence.get("command") or event.kind), extra={"facts": facts})
    return rows


def keep_warm(world: World, project: Project, settings: Settings, warm: list[Child]) -> None:
    """Have as many training processes ready as one retraining takes; those that died are replaced. Raises Unavailable."""
    for child in [each for each in warm if each.process.poll() is not None]:
        warm.remove(child)
        dismiss(child)
    wanted = max((2 if settings.for_model(each.name).gates.reproducible else 1 for each in project.models), default=0)
    while len(warm) < wanted:
        warm.append(spawn(world.root))


def _arrive(world: World, project: Project, settings: Settings, drops: Drops, memory: Memory) -> None:
    take_arrivals(world, project, settings, drops, memory.looks, time.monotonic())


def _watch(world: World, settings: Settings, model: str, memory: Memory) -> None:
    """Judge a model when its time has come and anything was served since it last was."""
    every, now = settings.for_model(model).monitoring.every, time.monotonic()
    last, seen = memory.judged.get(model, (float("-inf"), ""))
    if every is None or now - last < every.total_seconds() or world.state.rollout(model).champion is None:
        return
    newest = _newest(world)
    if newest and newest != seen:
        report = monitor(world, settings, model, actor=world.actor)
        facts = {"model": model, "version": report.version, "rows": report.window.rows, "drift": report.event}
        _log.info("judged", extra={"facts": facts})
    memory.judged[model] = (now, newest)


def _newest(world: World) -> str:
    """The id of the last thing journaled, empty while there is none."""
    last = ""
    for record in world.read_predictions(None, None, 1):
        last = str(record.get("id", ""))
    return last


def attempt(memory: Memory, part: str, work: Callable[[], object]) -> None:
    """Do a part of a turn. What goes wrong is told once, a bug with its traceback, and ends no other part."""
    said, bug = "", None
    try:
        work()
    except NotFound as error:  # nothing there to look at yet: no trouble
        _log.debug(part, extra={"facts": {"why": str(error)}})
        return
    except EcluseError as error:
        said = str(error)
    except Exception as error:  # noqa: BLE001 - a bug in one part must not end the loop
        said, bug = f"{type(error).__name__}: {error}", error
    if said and memory.troubles.get(part) != said:
        _log.error("failed", extra={"facts": {"part": part, "why": said}}, exc_info=bug)
    if said:
        memory.troubles[part] = said
    elif memory.troubles.pop(part, None):
        _log.info("well again", extra={"facts": {"part": part}})
