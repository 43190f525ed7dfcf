"""Rerun: a training done again, by the same recipe on the same snapshots, to see whether the same bundle comes out; nothing is recorded."""

from __future__ import annotations

from dataclasses import dataclass

from ecluse.core.codec import from_plain
from ecluse.core.ports import World
from ecluse.core.project import Project
from ecluse.core.settings import Settings
from ecluse.core.snapshot import Dataset
from ecluse.core.verdict import Finding, Outcome, Verdict
from ecluse.loop.retrain import train


@dataclass(frozen=True)
class Rerun:
    """``verdict`` says whether recipe, dataset and bundle are those of the ``run``; ``bundle`` is what came out (None: nothing did)."""

    run: str
    model: str
    verdict: Verdict
    bundle: str | None


def rerun(world: World, project: Project, settings: Settings, run_id: str, *, actor: str) -> Rerun:
    """Train what run ``run_id`` (or a unique prefix) trained. Raises NotFound (run, bundle, snapshots), Corrupt, and as a training does."""
    run = world.state.run(run_id)
    bundle = world.bundles.get(run.bundle)
    dataset = from_plain(Dataset, bundle.document("dataset.json"), where="dataset.json")
    done = train(
        world,
        project,
        settings,
        run.model,
        actor=actor,
        moment=dataset.moment,
        overrides=run.parameters,
        dry_run=True,
        dataset=dataset,
    )
    question = f"does run {run.id[:12]} give the same bundle again"
    if done.run is None:
        return Rerun(run.id, run.model, Verdict(question, done.verdict.failed), None)
    pairs = (
        ("recipe", run.recipe, done.run.recipe, "sources, settings or the lock of libraries changed since"),
        ("dataset", run.dataset, done.run.dataset, "other snapshots, or other rows in them"),
        ("bundle", run.bundle, done.run.bundle, "the training is not deterministic, or the recipe is another"),
    )
    return Rerun(run.id, run.model, Verdict(question, tuple(_same(*pair) for pair in pairs)), done.run.bundle)


def _same(what: str, before: str, now: str, otherwise: str) -> Finding:
    if before == now:
        return Finding(what, Outcome.PASSED, f"the same {what}", now[:12], before[:12])
    return Finding(what, Outcome.FAILED, f"another {what}: {otherwise}", now[:12], before[:12])
