"""The tracking mirror in MLflow: runs, registered versions with aliases, gate reports; the only importer of ``mlflow``.

A SQLite database and a folder of artifacts beside the state, or an existing server. Our own tables stay the authority: everything here is
found again by tags (``ecluse.run``, ``ecluse.version``) and may be written again at any time. Importing MLflow takes seconds and the first
use of a new database seconds more, so both wait for the first thing to write.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import json
import logging
import os
import re
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecluse.adapters.bundles_files import BundlesFiles
from ecluse.adapters.files import locked, make_directory
from ecluse.adapters.mlflow_tuning import STUDY, TRIAL, search_tags, search_values, trial_tags, trial_values
from ecluse.adapters.mlflow_words import (
    gate_word,
    model_inputs,
    report_text,
    run_metrics,
    run_parameters,
    run_tags,
)
from ecluse.core.codec import to_plain
from ecluse.core.errors import Conflict, EcluseError, InvalidInput, NotAllowed, NotFound, Unavailable
from ecluse.core.instants import to_micros
from ecluse.core.schema import Schema
from ecluse.core.settings import MlflowSettings
from ecluse.core.tuning import Tuning
from ecluse.core.version import GateReport, ModelVersion, Run, Stage

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as MlflowRun
    from mlflow.entities.model_registry import ModelVersion as MlflowVersion

LOADER = "ecluse.integrations.mlflow_pyfunc"
MODEL = "model"
_BATCH = 100
_PAGE = 200
# Ours unless whoever started the process said otherwise: no telemetry, no word on standard error, no minutes of retries,
# and nothing of the folder we happen to run in copied into a model.
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_UV_AUTO_DETECT": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "GIT_PYTHON_REFRESH": "quiet",
}
_OURS = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_ALREADY_EXISTS", "INVALID_STATE")


class MlflowTracker:
    """One project's mirror. Writers of one machine take turns under a lock file.

    All methods raise Unavailable when database or server cannot be reached or written, or MLflow is not installed; InvalidInput for what
    MLflow refuses to keep; NotAllowed when the server does.
    """

    def __init__(self, home: Path, settings: MlflowSettings, project: str) -> None:
        self._home = home.resolve()
        self._embedded = not settings.tracking_uri
        self._database = self._home / "mlflow.db"
        self._uri = settings.tracking_uri or f"sqlite:///{self._database}"
        self._experiment_name = settings.experiment or project or "ecluse"
        self._owner = {"ecluse.project": project, "ecluse.profile": home.name}

    # ------------------------------------------------------------ the port

    def empty(self) -> bool:
        """Whether nothing was ever written: a new database or one that was deleted, a server without our experiment."""
        if self._embedded:
            return not self._database.exists()
        with self._asking() as client:
            return client.get_experiment_by_name(self._experiment_name) is None

    def mirror_run(self, run: Run, artifacts: Mapping[str, bytes]) -> None:
        """The run with parameters, metrics and tags; ``artifacts`` (file name -> bytes) as ``plots/*.png`` and ``reports/*``."""
        with self._asking() as client:
            found = self._run(client, run)
            if artifacts:
                with _folder() as folder:
                    for name, data in artifacts.items():
                        place = folder / ("plots" if name.endswith(".png") else "reports")
                        place.mkdir(exist_ok=True)
                        (place / name).write_bytes(data)
                    client.log_artifacts(found.info.run_id, str(folder))

    def mirror_version(self, version: ModelVersion, run: Run, bundle_directory: Path) -> None:
        """The version as a registered model that ``mlflow.pyfunc`` loads; ``bundle_directory`` is named by the bundle's digest.

        MLflow counts versions itself; ours is the tag ``ecluse.version``. Raises Corrupt, NotFound for the bundle, Conflict when the
        registered model belongs to another project or profile.
        """
        with self._asking() as client:
            if version.number in self._versions(client, version.model):
                return
            self._registered_model(client, version.model)
            run_id = self._run(client, run).info.run_id
            with _folder() as folder:
                _save_model(folder / MODEL, bundle_directory)
                client.log_artifacts(run_id, str(folder / MODEL), MODEL)
            client.create_model_version(
                version.model,
                source=f"{client.get_run(run_id).info.artifact_uri}/{MODEL}",
                run_id=run_id,
                tags={
                    **self._owner,
                    "ecluse.version": str(version.number),
                    "ecluse.run": run.id,
                    "ecluse.bundle": version.bundle,
                    "ecluse.stage": version.stage.value,
                },
                description=f"Version {version.number} of {version.model}",
                await_creation_for=0,
            )

    def mirror_rollout(
        self, model: str, champion: int | None, staging: int | None, stages: Mapping[int, Stage] | None = None
    ) -> int | None:
        """The aliases ``production`` and ``staging`` (None: without one) and the tag ``ecluse.stage`` of the versions in ``stages``.

        Returns the version ``production`` named before: None without one, 0 for one that is not ours. Raises NotFound when a version to be
        named is not mirrored; then no alias is moved.
        """
        with self._asking() as client:
            there = self._versions(client, model)
            wanted = {"production": champion, "staging": staging}
            for number in wanted.values():
                if number is not None and number not in there:
                    raise NotFound(f"version {number} of {model}", where="MLflow", cure="mirror the version first")
            for number, stage in (stages or {}).items():
                if number in there and there[number].tags.get("ecluse.stage") != stage.value:
                    client.set_model_version_tag(model, there[number].version, "ecluse.stage", stage.value)
            if not there:
                return None
            now = client.get_registered_model(model).aliases
            for alias, number in wanted.items():
                if number is not None:
                    client.set_registered_model_alias(model, alias, there[number].version)
                elif alias in now:
                    client.delete_registered_model_alias(model, alias)
            if "production" not in now:
                return None
            return next((number for number, each in there.items() if each.version == now["production"]), 0)

    def mirror_report(self, report: GateReport) -> None:
        """The verdict as tag ``ecluse.gate`` of version and run, the findings as ``gates/version-N.json`` and ``.md`` of the run.

        Raises NotFound when the version is not mirrored.
        """
        with self._asking() as client:
            there = self._versions(client, report.model)
            if report.version not in there:
                raise NotFound(f"version {report.version} of {report.model}", where="MLflow", cure="mirror it first")
            version, word = there[report.version], gate_word(report.verdict)
            name = f"gates/version-{report.version}"
            assert version.run_id is not None
            client.log_text(version.run_id, json.dumps(to_plain(report), indent=1), f"{name}.json")
            client.log_text(version.run_id, report_text(report), f"{name}.md")
            client.set_tag(version.run_id, "ecluse.gate", word)
            client.set_model_version_tag(report.model, version.version, "ecluse.gate", word)

    def mirror_tuning(self, tuning: Tuning) -> None:
        """A run for the search, and nested in it one for each trial; those that are there stay, the search's own is brought up to date."""
        with self._asking() as client:
            experiment, end = self._experiment(client), to_micros(tuning.ended) // 1000
            known = client.search_runs([experiment], f"tags.`{STUDY}` = '{tuning.study}'", max_results=10_000)
            there = {run.data.tags.get(TRIAL, ""): run.info for run in known}
            if "" in there:
                parent = there[""].run_id
            else:
                tags = self._owner | search_tags(tuning)
                parent = client.create_run(experiment, end, tags, run_name=f"tuning {tuning.study}").info.run_id
            for trial in tuning.trials:
                before = there.get(str(trial.number))
                if before is None or before.status != "FINISHED":
                    tags = self._owner | trial_tags(tuning, trial, parent)
                    name = f"{tuning.study} trial {trial.number}"
                    child = (
                        before.run_id if before else client.create_run(experiment, end, tags, run_name=name).info.run_id
                    )
                    _log(client, child, *trial_values(tuning, trial), end)
            _log(client, parent, {}, search_values(tuning)[1], end)
            for name, value in search_values(tuning)[0].items():
                client.set_tag(
                    parent, f"ecluse.best.{name}", value
                )  # a parameter could not be changed by a resumed search

    # ------------------------------------------------------------ what is there already

    def _run(self, client: MlflowClient, run: Run) -> MlflowRun:
        """The run of ours in MLflow, finished when it was not there or not yet whole."""
        experiment = self._experiment(client)
        known = client.search_runs([experiment], f"tags.`ecluse.run` = '{run.id}'", max_results=1)
        start = to_micros(run.started) // 1000
        end = to_micros(run.started + timedelta(seconds=run.seconds)) // 1000
        found = known[0] if known else None
        if found is None:
            tags = run_tags(run, self._owner)
            found = client.create_run(experiment, start, tags, run_name=f"{run.model} {run.id[:8]}")
        if found.info.status != "FINISHED":
            _log(client, found.info.run_id, run_parameters(run), run_metrics(run), end)
        return found

    def _experiment(self, client: MlflowClient) -> str:
        known = client.get_experiment_by_name(self._experiment_name)
        if known is None:
            place = (self._home / "mlartifacts").as_uri() if self._embedded else None
            return str(client.create_experiment(self._experiment_name, artifact_location=place))
        if known.lifecycle_stage != "active":
            raise Conflict(
                f"experiment {self._experiment_name} was deleted",
                where="MLflow",
                cure="restore it there, or name another as `[mlflow] experiment`",
            )
        return str(known.experiment_id)

    def _registered_model(self, client: MlflowClient, name: str) -> None:
        known = [each for each in client.search_registered_models(f"name = '{name}'") if each.name == name]
        if not known:
            client.create_registered_model(name, tags=self._owner)
            return
        theirs = {key: known[0].tags[key] for key in self._owner if key in known[0].tags}
        if theirs and theirs != self._owner:
            raise Conflict(
                f"registered model {name} belongs to {' / '.join(theirs.values())}",
                where="MLflow",
                cure="use another server, or another name for the model",
            )
        for key, value in self._owner.items():  # made by hand before us: from now on ours
            client.set_registered_model_tag(name, key, value)

    def _versions(self, client: MlflowClient, name: str) -> dict[int, MlflowVersion]:
        """What is mirrored, by our own number."""
        found: dict[int, MlflowVersion] = {}
        token: str | None = None
        while token != "":
            page = client.search_model_versions(f"name = '{name}'", max_results=_PAGE, page_token=token)
            for each in page:
                number = each.tags.get("ecluse.version", "")
                ours = all(each.tags.get(key) == value for key, value in self._owner.items())
                if ours and number.isdecimal():
                    found[int(number)] = each
            token = page.token or ""
        return found

    # ------------------------------------------------------------ asking

    @functools.cached_property
    def _client(self) -> MlflowClient:
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        try:
            from mlflow import MlflowClient
        except ImportError as error:
            raise Unavailable(f"MLflow is not installed: {error}", cure="pip install 'ecluse[mlflow]'") from error
        logging.getLogger("alembic").setLevel(logging.WARNING)
        return MlflowClient(tracking_uri=self._uri, registry_uri=self._uri)

    @contextlib.contextmanager
    def _asking(self) -> Iterator[MlflowClient]:
        """The client, alone on this machine; whatever goes wrong within becomes an error of ours."""
        make_directory(self._home)
        with locked(self._home / "mlflow.lock"):
            try:
                yield self._client
            except EcluseError:
                raise
            except Exception as error:  # MLflow, SQLAlchemy and requests share no base class
                raise self._problem(error) from error
            if self._embedded and not self._database.exists():
                # MLflow holds the deleted file open: what was written there is gone with this process
                cure = "nothing is lost: run `ecluse mirror` in a new process"
                raise Unavailable("the mirror was deleted while in use", where=str(self._database), cure=cure)

    def _problem(self, error: Exception) -> EcluseError:
        where = _without_password(self._uri)
        what = _without_password(f"MLflow: {type(error).__name__}: {str(error)[:300]}")
        code = getattr(error, "error_code", "")
        if code in _OURS:
            return InvalidInput(what, where=where, cure="see what MLflow says against it")
        if code == "RESOURCE_DOES_NOT_EXIST":
            return NotFound(what, where=where, cure="restore it in MLflow, or delete the mirror: it is written anew")
        if code in ("PERMISSION_DENIED", "UNAUTHENTICATED"):
            cure = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
            return NotAllowed(what, where=where, cure=cure)
        return Unavailable(what, where=where, cure="nothing is lost: run `ecluse mirror` once it answers again")


def _log(
    client: MlflowClient, run_id: str, parameters: Mapping[str, str], metrics: Mapping[str, float], end: int
) -> None:
    """Parameters and metrics of a run, and that it is whole."""
    from mlflow.entities import Metric, Param

    values = [Metric(name, value, end, 0) for name, value in metrics.items()]
    texts = [Param(name, value) for name, value in parameters.items()]
    for first in range(0, max(len(texts), len(values)), _BATCH):
        some = slice(first, first + _BATCH)
        client.log_batch(run_id, values[some], texts[some])
    client.set_terminated(run_id, "FINISHED", end)  # last: it says that the rest is there


def _save_model(folder: Path, bundle_directory: Path) -> None:
    """Write the bundle as an MLflow model that our loader opens."""
    import mlflow.pyfunc

    bundle = BundlesFiles(bundle_directory.parent).get(bundle_directory.name)
    extras = "serve" if bundle.manifest.scorer == "onnx" else "serve,train"
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # MLflow asks for an input example; the signature is given, not guessed from one
        mlflow.pyfunc.save_model(
            path=str(folder),
            loader_module=LOADER,
            data_path=str(bundle_directory),
            pip_requirements=[
                f"ecluse[{extras}]=={importlib.metadata.version('ecluse')}",
                f"mlflow-skinny=={importlib.metadata.version('mlflow-skinny')}",
            ],
            signature=_signature(bundle.schema),
            metadata={"ecluse.bundle": bundle.digest, "ecluse.classes": list(bundle.schema.classes)},
        )


def _signature(schema: Schema) -> Any:
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, TensorSpec
    from mlflow.types import Schema as Columns
    from mlflow.types.schema import AnyType

    untyped = AnyType()  # type: ignore[no-untyped-call]
    inputs: list[ColSpec | TensorSpec] = [
        ColSpec(untyped if kind == "any" else kind, name, required)
        for name, (kind, required) in model_inputs(schema).items()
    ]
    shape = (-1, len(schema.classes)) if schema.task == "multiclass" else (-1,)
    return ModelSignature(Columns(inputs), Columns([TensorSpec(np.dtype("float64"), shape)]))


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """A folder of our own that goes away again."""
    with tempfile.TemporaryDirectory(prefix="ecluse-") as name:
        yield Path(name)


def _without_password(text: str) -> str:
    return re.sub(r"://[^/@\s]+@", "://", text)
