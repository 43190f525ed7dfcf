"""The composition root of the control plane: settings -> adapters -> App. The only place where ports meet adapters.

Opening an App is cheap: every adapter that needs a heavy library is built when it is first asked for. Use it from a notebook:

    import ecluse
    app = ecluse.open(".")
    frame = app.training_table("churn")
"""

from __future__ import annotations

import functools
import getpass
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecluse.adapters.project_files import code_digest, find_root, load_project, load_settings, read_declaration
from ecluse.core.bundle import Bundle
from ecluse.core.codec import canonical
from ecluse.core.errors import Corrupt, EcluseError, NotFound
from ecluse.core.event import broken_at
from ecluse.core.ports import Scorer, Tracker, World
from ecluse.core.project import Project
from ecluse.core.settings import Settings
from ecluse.core.verdict import Finding, Outcome

if TYPE_CHECKING:
    import polars as pl

    from ecluse.adapters.journal_archive import JournalArchive
    from ecluse.core.event import LedgerRow
    from ecluse.core.rollout import Rollout
    from ecluse.core.version import GateReport, ModelVersion
    from ecluse.loop.ingest import IngestResult
    from ecluse.loop.materialize import MaterializeResult
    from ecluse.loop.monitor import MonitorReport
    from ecluse.loop.outcomes import OutcomesReport
    from ecluse.loop.retrain import Trained
    from ecluse.loop.score import Scored
    from ecluse.loop.status import Status

STATE = ".ecluse"


def open_app(path: str | Path = ".", *, profile: str | None = None, flags: Mapping[str, Any] | None = None) -> App:
    """The App of the project at or above ``path``. Raises NotFound, DeclarationError."""
    root = find_root(Path(path))
    return App(root, load_settings(root, profile, os.environ, flags))


@dataclass(frozen=True)
class App:
    """One project under one profile. ``world`` holds the adapters; the declaration is imported only by what needs user code."""

    root: Path
    settings: Settings

    @property
    def home(self) -> Path:
        """Where all state of the profile lives."""
        return self.root / STATE / self.settings.profile

    @functools.cached_property
    def actor(self) -> str:
        """Who acts, for the ledger."""
        return os.environ.get("ECLUSE_LAUNCHED_BY") or _user()

    @functools.cached_property
    def world(self) -> World:
        """The adapters of this profile. Raises Unavailable when the state cannot be opened."""
        from ecluse.adapters.bundles_files import BundlesFiles
        from ecluse.adapters.clock import project_clock
        from ecluse.adapters.database.sqlite import SqliteState
        from ecluse.adapters.online import open_online, resolved
        from ecluse.adapters.publisher_files import PublisherFiles
        from ecluse.adapters.sealing import load_sealer
        from ecluse.adapters.snapshots_files import SnapshotsFiles
        from ecluse.adapters.trials import Trials, tried

        state = SqliteState(self.home / "state.db")
        published = self.home / "published.json"  # no new key beside what a lost one signed: workers would refuse it
        return World(
            root=self.root,
            home=self.home,
            clock=project_clock(self.settings.time.now, state),
            state=state,
            snapshots=SnapshotsFiles(self.home / "snapshots"),
            bundles=BundlesFiles(self.home / "bundles"),
            online=open_online(self.home, resolved(self.settings)),
            sealer=load_sealer(self.home / "keys", create=self.settings.profile == "dev" and not published.exists()),
            publisher=PublisherFiles(self.home),
            open_scorer=tried(Trials(self.home / "cache" / "trials", self.settings.serving.model_mb), open_scorer),
            read_predictions=self.journal.read,
            segments=self.journal.segments,
            tracker=self._tracker,
            actor=self.actor,
        )

    @functools.cached_property
    def project(self) -> Project:
        """The declaration, imported from project.py and remembered in the state."""
        project = self._checked(load_project(self.root))
        self.world.state.save_declaration(project.digest, canonical(project))
        return project

    @functools.cached_property
    def declared(self) -> Project:
        """The declaration as last remembered: no user code runs. Raises NotFound before the first ingest or train, DeclarationError."""
        stored = self.world.state.declaration()
        if stored is None:
            cure = "run `ecluse ingest` first"
            raise NotFound("the project has not been declared yet", where=str(self.home), cure=cure)
        project = read_declaration(stored)
        current = project.code == code_digest(self.root)  # of other sources it cannot be held against these settings
        return self._checked(project) if current else project

    @functools.cached_property
    def journal(self) -> JournalArchive:
        """What all workers of this profile have journaled."""
        from ecluse.adapters.journal_archive import JournalArchive

        return JournalArchive(self.home / "journal")

    # -- data ---------------------------------------------------------------------------------------------------------

    def ingest(self, folder: Path, as_of: datetime, *, only: Sequence[str] = (), dry_run: bool = False) -> IngestResult:
        """Check every table's file in ``folder`` and freeze what is good as snapshots as of a moment; ``dry_run`` only checks."""
        from ecluse.loop.ingest import ingest

        return ingest(
            self.world, self.project, self.settings, folder, as_of, actor=self.actor, only=only, dry_run=dry_run
        )

    def materialize(self, moment: datetime | None = None) -> MaterializeResult:
        """Bring the online store up to a moment (now)."""
        from ecluse.loop.materialize import materialize

        return materialize(self.world, self.project, self.settings, moment)

    def set_clock(self, moment: datetime) -> datetime:
        """Move the data clock on; returns the project's present."""
        from ecluse.loop.clock import set_clock

        return set_clock(self.world, self.settings, moment, actor=self.actor)

    # -- models -------------------------------------------------------------------------------------------------------

    def train(
        self,
        model: str,
        *,
        parameters: Mapping[str, Any] | None = None,
        moment: datetime | None = None,
        dry_run: bool = False,
        permute_labels: bool = False,
    ) -> Trained:
        """Train on what is known at ``moment`` (now); ``dry_run`` records nothing; ``permute_labels`` is a drill for the gates."""
        from ecluse.loop.retrain import train

        return train(
            self.world,
            self.project,
            self.settings,
            model,
            actor=self.actor,
            moment=moment,
            overrides=parameters or {},
            dry_run=dry_run,
            permute_labels=permute_labels,
        )

    def training_table(self, model: str | None = None) -> pl.DataFrame:
        """The joined training frame of a model, as of now: one row per mature label, features as of its moment, ``label`` last."""
        from ecluse.loop.retrain import training_table

        return training_table(self.world, self.project, self.settings, self.project.model(model).name)

    def register(self, run: str, *, reason: str = "") -> ModelVersion:
        """Make a run a version; the same run again is the same version."""
        from ecluse.loop.register import register

        return register(self.world, self.settings, run, reason=reason, actor=self.actor)

    def gate(self, model: str, number: int, *, dry_run: bool = False, reproduced: bool | None = None) -> GateReport:
        """Judge a version against its gates and the champion; ``dry_run`` answers "why would this be refused?"."""
        from ecluse.loop.gate import gate

        return gate(
            self.world,
            self.declared,
            self.settings,
            model,
            number,
            actor=self.actor,
            dry_run=dry_run,
            reproduced=reproduced,
        )

    def prune(self, model: str, *, dry_run: bool = False) -> Sequence[ModelVersion]:
        """Delete what retention no longer keeps."""
        from ecluse.loop.prune import prune

        return prune(self.world, self.settings, model, dry_run, actor=self.actor)

    # -- release ------------------------------------------------------------------------------------------------------

    def promote(self, model: str, number: int, *, reason: str, override: str = "") -> Rollout:
        """Compare-and-swap a version into Production and publish."""
        from ecluse.loop.promote import promote

        return promote(self.world, self.settings, model, number, reason=reason, actor=self.actor, override=override)

    def reject(self, model: str, number: int, *, reason: str) -> ModelVersion:
        """Refuse a version for good."""
        from ecluse.loop.reject import reject

        return reject(self.world, self.settings, model, number, reason=reason, actor=self.actor)

    def rollback(self, model: str, *, reason: str, to: int | None = None, leaving: int | None = None) -> Rollout:
        """The version before (or ``to``) serves again; ``leaving`` names the champion meant to be left."""
        from ecluse.loop.rollback import rollback

        return rollback(self.world, self.settings, model, reason=reason, actor=self.actor, to=to, leaving=leaving)

    def set_threshold(self, model: str, number: int, value: float, *, reason: str) -> ModelVersion:
        """Change a version's decision threshold, recorded and reversible."""
        from ecluse.loop.threshold import change_threshold

        return change_threshold(self.world, self.settings, model, number, value, reason=reason, actor=self.actor)

    # -- watching -----------------------------------------------------------------------------------------------------

    def monitor(self, model: str, *, last: int | None = None, period: timedelta | None = None) -> MonitorReport:
        """Compare what was served with the version's reference; a breach becomes an event."""
        from ecluse.loop.monitor import monitor

        return monitor(self.world, self.settings, model, last=last, period=period, actor=self.actor)

    def outcomes(self, model: str) -> OutcomesReport:
        """Realised performance of what was predicted, per version, as far as truths have arrived."""
        from ecluse.loop.outcomes import outcomes

        return outcomes(self.world, self.declared, self.settings, model)

    def react(self) -> Sequence[LedgerRow]:
        """Handle every event nobody has handled yet, durably: retrain, gate, release or refuse by policy."""
        from ecluse.adapters.durable_dbos import DurableRunner
        from ecluse.loop.runner import WORK, handle, react, warm_children

        with warm_children(self.world, self.settings) as warm:
            work = functools.partial(handle, self.world, self.declared, self.settings, warm)
            with DurableRunner.launch(self.home, {WORK: work}) as durable:
                return react(self.world, self.settings, durable)

    def mirror(self) -> int:
        """Bring the tracking mirror up to date; returns how many changes were applied."""
        from ecluse.loop.mirror import mirror

        return mirror(self.world, self.settings)

    def after_release(self, run: str) -> Sequence[str]:
        """Plots, permutation importance and the other artifacts of a run, made after its release; returns their names."""
        from ecluse.loop.retrain import after_release

        return sorted(after_release(self.world, self.settings, self.world.state.run(run)))

    def score(self, model: str, number: int | None = None) -> Scored:
        """Every entity known now, scored by the champion (or a version), best first."""
        from ecluse.loop.score import score

        return score(self.world, self.declared, self.settings, model, number)

    def status(self) -> Status:
        """Clock, champions, candidates, data, online features, and whether a server answers."""
        from ecluse.adapters.server_client import describe
        from ecluse.loop.status import status

        return status(self.world, self.declared, self.settings, describe(self.url))

    def waiting(self) -> Sequence[LedgerRow]:
        """Events the loop has not handled yet."""
        from ecluse.loop.runner import unhandled

        return unhandled(self.world)

    def hold(self, model: str, number: int, *, reason: str, held: bool = True) -> ModelVersion:
        """Put a version under audit hold, or release it."""
        from ecluse.loop.hold import hold, release

        return (hold if held else release)(self.world, model, number, reason=reason, actor=self.actor)

    def finish(self) -> None:
        """What follows a release off its way: plots and importance of runs that have none yet, and the mirror."""
        for run in self.world.state.runs()[-3:]:
            try:
                self.world.bundles.read_beside(run.bundle, "artifacts.json")
            except NotFound:
                self.after_release(run.id)
        self.mirror()

    # -- serving ------------------------------------------------------------------------------------------------------

    def worker_command(self, **given: Any) -> tuple[str, list[str]]:
        """Publish, then the address and the command line of this project's worker, or of the supervisor of several.

        ``given`` are settings of ``[serving]`` that hold for this command; None leaves one as it is. Raises InvalidInput.
        """
        from ecluse.adapters.online import resolved
        from ecluse.loop.publish import publish

        publish(self.world, self.settings)
        serving = replace(self.settings.serving, **{key: value for key, value in given.items() if value is not None})
        module = "ecluse.worker" if serving.workers == 1 else "ecluse.supervisor"
        command = [sys.executable, "-m", module, "--home", str(self.home), "--profile", self.settings.profile]
        command += ["--trusted-key", self.world.sealer.public_key, "--log-level", self.settings.log.level]
        command += ["--serving", canonical(serving).decode(), "--stores", canonical(resolved(self.settings)).decode()]
        return f"http://{serving.host}:{serving.port}", command

    def ask(self, fields: Mapping[str, Any], *, model: str | None = None, url: str | None = None) -> Mapping[str, Any]:
        """A prediction from the running server. Raises NotFound, InvalidInput, Unavailable."""
        from ecluse.adapters.server_client import call

        path = f"/models/{model}/predict" if model else "/predict"
        return call(url or self.url, path, fields, key=os.environ.get("ECLUSE_API_KEY", ""))

    @property
    def url(self) -> str:
        """Where the project's server listens by its settings."""
        return f"http://{self.settings.serving.host}:{self.settings.serving.port}"

    def _ledger_sentence(self) -> str:
        rows = list(self.world.state.ledger())
        broken = broken_at(rows)
        if broken is not None:
            raise Corrupt(f"the ledger's chain is broken at #{broken}", where="state.db", cure="compare with a backup")
        return f"{len(rows)} facts, chain whole"

    def _checked(self, project: Project) -> Project:
        from ecluse.loop.named import check_named

        check_named(project, self.settings)
        return project

    def _tracker(self) -> Tracker | None:
        if not self.settings.mlflow.enabled:
            return None
        from ecluse.adapters.mlflow_tracker import MlflowTracker

        return MlflowTracker(self.home, self.settings.mlflow, self.settings.project)


def open_scorer(bundle: Bundle) -> Scorer:
    """The scorer a bundle asks for: compiled in process, or skops in a process of its own."""
    if bundle.manifest.scorer == "onnx":
        from ecluse.adapters.scorer_onnx import OnnxScorer

        return OnnxScorer(bundle.model_bytes)
    from ecluse.adapters.scorer_skops import ProcessScorer

    return ProcessScorer(bundle)


def init_project(folder: Path, template: str) -> tuple[Sequence[Path], Sequence[str]]:
    """Write a project from a template, with its dev sealing key; the files written and what to know. Raises Conflict, NotFound."""
    from ecluse.adapters.project_template import write_project
    from ecluse.adapters.sealing import load_sealer

    written, notes = write_project(folder, template)
    load_sealer(folder.resolve() / STATE / "dev" / "keys", create=True)
    return written, notes


def diagnose(path: Path, profile: str | None) -> Sequence[Finding]:
    """What works on this machine and in this project, and what to do about the rest."""
    from ecluse.adapters.machine import attempt, examine
    from ecluse.adapters.server_client import describe

    findings = list(examine(path))
    try:
        app = open_app(path, profile=profile)
    except EcluseError as error:
        return [*findings, Finding("project", Outcome.FAILED, str(error))]
    models = attempt("project", lambda: f"{app.root.name}: {', '.join(model.name for model in app.project.models)}")
    versions = attempt("state", lambda: f"{len(app.world.state.versions())} versions in {app.home}")
    ledger = attempt("ledger", app._ledger_sentence)
    server = attempt("server", lambda: describe(app.url))
    return [*findings, models, versions, ledger, server]


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
