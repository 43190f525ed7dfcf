"""Simulation: the real loop (runner, decisions, guard rails, promotion) on twins in memory, under virtual time, with faults from a seed.

A training is a stretch of virtual time that ends in a run or in a failure; a gate is a report. Everything else is what runs in production.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, cast

from ecluse.core.codec import digest
from ecluse.core.errors import EcluseError
from ecluse.core.event import Event, LedgerRow
from ecluse.core.project import Project
from ecluse.core.rollout import Rollout
from ecluse.core.settings import Settings
from ecluse.core.verdict import Finding, Outcome, judge
from ecluse.core.version import GateReport, Run
from ecluse.loop.carry_out import Done, Hands, carry_out, find
from ecluse.loop.commands import Command, Gate, Retrain
from ecluse.loop.keep import LEASE_SECONDS
from ecluse.loop.register import register
from ecluse.loop.runner import WORK, handle, react
from ecluse.testing.memory_state import MemoryState
from ecluse.testing.twins import Killed, MemoryPublisher, Remembering, VirtualTime, twin_world

_names = itertools.count()


@dataclass(frozen=True)
class Faults:
    """What goes wrong, as shares: trainings that fail, candidates the gates refuse, steps at which the process is killed, trainings during
    which the process sleeps past its lease, ticks at which somebody sets the clock; and whether a rival process reacts meanwhile.
    """

    failing: float = 0.0
    refused: float = 0.0
    crash: float = 0.0
    sleeping: float = 0.0
    clock: float = 0.0
    rival: bool = False


@dataclass
class Training:
    """One simulated training, in true time; ``slept``: its process lost its lease on the way."""

    model: str
    began: datetime
    ended: datetime | None = None
    slept: bool = False


@dataclass
class Machine:
    """A process that runs the loop; killed, it is another process with the same memory of its work."""

    name: str
    world: Any
    durable: Remembering
    lives: int = 0
    busy: bool = False


@dataclass
class Simulation:
    """Build it, :meth:`tell` it what happens when, :meth:`run` it, then read ``world.state.ledger()``, ``trainings``, and ``set_on``:
    when the clock was set on.
    """

    settings: Settings
    began: datetime
    seed: int = 0
    faults: Faults = field(default_factory=Faults)
    train_seconds: float = 600.0
    tick: timedelta = timedelta(hours=1)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.time = VirtualTime(self.began)
        self.state = MemoryState(self.time.monotonic, self.time.now)
        self.world = twin_world(self.state, self.time, MemoryPublisher(), f"simulation-{next(_names)}")
        self.trainings: list[Training] = []
        self.kills = 0
        self.set_on: list[datetime] = []
        self._queue: list[tuple[datetime, int, Event]] = []
        self._order = itertools.count()
        self._machines = [self._machine(name) for name in ("a", "b")[: 2 if self.faults.rival else 1]]

    def tell(self, event: Event) -> None:
        """This happens at its time (of the true clock); a version in it stands for whichever is champion then."""
        heapq.heappush(self._queue, (event.time, next(self._order), event))

    def run(self, until: datetime) -> Sequence[LedgerRow]:
        """Let time pass until then; the rows told meanwhile."""
        begun = sum(1 for _ in self.state.ledger())
        while self.time.true() < until:
            step = min(until, self.time.true() + self.tick)
            self._pass_to(step)
            if self.faults.clock and self.random.random() < self.faults.clock:
                self.set_clock()
            for machine in self._machines:
                self._react(machine)
        return list(self.state.ledger(after=begun))

    def set_clock(self) -> None:
        """Somebody sets the clock: two hours back, a month on, an hour either way, or right again."""
        choice = self.random.choice([timedelta(hours=-2), timedelta(days=30), timedelta(hours=1), timedelta(0)])
        if choice > self.time.offset:
            self.set_on.append(self.time.true())
        self.time.offset = choice

    # ------------------------------------------------------------------------------------------------- time and processes

    def _machine(self, name: str) -> Machine:
        world = twin_world(self.state.seen_by(name), self.time, cast(MemoryPublisher, self.world.publisher), name)
        machine = Machine(name, world, cast(Remembering, None))
        work = functools.partial(self._handle, machine)
        machine.durable = Remembering({WORK: work}, functools.partial(self._maybe_kill, machine))
        return machine

    def _handle(self, machine: Machine, step: Any, sequence: int) -> list[int]:
        project = cast(Project, None)  # only a real gate asks for it
        return handle(machine.world, project, self.settings, [], step, sequence, functools.partial(self._do, machine))

    def _react(self, machine: Machine) -> None:
        """React, through any number of kills."""
        machine.busy = True
        while True:
            try:
                machine.durable.recover()
                react(machine.world, self.settings, machine.durable)
                break
            except Killed:
                machine.lives += 1
                process = f"{machine.name}{machine.lives}"
                machine.world = twin_world(
                    self.state.seen_by(process), self.time, machine.world.publisher, machine.world.home.name
                )
            except EcluseError:
                break  # paused, or another was faster: the next tick tries again
        machine.busy = False

    def _maybe_kill(self, machine: Machine) -> None:
        if self.faults.crash and self.random.random() < self.faults.crash:
            self.kills += 1
            self.state.kill(machine.name if not machine.lives else f"{machine.name}{machine.lives}")
            raise Killed

    def _pass_to(self, moment: datetime, hands: Hands | None = None) -> None:
        """Time passes, and what happens meanwhile is told; ``hands`` keep their lease as long as they are awake."""
        while True:
            upto = min(moment, self._queue[0][0]) if self._queue else moment
            self.time.seconds = max(self.time.seconds, (upto - self.began).total_seconds())
            if hands is not None and (lease := cast(MemoryState, hands.world.state).fence) is not None:
                self.state.renew_lease(lease)
            if not self._queue or self._queue[0][0] > moment:
                return
            self._happen(heapq.heappop(self._queue)[2])

    def _happen(self, event: Event) -> None:
        version = event.version and self.state.rollout(event.model).champion
        now = self.time.now()
        self.state.append(Event(event.kind, now, event.actor, event.model, version, event.reason, event.evidence))

    # ------------------------------------------------------------------------------------------------- what a command does

    def _do(self, machine: Machine, hands: Hands, command: Command, reproduced: bool | None) -> Done:
        if isinstance(command, Retrain):
            return Done(hands.step(f"train {command.cause}", lambda: self._train(machine, hands, command)), True)
        if isinstance(command, Gate):
            number = hands.step(f"register {command.run}", lambda: self._register(hands, command))
            return Done(hands.step(f"gate {command.run}", lambda: self._gate(hands, command, number)))
        return carry_out(hands, command, reproduced)

    def _train(self, machine: Machine, hands: Hands, command: Retrain) -> int:
        told = find(hands.world, command.cause, hands.actor, command.model, "run.finished", "run.failed")
        if told is not None:
            return told.sequence
        training = Training(command.model, self.time.true(), slept=self.random.random() < self.faults.sleeping)
        self.trainings.append(training)
        seconds = self.train_seconds * self.random.uniform(0.5, 1.5)
        if training.slept:
            seconds = 2 * LEASE_SECONDS
        self._pass_to(self.time.true() + timedelta(seconds=seconds / 2), None if training.slept else hands)
        for rival in self._machines:
            if rival is not machine and not rival.busy:
                self._react(rival)
        self._pass_to(self.time.true() + timedelta(seconds=seconds / 2), None if training.slept else hands)
        if training.slept:
            for rival in self._machines:
                if rival is not machine and not rival.busy:
                    self._react(rival)
        training.ended = self.time.true()
        return self._tell_training(hands, training, seconds)

    def _tell_training(self, hands: Hands, training: Training, seconds: float) -> int:
        model = training.model
        if self.random.random() < self.faults.failing:
            spent = {"seconds": seconds}
            failed = Event("run.failed", self.time.now(), hands.actor, model, None, "it was made to fail", spent)
            return self.state.append(failed).sequence
        name = digest([self.trainings.index(training), self.seed, hands.origin])[:32]
        run = Run(name, model, self.time.now(), seconds, name, name, digest(name), {}, {}, {}, {}, 0.5, {})
        evidence = {"run": name, "bundle": run.bundle, "seconds": seconds}
        self.state.add_run(run, Event("run.finished", self.time.now(), hands.actor, model, evidence=evidence))
        [row] = [row for row in self.state.ledger(after=hands.origin) if row.event.evidence.get("run") == name]
        return row.sequence

    def _register(self, hands: Hands, command: Gate) -> int:
        return register(hands.world, self.settings, command.run, reason=command.reason, actor=hands.actor).number

    def _gate(self, hands: Hands, command: Gate, number: int) -> int:
        told = find(hands.world, hands.origin, hands.actor, command.model, "version.gated")
        if told is not None and told.event.version == number:
            return told.sequence
        state, now = hands.world.state, self.time.now()
        version, champion = state.version(command.model, number), state.rollout(command.model).champion
        refused = self.random.random() < self.faults.refused
        outcome = Outcome.FAILED if refused else Outcome.PASSED
        verdict = judge("simulated gates", (Finding("simulated", outcome, "a simulated gate"),))
        valid = now + self.settings.for_model(command.model).gates.valid_for
        report = GateReport(
            command.model, number, version.bundle, champion, verdict, now, valid, threshold=version.threshold
        )
        event = Event(
            "version.gated",
            now,
            hands.actor,
            command.model,
            number,
            "simulated",
            {"failed": [], "report": digest(report)},
        )
        state.add_report(report, event)
        found = find(hands.world, hands.origin, hands.actor, command.model, "version.gated")
        assert found is not None
        return found.sequence

    def first_version(self, model: str) -> None:
        """A champion to begin with, and, where there is none, a declaration that names the model."""
        if self.state.declaration() is None:
            self.state.save_declaration("", f'{{"models":[{{"name":"{model}"}}]}}'.encode())
        run = Run(f"{model}-first", model, self.began, 1.0, "r", "d", digest(model), {}, {}, {}, {}, 0.5, {})
        self.state.add_run(run, Event("run.finished", self.began, "ana", model, evidence={"run": run.id, "seconds": 1}))
        version = self.state.register(run, self.began, Event("version.registered", self.began, "ana", model))
        evidence = {"bundle": version.bundle}
        promoted = Event("version.promoted", self.began, "ana", model, version.number, "the first", evidence)
        self.state.move(Rollout(model), Rollout(model, 1, champion=version.number), promoted)
        self.state.set_meta("loop.handled", str(sum(1 for _ in self.state.ledger())))
