"""The release path: promote, roll back, reject, threshold, hold, prune, and what is published after each."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypedDict

import pytest
from tests.loop.worlds import MODEL, NOW, SETTINGS, candidate, fact, report_of, train, world_in

from ecluse.adapters.clock import DataClock
from ecluse.adapters.sealing import KeySealer, verify
from ecluse.core.codec import canonical, digest_bytes
from ecluse.core.document import Document, read_document
from ecluse.core.errors import Conflict, Corrupt, InvalidInput, NotAllowed, NotFound
from ecluse.core.event import broken_at
from ecluse.core.ports import World
from ecluse.core.rollout import Rollout
from ecluse.core.settings import Retention, Time
from ecluse.core.version import Stage
from ecluse.loop.hold import hold, release
from ecluse.loop.promote import promote
from ecluse.loop.prune import prune
from ecluse.loop.publish import converge, publish
from ecluse.loop.register import register
from ecluse.loop.reject import reject
from ecluse.loop.rollback import rollback
from ecluse.loop.threshold import change_threshold


class Who(TypedDict):
    reason: str
    actor: str


WHO: Who = {"reason": "because", "actor": "ana"}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return world_in(tmp_path)


def release_all(world: World, *names: str) -> Rollout:
    for name in names:
        promote(world, SETTINGS, MODEL, candidate(world, name).number, **WHO)
    return world.state.rollout(MODEL)


def published(world: World) -> Document:
    signed = world.publisher.current()
    assert signed is not None
    return read_document(verify(signed, [world.sealer.public_key]))


def warm(world: World) -> tuple[int | None, set[str]]:
    model = published(world).models[MODEL]
    return model.champion, set(model.versions)


def stages(world: World) -> list[str]:
    return [each.stage.value for each in world.state.versions(MODEL)]


def kinds(world: World) -> list[str]:
    return [row.event.kind for row in world.state.ledger()]


def test_a_promotion_is_recorded_and_published(world: World) -> None:
    release_all(world, "a", "b")
    assert stages(world) == ["Archived", "Production"]
    assert warm(world) == (2, {"1", "2"})
    last = list(world.state.ledger())[-1].event
    assert (last.kind, last.model, last.version, last.actor, last.reason) == (
        "version.promoted",
        MODEL,
        2,
        "ana",
        "because",
    )
    assert last.evidence["from"] == 1
    assert len(str(last.evidence["report"])) == 64
    assert broken_at(world.state.ledger()) is None


def test_without_a_valid_report_nothing_is_promoted(world: World) -> None:
    release_all(world, "a")
    run = train(world, "b")
    version = register(world, SETTINGS, run.id, **WHO)
    late = datetime.now(UTC) - timedelta(days=8)
    refused = [
        None,
        report_of(version, 1, dry=True),
        report_of(version, 1, passed=False),
        report_of(version, None),
        report_of(version, 1, made=late),
    ]
    for report in refused:
        if report is not None:
            world.state.add_report(report, fact("version.gated"))
        with pytest.raises(NotAllowed):
            promote(world, SETTINGS, MODEL, 2, **WHO)
    assert warm(world) == (1, {"1"})
    promote(world, SETTINGS, MODEL, 2, override="the gates' data is broken", **WHO)
    told, loud = (row.event for row in list(world.state.ledger())[-2:])
    assert told.evidence["override"] == "the gates' data is broken"
    assert (told.kind, loud.kind) == ("version.promoted", "policy.overridden")
    assert loud.reason == "the gates' data is broken: because; past: the gate report of version 2 expired"


def test_the_champion_is_not_promoted_again(world: World) -> None:
    release_all(world, "a")
    with pytest.raises(NotAllowed, match="already"):
        promote(world, SETTINGS, MODEL, 1, **WHO)
    with pytest.raises(NotFound):
        promote(world, SETTINGS, MODEL, 9, **WHO)


def test_a_damaged_bundle_is_not_promoted(world: World, tmp_path: Path) -> None:
    version = candidate(world, "a")
    (tmp_path / "bundles" / version.bundle / "model.onnx").write_bytes(b"else")
    with pytest.raises(Corrupt):
        promote(world, SETTINGS, MODEL, 1, **WHO)
    assert world.state.rollout(MODEL) == Rollout(MODEL)


def test_a_bundle_of_another_key_is_not_promoted(world: World) -> None:
    candidate(world, "a")
    with pytest.raises(NotAllowed, match="does not trust"):
        promote(replace(world, sealer=KeySealer(bytes(32))), SETTINGS, MODEL, 1, **WHO)


def test_rolling_back_goes_further_back_never_forward(world: World) -> None:
    release_all(world, "a", "b", "c")
    for champion in (2, 1):
        assert rollback(world, SETTINGS, MODEL, **WHO).champion == champion
        assert warm(world)[0] == champion
    with pytest.raises(NotAllowed):
        rollback(world, SETTINGS, MODEL, **WHO)
    assert stages(world) == ["Production", "Archived", "Archived"]
    assert rollback(world, SETTINGS, MODEL, to=3, **WHO).champion == 3
    assert kinds(world)[-3:] == ["version.rolled_back"] * 3


def test_rolling_back_passes_over_what_may_not_serve(world: World) -> None:
    release_all(world, "a", "b", "c")
    reject(world, SETTINGS, MODEL, 2, **WHO)
    assert warm(world) == (3, {"1", "3"})
    with pytest.raises(NotAllowed, match="rejected"):
        rollback(world, SETTINGS, MODEL, to=2, **WHO)
    assert rollback(world, SETTINGS, MODEL, **WHO).champion == 1
    with pytest.raises(NotAllowed):
        rollback(world, SETTINGS, MODEL, to=2, **WHO)
    with pytest.raises(NotAllowed, match="choose among"):
        rollback(world, SETTINGS, MODEL, to=9, **WHO)


def test_nothing_to_roll_back_to(world: World) -> None:
    with pytest.raises(NotAllowed):
        rollback(world, SETTINGS, MODEL, **WHO)
    release_all(world, "a", "b")
    reject(world, SETTINGS, MODEL, 1, **WHO)
    with pytest.raises(NotAllowed, match="pruned or rejected"):
        rollback(world, SETTINGS, MODEL, **WHO)


def test_a_rejected_version_stays_out(world: World) -> None:
    candidate(world, "a")
    assert reject(world, SETTINGS, MODEL, 1, **WHO).stage is Stage.REJECTED
    with pytest.raises(NotAllowed):
        promote(world, SETTINGS, MODEL, 1, override="please", **WHO)
    with pytest.raises(NotAllowed, match="already"):
        reject(world, SETTINGS, MODEL, 1, **WHO)
    release_all(world, "b")
    with pytest.raises(NotAllowed, match="rollback"):
        reject(world, SETTINGS, MODEL, 2, **WHO)


def test_a_threshold_is_changed_and_changed_back(world: World) -> None:
    release_all(world, "a")
    for value in (0.7, 0.5):
        change_threshold(world, SETTINGS, MODEL, 1, value, **WHO)
        assert published(world).models[MODEL].versions["1"].threshold == value
    assert list(world.state.ledger())[-1].event.evidence == {"before": 0.7, "after": 0.5}
    for wrong in (-0.1, 1.1, float("nan"), 0.5):
        with pytest.raises(InvalidInput):
            change_threshold(world, SETTINGS, MODEL, 1, wrong, **WHO)
    assert world.state.version(MODEL, 1).stage is Stage.PRODUCTION


def test_registering_again_is_the_same_version(world: World) -> None:
    run = train(world, "a")
    first = register(world, SETTINGS, run.id, **WHO)
    assert register(world, SETTINGS, run.id[:1], **WHO) == first
    assert kinds(world).count("version.registered") == 1
    world.bundles.delete(train(world, "b").bundle)
    with pytest.raises(NotFound, match="pruned"):
        register(world, SETTINGS, "b", **WHO)


def test_publishing_again_writes_nothing(world: World, tmp_path: Path) -> None:
    release_all(world, "a")
    before = (tmp_path / "published.json").stat()
    assert converge(world, SETTINGS) == published(world)
    assert (tmp_path / "published.json").stat().st_mtime_ns == before.st_mtime_ns


@pytest.mark.parametrize("damage", ["absent", "garbage", "forged"])
def test_publishing_heals_what_was_published(world: World, tmp_path: Path, damage: str) -> None:
    release_all(world, "a")
    path = tmp_path / "published.json"
    generation = published(world).generation
    if damage == "absent":
        path.unlink()
    elif damage == "garbage":
        path.write_bytes(b"{")
    else:
        signed = world.publisher.current()
        assert signed is not None
        path.write_bytes(canonical(replace(signed, signature="00" * 64)))
    converge(world, SETTINGS)
    assert warm(world) == (1, {"1"})
    assert published(world).generation >= generation


def test_changed_settings_are_a_new_generation(world: World) -> None:
    release_all(world, "a", "b")
    before = published(world)
    after = publish(world, replace(SETTINGS, retention=Retention(rollback=0)))
    assert after.generation > before.generation
    assert published(world) == after


def test_a_state_older_than_what_is_published_is_refused(world: World, tmp_path: Path) -> None:
    release_all(world, "a", "b")
    other = world_in(tmp_path / "copy")
    release_all(other, "a")
    with pytest.raises(Conflict, match="generation"):
        publish(replace(world, state=other.state), SETTINGS)


def test_a_model_without_a_champion_is_published_as_such(world: World) -> None:
    text = b'{"models":[{"name":"value"}]}'
    world.state.save_declaration(digest_bytes(text), text)
    candidate(world, "a")
    document = publish(world, SETTINGS)
    assert {name: each.champion for name, each in document.models.items()} == {"churn": None, "value": None}


def test_the_data_clock_is_published(tmp_path: Path) -> None:
    world = world_in(tmp_path)
    world = replace(world, clock=DataClock(world.state))
    on_data = replace(SETTINGS, time=Time("data"))
    assert publish(world, on_data).data_now is None
    world.clock.advance(NOW)
    first = publish(world, on_data)
    assert first.data_now == NOW
    world.clock.advance(NOW + timedelta(days=29))
    second = publish(world, on_data)
    assert (second.data_now, second.generation) == (NOW + timedelta(days=29), first.generation + 1)
    assert publish(world, SETTINGS).data_now is None


def test_retention_keeps_what_may_be_needed(world: World) -> None:
    release_all(world, "a", "b", "c", "d")
    waiting = register(world, SETTINGS, train(world, "waiting").id, **WHO)
    candidate(world, "staging")
    failed = register(world, SETTINGS, train(world, "failed").id, **WHO)
    world.state.add_report(report_of(failed, 4, passed=False), fact("version.gated"))
    rejected = candidate(world, "rejected")
    reject(world, SETTINGS, MODEL, rejected.number, **WHO)
    hold(world, MODEL, 1, **WHO)
    tight = replace(SETTINGS, retention=Retention(archived=0, runs=0, rollback=1))
    assert waiting.number == 5
    assert [each.number for each in prune(world, tight, MODEL, True)] == [2, 7, 8]
    assert "version.pruned" not in kinds(world)
    pruned = prune(world, tight, MODEL, False)
    assert [each.number for each in pruned] == [2, 7, 8]
    assert prune(world, tight, MODEL, False) == []
    assert kinds(world).count("version.pruned") == 3
    assert warm(world) == (4, {"3", "4"})
    for each in world.state.versions(MODEL):
        if each.pruned:
            with pytest.raises(NotFound, match="pruned"):
                world.bundles.get(each.bundle)
        else:
            assert world.bundles.get(each.bundle).digest == each.bundle
    with pytest.raises(NotAllowed, match="pruned"):
        rollback(world, SETTINGS, MODEL, to=2, **WHO)
    with pytest.raises(NotAllowed, match="pruned"):
        promote(world, SETTINGS, MODEL, 7, override="please", **WHO)
    assert [rollback(world, SETTINGS, MODEL, **WHO).champion for _ in range(2)] == [3, 1]
    with pytest.raises(NotAllowed, match="nothing left"):
        hold(world, MODEL, 2, **WHO)


def test_a_released_hold_no_longer_keeps(world: World) -> None:
    release_all(world, "a", "b", "c")
    hold(world, MODEL, 1, **WHO)
    with pytest.raises(NotAllowed):
        hold(world, MODEL, 1, **WHO)
    tight = replace(SETTINGS, retention=Retention(archived=0, runs=0, rollback=1))
    assert prune(world, tight, MODEL, True) == []
    release(world, MODEL, 1, **WHO)
    assert [each.number for each in prune(world, tight, MODEL, True)] == [1]
    with pytest.raises(NotAllowed):
        release(world, MODEL, 1, **WHO)


def test_bytes_another_version_needs_stay(world: World) -> None:
    release_all(world, "a")
    run = world.state.run("a")
    world.state.add_run(replace(run, id="again"), fact("run.finished"))
    twin = register(world, SETTINGS, "again", **WHO)
    reject(world, SETTINGS, MODEL, twin.number, **WHO)
    assert [each.number for each in prune(world, SETTINGS, MODEL, False)] == [twin.number]
    assert world.bundles.get(run.bundle).digest == run.bundle


def test_old_unregistered_runs_lose_their_bytes(world: World) -> None:
    runs = [train(world, name) for name in "abc"]
    tight = replace(SETTINGS, retention=Retention(runs=1))
    for _ in range(2):
        assert prune(world, tight, MODEL, False) == []
    for run in runs[:2]:
        with pytest.raises(NotFound):
            world.bundles.get(run.bundle)
    assert world.bundles.get(runs[2].bundle).digest == runs[2].bundle
    assert [row.event.evidence["runs"] for row in world.state.ledger() if row.event.kind == "version.pruned"] == [
        ["a", "b"]
    ]
