"""The mirror over a real state and a real MLflow database: everything once, nothing blocked, nothing lost."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.adapters.tracked import address, forget, tracker_in, trained
from tests.loop.worlds import MODEL, SETTINGS, fact, report_of, run_of, world_in

from ecluse.adapters.mlflow_tracker import MlflowTracker
from ecluse.core.bundle import Bundle
from ecluse.core.codec import digest
from ecluse.core.errors import Corrupt, Unavailable
from ecluse.core.ports import World
from ecluse.core.settings import MlflowSettings
from ecluse.core.version import ModelVersion, Run
from ecluse.loop.mirror import PROBLEM, REWRITING, mirror
from ecluse.loop.promote import promote
from ecluse.loop.prune import prune
from ecluse.loop.register import register
from ecluse.loop.reject import reject
from ecluse.loop.retrain import ARTIFACTS, COEFFICIENTS


@pytest.fixture
def world(tmp_path: Path) -> World:
    tracker = tracker_in(tmp_path)
    return replace(world_in(tmp_path), tracker=lambda: tracker)


def client(world: World) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=address(world.home), registry_uri=address(world.home))


def bundle_for(name: str) -> Bundle:
    """One trained bundle under another recipe: another digest, the same model."""
    bundle, _ = trained("binary")
    return replace(bundle, manifest=replace(bundle.manifest, recipe=name))


def a_run(world: World, name: str) -> Run:
    bundle = bundle_for(name)
    world.bundles.put(bundle, world.sealer.sign(bundle.digest))
    run = run_of(name, bundle.digest)
    world.state.add_run(run, fact("run.finished"))
    return run


def candidate(world: World, name: str) -> ModelVersion:
    version = register(world, SETTINGS, a_run(world, name).id, reason="trained", actor="ana")
    report = report_of(version, world.state.rollout(MODEL).champion)
    world.state.add_report(report, fact("version.gated", report=digest(report)))
    return world.state.version(MODEL, version.number)


def release(world: World, name: str) -> int:
    number = candidate(world, name).number
    promote(world, SETTINGS, MODEL, number, reason="better", actor="ana")
    return number


def seen(world: World) -> dict[str, Any]:
    """What MLflow shows: aliases by our own numbers, stages, gates, the number of runs."""
    asked = client(world)
    versions = asked.search_model_versions(f"name = '{MODEL}'")
    ours = {int(each.version): int(each.tags["ecluse.version"]) for each in versions}
    aliases = asked.get_registered_model(MODEL).aliases
    return {
        "aliases": {alias: ours[int(version)] for alias, version in aliases.items()},
        "stages": {ours[int(each.version)]: each.tags["ecluse.stage"] for each in versions},
        "gates": {ours[int(each.version)]: each.tags.get("ecluse.gate") for each in versions},
        "runs": len(asked.search_runs([asked.get_experiment_by_name("water").experiment_id])),
    }


def test_everything_is_mirrored_once(world: World) -> None:
    release(world, "a")
    release(world, "b")
    candidate(world, "c")
    d = candidate(world, "d")
    pending = len(world.state.pending())
    assert mirror(world, SETTINGS) == pending > 0
    assert world.state.pending() == ()
    expected = {
        "aliases": {"production": 2, "staging": 4},
        "stages": {1: "Archived", 2: "Production", 3: "Staging", 4: "Staging"},
        "gates": dict.fromkeys((1, 2, 3, 4), "passed"),
        "runs": 4,
    }
    assert seen(world) == expected
    assert mirror(world, SETTINGS) == 0
    reject(world, SETTINGS, MODEL, d.number, reason="no", actor="ana")
    assert mirror(world, SETTINGS) == 1
    assert seen(world)["aliases"] == {"production": 2, "staging": 3}


def test_an_alias_somebody_moved_is_put_back_and_told(world: World) -> None:
    for name in "ab":
        release(world, name)
    mirror(world, SETTINGS)
    there = {
        each.tags["ecluse.version"]: each.version for each in client(world).search_model_versions(f"name = '{MODEL}'")
    }
    client(world).set_registered_model_alias(MODEL, "production", there["1"])
    assert mirror(world, SETTINGS) == 0
    assert seen(world)["aliases"] == {"production": 2}
    told = [row.event for row in world.state.ledger() if row.event.kind == "mirror.altered"]
    assert [(each.version, each.evidence) for each in told] == [(2, {"named": 1, "champion": 2})]
    release(world, "c")
    assert mirror(world, SETTINGS) > 0
    assert mirror(world, SETTINGS) == 0
    assert [row.event.kind for row in world.state.ledger()].count("mirror.altered") == 1


def test_a_change_that_fails_does_not_hold_up_others(world: World) -> None:
    release(world, "a")
    mirror(world, SETTINGS)
    bad = a_run(world, "b")
    version = register(world, SETTINGS, bad.id, reason="trained", actor="ana")
    manifest = world.home / "bundles" / bad.bundle / "schema.json"
    whole = manifest.read_bytes()
    manifest.write_bytes(b"damaged")
    release(world, "c")
    with pytest.raises(Corrupt):
        mirror(world, SETTINGS)
    assert seen(world)["aliases"] == {"production": 3}
    assert [row[1:] for row in world.state.pending()] == [("version", f"{MODEL}/{version.number}")]
    assert "schema.json" in (world.state.meta(PROBLEM) or "")
    manifest.write_bytes(whole)
    assert mirror(world, SETTINGS) == 1
    assert (world.state.pending(), world.state.meta(PROBLEM)) == ((), "")


def test_a_server_that_does_not_answer_loses_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    release(world, "a")
    before = world.state.pending()
    silent = MlflowTracker(world.home, MlflowSettings(tracking_uri="http://127.0.0.1:9"), "water")
    with pytest.raises(Unavailable):
        mirror(replace(world, tracker=lambda: silent), SETTINGS)
    assert world.state.pending() == before
    assert mirror(world, SETTINGS) == len(before)


def test_killed_after_writing_and_before_remembering(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    release(world, "a")
    count = len(world.state.pending())

    def die(_: int) -> None:
        raise KeyboardInterrupt

    for _ in range(2):
        with monkeypatch.context() as killed:
            killed.setattr(world.state, "done", die)
            with pytest.raises(KeyboardInterrupt):
                mirror(world, SETTINGS)
    assert mirror(world, SETTINGS) == count
    assert seen(world)["stages"] == {1: "Production"}
    assert seen(world)["runs"] == 1


def test_no_tracker_leaves_the_outbox(world: World) -> None:
    release(world, "a")
    before = world.state.pending()
    assert mirror(replace(world, tracker=lambda: None), SETTINGS) == 0
    assert world.state.pending() == before


def test_a_pruned_version_has_nothing_to_mirror(world: World) -> None:
    settings = replace(SETTINGS, retention=replace(SETTINGS.retention, archived=0, rollback=0))
    release(world, "a")
    release(world, "b")
    assert [each.number for each in prune(world, settings, MODEL, dry_run=False)] == [1]
    mirror(world, SETTINGS)
    assert world.state.pending() == ()
    assert seen(world)["stages"] == {2: "Production"}


def test_a_version_deleted_in_mlflow_comes_back(world: World) -> None:
    release(world, "a")
    mirror(world, SETTINGS)
    client(world).delete_registered_model(MODEL)
    candidate(world, "b")
    mirror(world, SETTINGS)
    assert seen(world)["aliases"] == {"production": 1, "staging": 2}


def test_plots_and_reports_are_shown(world: World) -> None:
    run = a_run(world, "a")
    files = {"roc_curve.png": b"\x89PNG", "importance.json": b"{}"}
    for name, data in files.items():
        world.bundles.write_beside(run.bundle, name, data)
    world.bundles.write_beside(run.bundle, ARTIFACTS, json.dumps({"run": run.id, "files": sorted(files)}).encode())
    world.bundles.write_beside(run.bundle, COEFFICIENTS, b"[]")
    mirror(world, SETTINGS)
    asked = client(world)
    (shown,) = asked.search_runs([asked.get_experiment_by_name("water").experiment_id])
    names = {each.path for folder in ("plots", "reports") for each in asked.list_artifacts(shown.info.run_id, folder)}
    assert names == {"plots/roc_curve.png", "reports/importance.json", "reports/coefficients.json"}


@pytest.mark.slow
def test_a_deleted_mirror_is_written_anew(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release(world, "a")
    release(world, "b")
    mirror(world, SETTINGS)
    before = seen(world)
    # MLflow holds its file open in this process: a place where there is no database yet stands for a new process
    other = tmp_path / "moved"
    tracker = MlflowTracker(other, MlflowSettings(), "water")
    again = replace(world, home=other, tracker=lambda: tracker)

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as killed:
        killed.setattr(tracker, "mirror_report", die)
        with pytest.raises(KeyboardInterrupt):
            mirror(again, SETTINGS)
    assert not tracker.empty()
    assert mirror(again, SETTINGS) > 0
    assert world.state.meta(REWRITING) == ""
    assert mirror(again, SETTINGS) == 0
    assert seen(again)["aliases"] == before["aliases"]


def test_a_mirror_deleted_while_in_use_says_so(world: World) -> None:
    release(world, "a")
    mirror(world, SETTINGS)
    forget(world.home)
    number = candidate(world, "b").number
    before = world.state.pending()
    with pytest.raises(Unavailable, match="deleted while in use"):
        mirror(world, SETTINGS)
    assert ("version", f"{MODEL}/{number}") in [row[1:] for row in before]
    assert world.state.pending() == before
    assert world.state.meta(REWRITING) == "yes"
