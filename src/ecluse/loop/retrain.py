"""One training, from snapshots to a recorded run; and what is made of it afterwards, off the way to a release."""

from __future__ import annotations

import io
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import polars as pl

from ecluse.core.bundle import Bundle
from ecluse.core.codec import canonical, from_plain
from ecluse.core.errors import DeclarationError, InvalidInput, Unsupported
from ecluse.core.event import Event
from ecluse.core.instants import format_instant
from ecluse.core.model import Model, Scalar
from ecluse.core.ports import World
from ecluse.core.project import Project
from ecluse.core.settings import Settings
from ecluse.core.snapshot import Dataset
from ecluse.core.verdict import Finding, Outcome, Verdict, judge
from ecluse.core.version import Run
from ecluse.loop.facts import run_facts
from ecluse.loop.labelled import Labelled, labelled_rows
from ecluse.stats.catalog import metric_of
from ecluse.training.artifacts import HeldOut, make_artifacts
from ecluse.training.make import PREDICTION, Job, Product, Y, declared_costs, make
from ecluse.training.parameters import choose_parameters

HELD_OUT, COEFFICIENTS, ARTIFACTS = "held_out.parquet", "coefficients.json", "artifacts.json"


@dataclass(frozen=True)
class Trained:
    """A training's answer. Without a ``run`` it was refused and ``verdict`` says why; ``waits_until`` is when more labels are mature.

    A dry run's ``run`` is not recorded anywhere.
    """

    verdict: Verdict
    run: Run | None = None
    bundle: Bundle | None = None
    waits_until: datetime | None = None
    rows: Mapping[str, int] = field(default_factory=dict)


def train(
    world: World,
    project: Project,
    settings: Settings,
    model_name: str,
    *,
    actor: str,
    moment: datetime | None = None,
    overrides: Mapping[str, Scalar | None] | None = None,
    dry_run: bool = False,
    dataset: Dataset | None = None,
    permute_labels: bool = False,
) -> Trained:
    """Train on what was known at ``moment`` (now), or on exactly ``dataset``; seal, store and record bundle and run.

    ``overrides`` win over the parameters of ecluse.toml. Too few rows, immature labels or a failed parity gate are a refused answer, not
    an exception. Raises InvalidInput (a fit that fails, NaN predictions), Unsupported (a class of the user's own), DeclarationError,
    NotFound, Unavailable: the first two leave the fact ``run.failed`` and nothing else. ``dry_run`` records nothing at all.
    ``permute_labels`` is a drill for the gates (see :class:`ecluse.training.make.Job`).
    """
    started, clock = world.clock.now(), time.monotonic()
    model, settings = project.model(model_name), settings.for_model(model_name)
    _check_metric(model)
    others = {name for each in project.models for name in each.parameters}
    parameters = choose_parameters(model, settings.parameters, overrides, others=others)
    try:
        rows = labelled_rows(world, project, model, moment or started, dataset)
        if rows.frame.is_empty():
            return _refused(world, model, actor, rows, _no_rows(model), {}, clock, dry_run)
        y = rows.labels.frame[Y]
        job = Job(model, settings, parameters, rows.dataset, rows.frame, y, project.code, world.root, permute_labels)
        product = make(job, world.open_scorer)
    except (InvalidInput, Unsupported) as problem:
        if not dry_run:
            _record_failure(world, model, actor, str(problem), clock, {"parameters": parameters})
        raise
    if product.bundle is None:
        return _refused(world, model, actor, rows, product.verdict, product.rows, clock, dry_run)
    run = _run(world, product, product.bundle, rows, parameters, started, time.monotonic() - clock, actor)
    if not dry_run:
        _record(world, project, product, product.bundle, run, actor, model.judged_by)
    return Trained(product.verdict, run, product.bundle, rows=product.rows)


def _check_metric(model: Model) -> None:
    """Before anything is computed: an unknown metric would leave a version that no gate can compare."""
    try:
        metric_of(model.task, model.judged_by)
    except InvalidInput as error:
        where = f"project.py: model {model.name}, judged_by"
        raise DeclarationError(error.what, where=where, cure=error.cure) from None


def training_table(
    world: World, project: Project, settings: Settings, model_name: str, moment: datetime | None = None
) -> pl.DataFrame:
    """The joined training frame as of ``moment`` (now): key, moment, every feature, ``__event:<view>``, and ``label`` last."""
    rows = labelled_rows(world, project, project.model(model_name), moment or world.clock.now())
    return rows.frame.with_columns(rows.labels.frame[Y].alias("label"))


def after_release(world: World, settings: Settings, run: Run) -> dict[str, bytes]:
    """Curves, confusion matrix, importance and sample predictions of a run, written beside its bundle; ``artifacts.json`` lists them.

    Runs no code of the user's and needs no snapshot: the bundle and the rows kept beside it suffice. Raises NotFound once pruned.
    """
    bundle = world.bundles.get(run.bundle)
    model = from_plain(Model, bundle.document("declaration.json"), where="declaration.json")
    frame = pl.read_parquet(io.BytesIO(world.bundles.read_beside(run.bundle, HELD_OUT)))
    answers = [name for name in frame.columns if name.startswith(PREDICTION)]
    held = HeldOut(frame.drop(Y, *answers), frame[Y].to_numpy(), frame.select(answers).to_numpy())
    own = settings.for_model(run.model)
    files = make_artifacts(
        held,
        bundle.schema,
        world.open_scorer(bundle),
        judged_by=model.judged_by,
        threshold=run.threshold,
        costs=declared_costs(own),
        seed=own.training.seed,
    )
    for name, data in files.items():
        world.bundles.write_beside(run.bundle, name, data)
    files[ARTIFACTS] = json.dumps({"run": run.id, "files": sorted(files)}).encode()
    world.bundles.write_beside(run.bundle, ARTIFACTS, files[ARTIFACTS])  # last: it says that the others are there
    return files


def _run(
    world: World,
    product: Product,
    bundle: Bundle,
    rows: Labelled,
    parameters: Mapping[str, Scalar | None],
    started: datetime,
    seconds: float,
    actor: str,
) -> Run:
    assert product.recipe is not None
    libraries = {f"library.{name}": version for name, version in product.recipe.libraries.items()}
    return Run(
        id=secrets.token_hex(16),
        model=product.recipe.model,
        started=started,
        seconds=seconds,
        recipe=product.recipe.digest,
        dataset=rows.dataset.digest,
        bundle=bundle.digest,
        parameters=parameters,
        metrics=product.metrics,
        segments=product.segments,
        rows=product.rows,
        threshold=product.threshold,
        facts=run_facts(world.root, actor) | dict(product.facts) | libraries,
    )


def _record(
    world: World, project: Project, product: Product, bundle: Bundle, run: Run, actor: str, judged_by: str
) -> None:
    """Bundle first, run last: whatever ends this halfway, no run names a bundle that is not there."""
    world.bundles.put(bundle, world.sealer.sign(bundle.digest))
    assert product.held_out is not None
    world.bundles.write_beside(bundle.digest, HELD_OUT, _parquet(product.held_out))
    if product.coefficients is not None:
        world.bundles.write_beside(bundle.digest, COEFFICIENTS, json.dumps(product.coefficients).encode())
    world.state.save_declaration(project.digest, canonical(project))
    evidence = {
        "run": run.id,
        "bundle": run.bundle,
        "dataset": run.dataset,
        "recipe": run.recipe,
        "rows": dict(run.rows),
        "seconds": round(run.seconds, 3),
        judged_by: run.metrics["validation"].get(judged_by),
    }
    world.state.add_run(run, Event("run.finished", world.clock.now(), actor, run.model, evidence=evidence))


def _refused(
    world: World,
    model: Model,
    actor: str,
    rows: Labelled,
    verdict: Verdict,
    counts: Mapping[str, int],
    clock: float,
    dry_run: bool,
) -> Trained:
    """The refusal, with the wait it asks for when labels are still to come."""
    waits = rows.labels.matures if any(f.check.startswith("frame.") for f in verdict.findings if not f.passed) else None
    if waits is not None:
        why = f"wait for labels until {format_instant(waits)}: {rows.labels.immature} are not mature yet"
        verdict = judge(
            verdict.question,
            (*verdict.findings, Finding("frame.maturity", Outcome.FAILED, why, format_instant(waits), None)),
        )
    if not dry_run:
        why = "; ".join(f.why for f in verdict.findings if not f.passed)
        evidence = {
            "findings": [f.why for f in verdict.findings if not f.passed],
            "waits_until": waits,
            "rows": dict(counts),
        }
        _record_failure(world, model, actor, why, clock, evidence)
    return Trained(verdict, waits_until=waits, rows=counts)


def _no_rows(model: Model) -> Verdict:
    why = f"no mature label of {model.predicts.name}"
    return judge(
        f"may {model.name} be trained on these rows",
        (Finding("frame.rows", Outcome.FAILED, why, 0, None, "labelled rows"),),
    )


def _record_failure(
    world: World, model: Model, actor: str, reason: str, clock: float, evidence: Mapping[str, object]
) -> None:
    """With the seconds since ``clock``: the budget of compute counts them, whatever came of them."""
    told = {**evidence, "seconds": round(time.monotonic() - clock, 3)}
    world.state.append(Event("run.failed", world.clock.now(), actor, model.name, reason=reason, evidence=told))


def _parquet(frame: pl.DataFrame) -> bytes:
    out = io.BytesIO()
    frame.write_parquet(out)
    return out.getvalue()
