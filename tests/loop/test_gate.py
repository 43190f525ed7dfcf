"""Judging a version for real: its own snapshots, sealed bundles, the champion on rows neither was trained on, a report that binds."""

import json
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.projects.small_data import PROJECT, write_month

from ecluse.adapters.bundles_files import BundlesFiles
from ecluse.adapters.sealing import load_sealer
from ecluse.app import App, open_app
from ecluse.core.codec import canonical, digest
from ecluse.core.errors import Corrupt, DeclarationError, NotAllowed, NotFound
from ecluse.core.recipe import held_position
from ecluse.core.verdict import Finding, Outcome
from ecluse.core.version import GateReport, ModelVersion, Stage
from ecluse.loop.gate import REPORT, gate
from ecluse.loop.gate_evidence import gather
from ecluse.loop.labelled import labelled_rows
from ecluse.training.make import Job, make

MONTHS = (datetime(2024, 1, 31, tzinfo=UTC), datetime(2024, 2, 29, tzinfo=UTC))
FLAGS: dict[str, Any] = {
    "gates": {
        "floor": {},
        "max_gap": 0.6,
        "latency_ms": 1_000,  # a test machine may be busy
        "non_regression": {"may_lose": 0.02, "rounds": 200},
    },
    "models": {
        "left": {"gates": {"floor": {"roc_auc": 0.7}}},
        "spend": {"gates": {"leak": 0.999}},  # what they spend nearly is a line in their hours, and may be
    },
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small project with two months and a first version of each model; tests copy it."""
    folder = tmp_path_factory.mktemp("project") / "small"
    shutil.copytree(PROJECT, folder)
    app = open_app(folder, flags=FLAGS)
    for seed, month in enumerate(MONTHS):
        assert app.ingest(write_month(folder.parent / "data", month, seed=seed), month).passed
    for model in ("left", "tier", "spend"):
        version_of(app, model)
    app.world.state.close()  # type: ignore[attr-defined]
    return folder


@pytest.fixture
def app(trained: Path, tmp_path: Path) -> App:
    shutil.copytree(trained, tmp_path / "small")
    return open_app(tmp_path / "small", flags=FLAGS)


def version_of(app: App, model: str = "left", **parameters: Any) -> ModelVersion:
    run = app.train(model, parameters=parameters).run
    assert run is not None
    return app.register(run.id)


def released(app: App, model: str = "left") -> App:
    """With version 1 in Production."""
    app.gate(model, 1)
    app.promote(model, 1, reason="first")
    return app


def found(report: GateReport, check: str) -> Finding:
    return next(finding for finding in report.verdict.findings if finding.check == check)


def stops(report: GateReport) -> dict[str, Outcome]:
    return {finding.check: finding.outcome for finding in report.verdict.findings if not finding.passed}


def bundles_of(app: App) -> BundlesFiles:
    assert isinstance(app.world.bundles, BundlesFiles)
    return app.world.bundles


@contextmanager
def unchanged(app: App) -> Iterator[None]:
    """Nothing is recorded meanwhile."""
    before = (len(list(app.world.state.ledger())), app.world.state.versions(), app.world.state.pending())
    yield
    assert (len(list(app.world.state.ledger())), app.world.state.versions(), app.world.state.pending()) == before


@pytest.mark.parametrize("model", ["left", "tier", "spend"])
def test_a_good_first_version_passes_and_stands_in_staging(app: App, model: str) -> None:
    report = app.gate(model, 1)
    assert report.verdict.passed, stops(report)
    version = app.world.state.version(model, 1)
    assert version.stage is Stage.STAGING
    assert (report.bundle, report.champion, report.dry) == (version.bundle, None, False)
    assert report.expires - report.made == timedelta(days=7)
    assert app.world.state.report(model, 1) == report
    event = list(app.world.state.ledger())[-1].event
    assert (event.kind, event.version, event.evidence["failed"]) == ("version.gated", 1, [])
    assert event.evidence["report"] == digest(report)
    beside = json.loads(app.world.bundles.read_beside(version.bundle, REPORT))
    assert canonical(beside["report"]) == canonical(report)


def test_the_rows_are_those_held_out_and_nothing_is_taken_on_trust(app: App) -> None:
    evidence = gather(app.world, app.declared, app.settings, app.world.state.version("left", 1), None, None)
    assert evidence.rows == 2 * len(set(evidence.keys.tolist()))
    assert all(held_position(key) < 0.25 for key in evidence.keys.tolist())
    assert evidence.overlap == 0
    run = app.world.state.runs("left")[0]
    reached = found(app.gate("left", 1, dry_run=True), "floor")
    assert reached.measured == pytest.approx(run.metrics["validation"]["roc_auc"], abs=1e-12)


def test_a_dry_run_answers_the_same_and_records_nothing(app: App) -> None:
    with unchanged(app):
        dry = app.gate("left", 1, dry_run=True)
    assert dry.dry
    assert app.world.state.report("left", 1) is None
    with pytest.raises(NotFound):
        app.world.bundles.read_beside(dry.bundle, REPORT)
    kept = [(f.check, f.subject, f.outcome) for f in app.gate("left", 1).verdict.findings]
    assert kept == [(f.check, f.subject, f.outcome) for f in dry.verdict.findings]


def test_the_champion_is_asked_about_the_same_rows(app: App) -> None:
    released(app)
    report = app.gate("left", version_of(app, trees=25).number)
    assert report.champion == 1
    compared = found(report, "non_regression")
    assert compared.outcome is not Outcome.FAILED
    assert "of version 1" in compared.why
    assert found(report, "compatibility").passed


def test_the_champion_compared_with_itself_gains_nothing_and_passes(app: App) -> None:
    report = released(app).gate("left", 1)
    assert (found(report, "non_regression").measured, report.verdict.passed) == (0.0, True)


def shuffled(app: App) -> ModelVersion:
    """A version of the same recipe, fitted to labels in another order."""
    model, settings = app.project.model("left"), app.settings.for_model("left")
    rows = labelled_rows(app.world, app.project, model, app.world.clock.now())
    y = rows.labels.frame["y"].shuffle(seed=3)
    made = make(
        Job(
            model,
            settings,
            {"learning_rate": 0.1, "trees": 20, "kind": "boosting"},
            rows.dataset,
            rows.frame,
            y,
            "",
            app.root,
        ),
        app.world.open_scorer,
    )
    assert made.bundle is not None
    app.world.bundles.put(made.bundle, app.world.sealer.sign(made.bundle.digest))
    before = app.world.state.runs("left")[0]
    run = replace(before, id=secrets.token_hex(16), bundle=made.bundle.digest, metrics=made.metrics)
    event = next(row.event for row in app.world.state.ledger() if row.event.kind == "run.finished")
    app.world.state.add_run(run, event)
    return app.register(run.id)


def test_a_candidate_of_shuffled_labels_is_refused_and_the_ledger_says_why(app: App) -> None:
    version = shuffled(released(app))
    report = app.gate("left", version.number)
    assert {"floor", "non_regression"} <= {finding.check for finding in report.verdict.failed}
    assert app.world.state.version("left", version.number).stage is Stage.NONE
    event = list(app.world.state.ledger())[-1].event
    assert {"floor", "non_regression"} <= set(event.evidence["failed"])
    assert "stopped by" in event.reason
    with pytest.raises(NotAllowed):
        app.promote("left", version.number, reason="anyway")


def test_without_a_row_clean_for_both_it_is_inconclusive(app: App) -> None:
    older = app.train("left", moment=datetime(2024, 2, 15, tzinfo=UTC)).run  # judged on January's rows
    by_time = open_app(app.root, flags=FLAGS | {"training": {"split": "time"}})
    newer = by_time.train("left", parameters={"trees": 25}).run  # trained on all of January
    assert older is not None
    assert newer is not None
    champion, candidate = app.register(newer.id), app.register(older.id)
    by_time.promote("left", champion.number, reason="first", override="a test")
    report = app.gate("left", candidate.number)
    compared = found(report, "non_regression")
    assert compared.outcome is Outcome.INCONCLUSIVE
    assert compared.why.startswith("0 of ")
    assert not report.verdict.passed


def test_a_split_by_time_is_judged_on_the_newest_rows(app: App) -> None:
    by_time = open_app(app.root, flags=FLAGS | {"training": {"split": "time"}})
    version = version_of(by_time)
    evidence = gather(by_time.world, by_time.declared, by_time.settings, version, None, None)
    assert (evidence.rows, evidence.overlap, evidence.overlap_of) == (400, 0, "rows")


def test_a_champion_that_is_gone_is_evidence_not_an_accident(app: App) -> None:
    released(app)
    number = version_of(app, trees=25).number
    shutil.rmtree(bundles_of(app).directory(app.world.state.version("left", 1).bundle))
    report = app.gate("left", number)
    assert stops(report)["non_regression"] is Outcome.INCONCLUSIVE
    assert stops(report)["compatibility"] is Outcome.INCONCLUSIVE
    assert found(report, "floor").passed


def test_a_champion_with_tables_of_its_own_is_asked_with_them(app: App) -> None:
    released(app)
    source = app.root / "project.py"
    source.write_text(source.read_text().replace("features=[profile, activity], derived=pace", "features=[profile]"))
    changed = open_app(app.root, flags=FLAGS)
    version = version_of(changed)
    evidence = gather(changed.world, changed.declared, changed.settings, version, 1, None)
    assert evidence.champion is not None
    assert evidence.champion.answers is not None, evidence.champion.problem
    same = gather(app.world, app.declared, app.settings, app.world.state.version("left", 1), None, None)
    assert np.array_equal(evidence.champion.answers, same.answers)
    assert found(changed.gate("left", version.number), "non_regression").outcome is Outcome.FAILED


def test_a_damaged_candidate_is_an_error(app: App) -> None:
    bundle = app.world.state.version("left", 1).bundle
    model = bundles_of(app).directory(bundle) / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"\0")
    with unchanged(app), pytest.raises(Corrupt):
        app.gate("left", 1)


def test_a_seal_of_another_key_or_a_forged_one_is_an_error(app: App, tmp_path: Path) -> None:
    bundle = app.world.state.version("left", 1).bundle
    seal = bundles_of(app).beside(bundle) / "seal.json"
    good = app.world.bundles.seal(bundle)
    other = load_sealer(tmp_path / "other", create=True, environment={}).sign(bundle)
    seal.write_bytes(canonical(other))
    with unchanged(app), pytest.raises(NotAllowed):
        app.gate("left", 1)
    seal.write_bytes(canonical(replace(other, key=good.key)))
    with unchanged(app), pytest.raises(Corrupt, match="forged"):
        app.gate("left", 1)


def test_a_segment_that_is_no_feature_names_file_key_and_cure(app: App) -> None:
    wrong = open_app(app.root, flags=FLAGS | {"gates": {"segments": ["planet"]}, "models": {}})
    with unchanged(app), pytest.raises(DeclarationError, match=r"planet.*gates\.segments.*region"):
        wrong.gate("left", 1)


def test_no_such_version(app: App) -> None:
    with pytest.raises(NotFound):
        gate(app.world, app.declared, app.settings, "left", 99, actor="ana")


def test_a_target_that_one_feature_decides_is_found(app: App) -> None:
    usual = open_app(app.root, flags=FLAGS | {"models": {}})
    leak = found(usual.gate("spend", 1, dry_run=True), "leakage")
    assert (leak.outcome, leak.subject) == (Outcome.FAILED, "hours")


def test_whether_it_was_reproduced_is_a_finding(app: App) -> None:
    assert found(app.gate("left", 1, reproduced=True, dry_run=True), "reproducible").measured == "same bundle"
    assert stops(app.gate("left", 1, reproduced=False, dry_run=True)) == {"reproducible": Outcome.FAILED}
