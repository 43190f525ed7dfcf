"""The mirror: what the authority changed is shown to the tracking store, after commit and off the way to a release.

The outbox says what changed; what is written is always the present state, so that applying a row twice, late or in another company changes
nothing. A store that was deleted is written anew.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from ecluse.core.codec import canonical
from ecluse.core.errors import EcluseError, NotFound, Unavailable
from ecluse.core.failpoint import failpoint
from ecluse.core.ports import State, Tracker, World
from ecluse.core.settings import Settings
from ecluse.core.version import ModelVersion, Run, Stage
from ecluse.loop.mirror_names import forget_altered, note_shown, tell_altered
from ecluse.loop.retrain import ARTIFACTS, COEFFICIENTS, after_release
from ecluse.loop.tune_mirror import mirror_tunings

T = TypeVar("T")
PROBLEM, REWRITING = "mirror.problem", "mirror.rewriting"

Change = tuple[str, str]
"""(kind, reference) of an outbox row."""


def mirror(world: World, settings: Settings) -> int:
    """Bring the tracking store up to date; returns how many changes were applied.

    A change that cannot be applied does not hold up those behind it: it stays in the outbox, its reason is kept (``mirror.problem`` of the
    state), and when the others are through it is raised. Raises Unavailable at once when the store does not answer; then everything not
    yet applied stays in the outbox.
    """
    tracker = world.tracker()
    if tracker is None:
        return 0
    pending = world.state.pending()
    rows: dict[Change, list[int]] = {}
    if anew := _is_to_be_rewritten(world.state, tracker):
        rows = {change: [] for change in everything(world.state)}
    for number, kind, reference in pending:
        ids = rows.pop((kind, reference), [])  # once, at its last place: a rollout comes after its versions
        rows[kind, reference] = [*ids, number]
    applied, problems = _apply_all(world, settings, tracker, rows)
    applied += mirror_tunings(world.state, tracker, anew=anew)
    _remember(world.state, PROBLEM, str(problems[0]) if problems else "")
    if problems:
        raise problems[0]
    _remember(world.state, REWRITING, "")
    for model in {each.model for each in world.state.versions()}:
        if ("rollout", model) not in rows:
            _restore_names(world, tracker, model)
    return applied


def everything(state: State) -> Iterator[Change]:
    """All there is to mirror, what is referred to before what refers to it."""
    versions = state.versions()
    yield from (("run", run.id) for run in state.runs())
    yield from (("version", _reference(each)) for each in versions)
    yield from (("report", _reference(each)) for each in versions)
    yield from (("rollout", model) for model in dict.fromkeys(each.model for each in versions))


def _is_to_be_rewritten(state: State, tracker: Tracker) -> bool:
    """Also when an earlier rewriting did not come to its end."""
    if state.meta(REWRITING):
        return True
    if not state.runs() or not tracker.empty():
        return False
    state.set_meta(REWRITING, "yes")
    return True


def _apply_all(
    world: World, settings: Settings, tracker: Tracker, rows: dict[Change, list[int]]
) -> tuple[int, list[EcluseError]]:
    applied, problems = 0, []
    for change, ids in rows.items():
        failpoint("mirror.begin")
        try:
            _apply(world, settings, tracker, change)
        except Unavailable as problem:
            _remember(world.state, PROBLEM, str(problem))
            raise
        except EcluseError as problem:
            problems.append(problem)
            continue
        failpoint("mirror.applied")
        for number in ids:
            world.state.done(number)
        failpoint("mirror.done")
        applied += max(1, len(ids))
    return applied, problems


def _apply(world: World, settings: Settings, tracker: Tracker, change: Change) -> None:
    kind, reference = change
    if kind == "run":
        run = world.state.run(reference)
        tracker.mirror_run(run, _artifacts(world, settings, run))
    elif kind == "rollout":
        _mirror_rollout(world, tracker, reference)
    elif kind in ("version", "report"):
        model, _, number = reference.rpartition("/")
        version = world.state.version(model, int(number))
        if not version.pruned:  # its bytes are gone, and with them what MLflow could load
            (_mirror_version if kind == "version" else _mirror_report)(world, tracker, version)
    else:
        raise NotFound(f"nothing is known of {kind!r} changes", where="outbox", cure="upgrade ecluse")


def _mirror_version(world: World, tracker: Tracker, version: ModelVersion) -> None:
    with _unpacked(world, version.bundle) as directory:
        tracker.mirror_version(version, world.state.run(version.run), directory)


def _mirror_report(world: World, tracker: Tracker, version: ModelVersion) -> None:
    report = world.state.report(version.model, version.number)
    if report is not None:
        _restoring(world, tracker, [version], lambda: tracker.mirror_report(report))


def _restore_names(world: World, tracker: Tracker, model: str) -> None:
    """An alias that somebody moved decides nothing: it is put back, and told."""
    champion = world.state.rollout(model).champion
    if champion is None:
        return
    named = _mirror_rollout(world, tracker, model)
    moved = any((kind, reference) == ("rollout", model) for _, kind, reference in world.state.pending())
    if named is not None and named != champion and not moved:
        tell_altered(world, model, champion, named)
    forget_altered(world.state, model)


def _mirror_rollout(world: World, tracker: Tracker, model: str) -> int | None:
    """The newest of several candidates gets the alias ``staging``. Returns whom ``production`` named before."""
    versions = {each.number: each for each in world.state.versions(model)}
    stages = {number: each.stage for number, each in versions.items()}
    staging = max((number for number, stage in stages.items() if stage is Stage.STAGING), default=None)
    champion = next((number for number, stage in stages.items() if stage is Stage.PRODUCTION), None)
    named = [versions[number] for number in (champion, staging) if number is not None]
    note_shown(world.state, model, None)
    before = _restoring(world, tracker, named, lambda: tracker.mirror_rollout(model, champion, staging, stages))
    note_shown(world.state, model, champion)
    return before


def _restoring(world: World, tracker: Tracker, versions: list[ModelVersion], write: Callable[[], T]) -> T:
    """Write; when somebody deleted a version it needs, mirror the versions again and write once more."""
    try:
        return write()
    except NotFound:
        for version in versions:
            _mirror_version(world, tracker, version)
        return write()


@contextlib.contextmanager
def _unpacked(world: World, digest: str) -> Iterator[Path]:
    """A bundle, every byte checked, as a folder named by its digest, wherever bundles are stored."""
    bundle = world.bundles.get(digest)
    with tempfile.TemporaryDirectory(prefix="ecluse-") as name:
        folder = Path(name, digest)
        folder.mkdir()
        for file, data in {**bundle.files, "manifest.json": canonical(bundle.manifest)}.items():
            (folder / file).write_bytes(data)
        yield folder


def _artifacts(world: World, settings: Settings, run: Run) -> dict[str, bytes]:
    """Plots and reports of a run, made now unless they lie there; none when the bundle is gone or damaged, which is others' to report."""
    found: dict[str, bytes] = {}
    with contextlib.suppress(EcluseError):
        found[COEFFICIENTS] = world.bundles.read_beside(run.bundle, COEFFICIENTS)
    try:
        listed = json.loads(world.bundles.read_beside(run.bundle, ARTIFACTS))["files"]
        return found | {name: world.bundles.read_beside(run.bundle, name) for name in listed}
    except NotFound:
        with contextlib.suppress(EcluseError):
            found |= after_release(world, settings, run)
        found.pop(ARTIFACTS, None)
        return found


def _remember(state: State, key: str, text: str) -> None:
    if (state.meta(key) or "") != text:
        state.set_meta(key, text)


def _reference(version: ModelVersion) -> str:
    return f"{version.model}/{version.number}"
