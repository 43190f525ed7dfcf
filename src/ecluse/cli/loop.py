"""Commands about the control loop: loop run, status, trigger, pause, resume, simulate."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Sequence
from typing import Annotated

from ecluse.cli.console import Argument, Group, Option, Reply, Shell, printable, table, verdict_table
from ecluse.cli.models import ModelName
from ecluse.core.event import LedgerRow
from ecluse.core.instants import format_instant, parse_instant

Why = Annotated[str, Option("--why", help="the reason, for the ledger")]


def run(
    shell: Shell,
    *,
    follow: Annotated[bool, Option("--follow", help="stay up: look again and again, until SIGTERM")] = False,
) -> Reply:
    """Handle every event nobody has handled yet: retrain, gate, release or refuse by policy; durable across kills."""
    from ecluse.loop.pause import paused, said

    if follow:
        where = ["--project", str(shell.app.root), "--profile", shell.app.settings.profile]
        command = [sys.executable, "-m", "ecluse.resident", *where]
        os.execv(command[0], command)  # noqa: S606 - it replaces this process, and holds none of the terminal's libraries
    if (pause := paused(shell.app.world)) is not None:
        return Reply([], said(pause))
    shell.say("handling events")
    rows = shell.app.react()
    shell.app.finish()
    return Reply(rows, _table(rows) if rows else "nothing to do")


def status(shell: Shell) -> Reply:
    """What the loop decided and held back, what waits for it, and whether it is paused."""
    from ecluse.loop.pause import paused, said

    world = shell.app.world
    every = list(world.state.ledger())
    decided = [r for r in every if r.event.kind in ("loop.decided", "trigger.suppressed", "alert.raised")][-20:]
    waiting, pause = shell.app.waiting(), paused(world)
    text = _table(decided) + f"\n\n{len(waiting)} events wait for `ecluse loop run`"
    text += f"\n{printable(said(pause))}" if pause else ""
    return Reply({"decided": decided, "waiting": waiting, "paused": pause}, text)


def trigger(shell: Shell, *, model: ModelName = None, why: Why) -> Reply:
    """Ask for a retraining now: it waits for no debounce, no hysteresis and no cool-down, but keeps to the budget."""
    from ecluse.loop.asking import ask
    from ecluse.loop.triggers import Due

    app = shell.app
    row = ask(app.world, shell.model(model), Due("manual", "", why), actor=app.actor)
    return Reply(row, f"event {row.sequence}: `ecluse loop run` handles it")


def pause(shell: Shell, *, why: Why) -> Reply:
    """Stop the loop: it decides nothing, and a training under way is ended within seconds."""
    from ecluse.loop.pause import pause as stop
    from ecluse.loop.pause import said

    paused = stop(shell.app.world, reason=why, actor=shell.app.actor)
    return Reply(paused, said(paused))


def resume(shell: Shell, *, why: Why) -> Reply:
    """Let a paused loop go on with what was begun and what waited."""
    from ecluse.loop.pause import resume as go_on

    before = go_on(shell.app.world, reason=why, actor=shell.app.actor)
    waiting = shell.app.waiting()
    said = f"the loop goes on; {len(waiting)} events wait for `ecluse loop run`"
    return Reply({"was": before, "waiting": waiting}, said)


def rerun(shell: Shell, *, run: Annotated[str, Argument(help="the run's id, or its beginning")]) -> Reply:
    """Train again what a run trained: the same recipe on the same snapshots, recorded nowhere. Does the same bundle come out?"""
    from ecluse.loop.rerun import rerun as again

    app = shell.app
    shell.say("training")
    done = again(app.world, app.project, app.settings, run, actor=app.actor)
    return Reply(done, verdict_table(done.verdict), refused=done.verdict.breached)


def simulate(
    shell: Shell,
    *,
    from_: Annotated[str, Option("--from", help="begin there: 2024-01-31 or an RFC 3339 instant")],
    to: Annotated[str, Option("--to", help="end there")],
    faults: Annotated[
        str, Option("--faults", help="comma-separated: failing, refused, crash, sleeping, clock, storm")
    ] = "",
    seed: Annotated[int, Option("--seed", help="the same seed tells the same story")] = 0,
) -> Reply:
    """Tell a stretch of the past to a simulated loop under the settings of now: what would have been done, and why. Changes nothing."""
    from ecluse.testing.replay import replay

    since, until = parse_instant(from_, where="--from"), parse_instant(to, where="--to")
    wrong = [word.strip() for word in faults.split(",") if word.strip()]
    done = replay(shell.app.world, shell.app.settings, since, until, faults=wrong, seed=seed)
    shown = table(["when", "what", "model", "version", "why"], _gathered(done.rows)) if done.rows else "nothing"
    counts = ", ".join(f"{count} {what}" for what, count in done.counts.items())
    given = "".join(f"\n{model} had no version: one was assumed" for model in done.assumed)
    return Reply(done, f"{shown}\n\n{counts}{given}")


def _gathered(rows: Sequence[LedgerRow]) -> list[tuple[object, ...]]:
    """What was held back for the same reason, one after the other, is one line."""
    shown: list[tuple[object, ...]] = []
    for (model, why), group in itertools.groupby(rows, lambda row: (row.event.model, row.event.evidence.get("why"))):
        same = list(group)
        if why is None or len(same) == 1:
            shown += [(format_instant(row.event.time)[:16], *_row(row)[1:]) for row in same]
        else:
            first = same[0].event
            shown.append((format_instant(first.time)[:16], f"{len(same)} held back: {why}", model, None, first.reason))
    return shown


def _table(rows: Sequence[LedgerRow]) -> str:
    return table(["#", "what", "model", "version", "why"], [_row(row) for row in rows])


def _row(row: LedgerRow) -> tuple[object, ...]:
    e = row.event
    what = f"held back: {e.evidence['why']}" if "why" in e.evidence else e.evidence.get("command") or e.kind
    return row.sequence, str(what), e.model, e.version, e.reason


def register(app: Group) -> None:
    """Add these commands."""
    loop = app.nest("loop", "The control loop: react to events, see what it decided, stop it.")
    for command in (run, status, trigger, pause, resume, rerun, simulate):
        loop.add(command)
