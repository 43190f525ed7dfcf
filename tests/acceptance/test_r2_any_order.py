"""R2: versions are registered, judged, promoted, rolled back, rejected, held, pruned and re-thresholded in any order, on the real database.

At most one Production, none without its gates, generations that only grow, rollbacks to versions that served, a ledger that tells the same
state again. The state's twin in memory goes along and must answer alike. (Canaries and shares come with traffic.)
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from tests.loop.worlds import MODEL, SETTINGS, bundle_of, report_of, run_of, world_in

from ecluse.adapters.sealing import verify
from ecluse.core import rollout as rules
from ecluse.core.codec import digest
from ecluse.core.document import read_document
from ecluse.core.errors import EcluseError
from ecluse.core.event import Event, broken_at
from ecluse.core.ports import World
from ecluse.core.settings import Retention
from ecluse.core.version import Stage
from ecluse.loop.hold import hold, release
from ecluse.loop.promote import promote
from ecluse.loop.prune import prune
from ecluse.loop.publish import publish
from ecluse.loop.register import register
from ecluse.loop.reject import reject
from ecluse.loop.rollback import rollback
from ecluse.loop.threshold import change_threshold
from ecluse.testing.memory_state import MemoryState
from ecluse.testing.twins import MemoryPublisher

OWN = replace(SETTINGS, retention=Retention(archived=1, runs=1, rollback=1))
WHO: dict[str, Any] = {"reason": "because", "actor": "ana"}


class AnyOrder(RuleBasedStateMachine):
    """The real state, its twin, and what the moves that succeeded mean."""

    numbers: Bundle[int] = Bundle("numbers")

    @initialize()
    def begin(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="any-order-"))
        self.world = world_in(self.home)
        twin = MemoryState(time.monotonic)
        self.twin = replace(self.world, state=twin, publisher=MemoryPublisher())
        self.made = 0
        self.generation = 0
        self.judged: dict[int, tuple[bool, int | None, float | None]] = {}
        self.served: set[int] = set()
        self.gone: set[int] = set()

    def teardown(self) -> None:
        shutil.rmtree(self.home, ignore_errors=True)

    def both(self, move: Callable[[World], Any]) -> EcluseError | None:
        """Make the move on the real state and on the twin: the same answer, the same class of error."""
        answers: list[tuple[str, EcluseError | None]] = []
        for world in (self.world, self.twin):
            try:
                move(world)
                answers.append(("done", None))
            except EcluseError as error:
                answers.append((type(error).__name__, error))
        assert answers[0][0] == answers[1][0], answers
        return answers[0][1]

    @rule(target=numbers)
    def trains(self) -> int:
        self.made += 1
        bundle = bundle_of(f"{self.made}")
        self.world.bundles.put(bundle, self.world.sealer.sign(bundle.digest))
        run = run_of(f"run{self.made}", bundle.digest)
        evidence = {"run": run.id, "bundle": run.bundle}
        event = Event("run.finished", run.started, "ana", MODEL, evidence=evidence)

        def move(world: World) -> None:
            world.state.add_run(run, event)
            version = register(world, OWN, run.id, **WHO)
            assert version.number == self.made
            assert register(world, OWN, run.id, **WHO) == version, "the same run is the same version"

        assert self.both(move) is None
        return self.made

    @rule(number=numbers, passed=st.booleans())
    def judges(self, number: int, passed: bool) -> None:
        version, champion = self.world.state.version(MODEL, number), self.world.state.rollout(MODEL).champion
        report = report_of(version, champion, passed=passed)
        evidence = {"report": digest(report), "passed": passed}
        event = Event("version.gated", report.made, "ana", MODEL, number, "judged", evidence)
        assert self.both(lambda world: world.state.add_report(report, event)) is None
        self.judged[number] = (passed, champion, version.threshold)

    @rule(number=numbers)
    def promotes(self, number: int) -> None:
        before = self.world.state.rollout(MODEL)
        version = self.world.state.version(MODEL, number)
        refused = self.both(lambda world: promote(world, OWN, MODEL, number, **WHO))
        may = self.judged.get(number) == (True, before.champion, version.threshold)
        may &= version.stage is Stage.STAGING and not version.pruned
        assert (refused is None) == may, (refused, version, self.judged.get(number))
        if refused is None:
            self.served.add(number)

    @rule(to=st.one_of(st.none(), numbers))
    def rolls_back(self, to: int | None) -> None:
        before = self.world.state.rollout(MODEL)
        refused = self.both(lambda world: rollback(world, OWN, MODEL, to=to, **WHO))
        after = self.world.state.rollout(MODEL).champion
        if refused is not None:
            assert after == before.champion
            return
        assert after in self.served - self.gone
        assert after != before.champion
        target = self.world.state.version(MODEL, after or 0)
        assert self.world.bundles.get(target.bundle).digest == target.bundle
        if to is None:
            assert after in before.previous, "back, never forward"

    @rule(number=numbers)
    def rejects(self, number: int) -> None:
        if self.both(lambda world: reject(world, OWN, MODEL, number, **WHO)) is None:
            self.gone.add(number)

    @rule(number=numbers, value=st.sampled_from([0.3, 0.5, 0.7]))
    def sets_threshold(self, number: int, value: float) -> None:
        self.both(lambda world: change_threshold(world, OWN, MODEL, number, value, **WHO))

    @rule(number=numbers, held=st.booleans())
    def holds(self, number: int, held: bool) -> None:
        self.both(lambda world: (hold if held else release)(world, MODEL, number, **WHO))

    @rule()
    def prunes(self) -> None:
        self.both(lambda world: prune(world, OWN, MODEL, False, actor="ana"))
        self.gone |= {version.number for version in self.world.state.versions(MODEL) if version.pruned}

    @invariant()
    def one_production_and_it_was_judged(self) -> None:
        if not self.made:
            return
        state, champion = self.world.state, self.world.state.rollout(MODEL).champion
        production = [v.number for v in state.versions(MODEL) if v.stage is Stage.PRODUCTION]
        assert production == ([] if champion is None else [champion])
        assert set(production) <= self.served - self.gone

    @invariant()
    def the_twin_stands_alike(self) -> None:
        if self.made:
            real, twin = self.world.state, self.twin.state
            assert real.rollout(MODEL) == twin.rollout(MODEL)
            plain = [(v.number, v.stage, v.threshold, v.pruned, v.held) for v in real.versions(MODEL)]
            assert plain == [(v.number, v.stage, v.threshold, v.pruned, v.held) for v in twin.versions(MODEL)]
            assert [row.event.kind for row in real.ledger()] == [row.event.kind for row in twin.ledger()]

    @invariant()
    def generations_grow_and_what_is_published_verifies(self) -> None:
        if not self.made:
            return
        document = publish(self.world, OWN)
        signed = self.world.publisher.current()
        assert signed is not None
        assert read_document(verify(signed, [self.world.sealer.public_key])) == document
        assert document.generation >= self.generation
        self.generation = document.generation
        champion = self.world.state.rollout(MODEL).champion
        if champion is not None:
            assert document.models[MODEL].champion == champion

    @invariant()
    def the_ledger_tells_the_same_state(self) -> None:
        if not self.made:
            return
        stages: dict[int, Stage] = {}
        rollout = rules.Rollout(MODEL)
        rows = list(self.world.state.ledger())
        for row in rows:
            rollout = _retold(rollout, stages, row.event)
        assert broken_at(rows) is None
        assert rollout.champion == self.world.state.rollout(MODEL).champion
        assert stages == {version.number: version.stage for version in self.world.state.versions(MODEL)}


def _retold(rollout: rules.Rollout, stages: dict[int, Stage], event: Event) -> rules.Rollout:
    """What one fact did to stages and champion, by its own words alone."""
    number = event.version or 0
    if event.kind == "version.registered":
        stages[number] = Stage.NONE
    elif event.kind == "version.rejected":
        stages[number] = Stage.REJECTED
    elif event.kind == "version.gated" and stages[number] in (Stage.NONE, Stage.STAGING):
        stages[number] = Stage.STAGING if event.evidence["passed"] else Stage.NONE
    elif event.kind in ("version.promoted", "version.rolled_back"):
        if rollout.champion is not None:
            stages[rollout.champion] = Stage.ARCHIVED
        stages[number] = Stage.PRODUCTION
        return replace(rollout, champion=number)
    return rollout


def _hold(machines: int, steps: int, machine: type[AnyOrder] = AnyOrder) -> None:
    chosen = settings(
        max_examples=machines,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        phases=[Phase.generate],  # what was found is told as found: making it small takes long
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine, settings=chosen)


def test_any_order_keeps_the_promises() -> None:
    _hold(8, 25)


@pytest.mark.nightly
@pytest.mark.timeout(3_600)
def test_any_order_keeps_the_promises_for_long() -> None:
    _hold(200, 50)


def test_the_planted_defect_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A promotion that asks for no gates."""
    monkeypatch.setattr(rules, "_require_report", lambda *_: None)
    monkeypatch.setattr("ecluse.loop.promote._ask_rules", lambda *_: ("", []))
    with pytest.raises(AssertionError):
        _hold(30, 25)
