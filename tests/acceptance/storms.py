"""A retrain storm in a simulated project, and everything about its end that must not be."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from ecluse.core.event import Event, LedgerRow
from ecluse.core.loop_settings import Policy, Triggers
from ecluse.core.settings import Settings
from ecluse.loop.guard import backoff
from ecluse.loop.runner import unhandled
from ecluse.loop.triggers import LASTING, Story, tell
from ecluse.testing.simulation import Faults, Simulation

MODEL = "churn"
BEGAN = datetime(2024, 1, 1, tzinfo=UTC)
STORM = BEGAN + timedelta(hours=1)
DAY = timedelta(days=1)
SETTINGS = Settings(policy=Policy(promotion="automatic"), triggers=Triggers(per_day=2))
DETECTORS = ("drift", "slo", "outside", "new_data", "schedule")
ASKING = ("drift.detected", "trigger.raised")


def faults_of(seed: int) -> Faults:
    """By turns: fair weather; failing trainings; kills; a rival process and sleepers."""
    kind = seed % 4
    return (
        Faults(),
        Faults(failing=0.9),
        Faults(failing=0.3, refused=0.3, crash=0.05),
        Faults(failing=0.2, crash=0.03, sleeping=0.4, rival=True),
    )[kind]


def storm(seed: int, triggers: int = 1_000, settings: Settings = SETTINGS, faults: Faults | None = None) -> Simulation:
    """So many triggers from five detectors within ten virtual minutes, and the three days after, with a trickle of more."""
    simulation = Simulation(
        settings, BEGAN, seed, faults_of(seed) if faults is None else faults, tick=timedelta(minutes=10)
    )
    simulation.first_version(MODEL)
    random = simulation.random
    for number in range(triggers):
        # One in ten comes later: a storm that is over proves little about what holds for days.
        late = number % 10 == 0
        at, detector = STORM + timedelta(seconds=random.uniform(0, 200_000 if late else 600)), random.choice(DETECTORS)
        if detector == "drift":
            window = {"key": f"window {number}", "findings": []}
            simulation.tell(Event("drift.detected", at, "monitor", MODEL, 1, "it moved", window))
        else:
            cause = {"trigger": detector, "key": f"{detector}/{random.randrange(triggers)}"}
            simulation.tell(Event("trigger.raised", at, detector, MODEL, None, "it asks", cause))
    simulation.run(BEGAN + timedelta(days=3))
    return simulation


def broken(simulation: Simulation) -> list[str]:
    """Every promise of the calm loop that this simulation's ledger breaks; the clock was set by nobody."""
    rows = list(simulation.state.ledger())
    return [
        *at_once(simulation),
        *over_budget(simulation, rows),
        *unanswered(simulation, rows),
        *too_stubborn(simulation, rows),
        *released_twice(rows),
        *lost(simulation, rows),
    ]


def starts(rows: list[LedgerRow]) -> list[LedgerRow]:
    """The decisions to retrain."""
    return [row for row in rows if row.event.evidence.get("plan", {}).get("kind") == "Retrain"]


def at_once(simulation: Simulation) -> list[str]:
    awake = sorted((t for t in simulation.trainings if not t.slept), key=lambda t: t.began)
    ends = [each.ended or each.began for each in awake]
    return [f"two at once at {b.began}" for end, b in zip(ends, awake[1:], strict=False) if b.began < end]


def over_budget(simulation: Simulation, rows: list[LedgerRow]) -> list[str]:
    limits = simulation.settings.triggers
    times = [row.event.time for row in starts(rows)]
    found = [
        f"{limits.per_day + 1} starts within a day"
        for a, b in zip(times, times[limits.per_day :], strict=False)
        if b - a < DAY
    ]
    asked = {row.sequence: row.event.evidence.get("trigger") for row in rows}
    for before, after in zip(starts(rows), starts(rows)[1:], strict=False):
        free = asked[after.event.evidence["origin"]] in ("retry", "manual")
        if not free and after.event.time - before.event.time < limits.cool_down:
            found.append(f"no cool-down before event {after.sequence}")
    return found


def unanswered(simulation: Simulation, rows: list[LedgerRow]) -> list[str]:
    """Each trigger is decided once; only a lost lease is told besides."""
    answers: dict[int, list[str]] = {row.sequence: [] for row in rows if row.event.kind in ASKING}
    for row in rows:
        cause = row.event.evidence.get("cause")
        if cause in answers and row.event.evidence.get("why") != "lease_lost":
            answers[cause].append(row.event.evidence["command"])
            if not row.event.reason:
                answers[cause].append("no reason")
    open_ones = [row.sequence for row in unhandled(simulation.world)]
    return [f"event {n} was answered {told}" for n, told in answers.items() if len(told) != 1] + [
        f"event {number} waits for ever" for number in open_ones
    ]


def too_stubborn(simulation: Simulation, rows: list[LedgerRow]) -> list[str]:
    """Failures in a row end with the alert; each retry waited for its turn."""
    found, failures, limits = [], 0, simulation.settings.triggers
    # Not the failure of a process that another had followed already.
    decided = {r.event.evidence.get("cause") for r in rows if r.event.evidence.get("command") in ("Wait", "Alert")}
    for row in rows:
        if row.event.kind == "run.failed" and row.sequence in decided:
            failures += 1
            failed_at = row.event.time
        elif row.event.kind == "run.finished":
            failures = 0
        elif failures >= limits.attempts and row in starts(rows):
            found.append(f"event {row.sequence}: another attempt after {failures} failures")
        elif failures and row in starts(rows) and row.event.time - failed_at < backoff(limits, failures, "") / 2:
            found.append(f"event {row.sequence}: no back-off")
    alerts = [row for row in rows if row.event.kind == "alert.raised"]
    return found + (["it gave up without a word"] if failures >= limits.attempts and not alerts else [])


def lost(simulation: Simulation, rows: list[LedgerRow]) -> list[str]:
    """What nobody says again and was held back for a time is still to be asked again, where no retraining was begun since."""
    limits, story, begun, found = simulation.settings.triggers, Story(), {row.sequence for row in starts(rows)}, []
    waits, raised = 0, set[int]()
    """The newest such row; what was asked again and is not answered yet."""
    for row in rows:
        story, facts = tell(story, [row]), row.event.evidence
        history, why = story.of(MODEL), facts.get("why", "")
        raised |= {row.sequence} if "deferred" in facts else set()
        raised -= {facts.get("cause", 0)}
        if row.sequence in begun or history.failures >= limits.attempts:
            waits = 0
        elif why and facts["trigger"] in LASTING and why not in ("off", "same_cause", "lease_lost"):
            waits = row.sequence
        if waits and not raised and history.deferred is None:
            found.append(f"event {waits} is lost at event {row.sequence}")
            waits = 0
    return found


def released_twice(rows: list[LedgerRow]) -> list[str]:
    """A chain that lost its lease releases nothing: each makes at most one version."""
    registered = [row.event.actor for row in rows if row.event.kind == "version.registered"]
    decided = len(starts(rows)) + 1  # and the first, by hand
    found = [f"{len(registered)} versions of {decided} retrainings"] if len(registered) > decided else []
    return found + [f"{a} registered {registered.count(a)}" for a in set(registered) if registered.count(a) > 1]
