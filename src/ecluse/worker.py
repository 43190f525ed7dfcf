"""Composition root of the data plane: ``python -m ecluse.worker --home .ecluse/dev``. One process, one event loop, one journal.

It stands on the files the control plane leaves in ``home`` (published document, bundles, online store) and on nothing else of it: no
database, no tracking server, no project code. It imports only what docs/serving.md lists.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ecluse.adapters.bundles_files import BundlesFiles
from ecluse.adapters.files import disk
from ecluse.adapters.journal_files import Journal
from ecluse.adapters.journal_group import GroupJournal, open_journal
from ecluse.adapters.log_lines import log_to_stderr
from ecluse.adapters.online import open_reads
from ecluse.adapters.publisher_files import FILE, PublisherFiles
from ecluse.adapters.scorer_onnx import OnnxScorer
from ecluse.adapters.scorer_skops import ProcessScorer
from ecluse.adapters.sealing import load_sealer, verify
from ecluse.adapters.serve_lock import FILE as LOCK
from ecluse.adapters.serve_lock import ServeLock
from ecluse.adapters.trials import Trials
from ecluse.adapters.wishes_files import DIRECTORY as WISHES
from ecluse.adapters.wishes_files import WishFiles
from ecluse.core.bundle import Bundle
from ecluse.core.codec import from_plain
from ecluse.core.document import Signed
from ecluse.core.errors import Corrupt, DeclarationError, EcluseError, NotAllowed, NotFound, Unavailable
from ecluse.core.ports import Scorer
from ecluse.core.settings import PROFILES, Serving, Stores
from ecluse.serving.board import Board
from ecluse.serving.http import Application
from ecluse.serving.listener import Place, bind, url_of
from ecluse.serving.metrics import Metrics
from ecluse.serving.plane import Parts, Plane
from ecluse.serving.published import Follower
from ecluse.serving.scorers import make_load
from ecluse.serving.server import serve

PUBLIC_KEY = "sealing.pub"
FILES = Stores()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a worker until SIGTERM. Returns the exit code; errors are one line on standard error."""
    given = _parse(arguments)
    log_to_stderr(given.log_level)
    try:
        serving, stores = _serving(given), from_plain(Stores, _json("--stores", given.stores), where="--stores")
        home, place = Path(given.home), Place.of(given.place) if given.place else None
        run(home, serving, stores, place, profile=given.profile, worker=given.worker, trusted_key=given.trusted_key)
    except EcluseError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0


def run(
    home: Path,
    serving: Serving,
    stores: Stores = FILES,
    place: Place | None = None,
    *,
    profile: str,
    worker: str = "w1",
    trusted_key: str = "",
) -> None:
    """Serve ``home`` until SIGTERM or SIGINT, alone or in a ``place`` that a supervisor has made.

    Raises Conflict (port in use, another server), NotAllowed (no API key), NotFound, Unavailable.
    """
    if not home.is_dir():
        raise NotFound(
            f"no state at {home}", cure="run `ecluse init` and `ecluse ingest` first, or name another --home"
        )
    lock = None if place else ServeLock.take(home / LOCK)  # a supervisor holds it for all
    listener = place.listener if place else bind(serving.host, serving.port)
    application = Application(compose(home, serving, stores, profile=profile, worker=worker, trusted_key=trusted_key))
    if place:
        application.plane.board = Board(home / "cache", worker)
    log = logging.getLogger("ecluse.serving")
    application.plane.log = lambda event, facts: log.info(event, extra={"facts": facts})

    def started() -> None:
        facts = {"url": url_of(listener), "pid": os.getpid(), "worker": worker}
        if lock:
            lock.tell(facts)
        log.info("listening", extra={"facts": facts})
        # what was imported stays: looking through all of it once in some 50,000 requests held every answer for 15 ms
        gc.collect()
        gc.freeze()

    try:
        serve(application, listener, started, place)
    finally:
        application.plane.parts.journal.close()
        if lock:
            lock.close()
    log.info("stopped", extra={"facts": {"worker": worker}})


def compose(
    home: Path, serving: Serving, stores: Stores = FILES, *, profile: str, worker: str, trusted_key: str = ""
) -> Plane:
    """The data plane over the adapters of ``home``. Raises NotAllowed, NotFound, Conflict, Unavailable."""
    published, kept = PublisherFiles(home), PublisherFiles(home / "cache" / worker)
    follower = Follower(
        stamp=lambda: _stamp(home / FILE),
        fetch=published.current,
        recall=_readable(kept.current),
        remember=kept.publish,
        verify=verify,
        trusted=(_trusted_key(home / "keys", trusted_key),),
    )
    follower.read()
    if profile != "dev" and not (follower.document and follower.document.keys):
        raise NotAllowed(
            f"profile {profile} has no API key",
            where="published document",
            cure=f"`ecluse keys add NAME --profile {profile}`",
        )
    journal = open_journal(home / "journal", worker, serving.durability)
    parts = Parts(
        online=open_reads(home, stores),
        journal=journal,
        follower=follower,
        load=make_load(
            BundlesFiles(home / "bundles"),
            verify,
            partial(open_scorer, megabytes=serving.model_mb),
            Trials(home / "cache" / "trials", serving.model_mb),
        ),
        wish=WishFiles(home / WISHES).put,
        probe_journal=lambda: _probe(journal, home / "journal" / worker / "probe"),
    )
    return Plane(parts, serving, profile=profile, metrics=Metrics(), worker=worker)


def open_scorer(bundle: Bundle, megabytes: int = Serving.model_mb) -> Scorer:
    """The scorer of a bundle: in this process when compiled, in one of its own otherwise. Raises Corrupt, Unsupported, Unavailable."""
    if bundle.manifest.scorer == "onnx":
        return OnnxScorer(bundle.model_bytes)
    return ProcessScorer(bundle, megabytes)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m ecluse.worker", description="Serve a project's published models over HTTP."
    )
    parser.add_argument("--home", required=True, help="the profile's state, such as .ecluse/dev")
    parser.add_argument("--profile", default="dev", choices=PROFILES)
    parser.add_argument("--serving", default="{}", help="the [serving] settings as JSON")
    parser.add_argument("--stores", default="{}", help="the [stores] settings as JSON")
    parser.add_argument("--host", default=None)
    parser.add_argument("--port", default=None, type=int, help="0: any free one (see serve.lock)")
    parser.add_argument("--worker", default="w1", help="name of this worker's journal")
    parser.add_argument("--trusted-key", default="", help="public key (hex) that signs the published document")
    parser.add_argument("--place", default="", help="set by the supervisor")
    parser.add_argument("--log-level", default="info", choices=("debug", "info", "warning", "error"))
    return parser.parse_args(arguments)


def _serving(given: argparse.Namespace) -> Serving:
    serving = from_plain(Serving, _json("--serving", given.serving), where="--serving")
    host, port = given.host or serving.host, serving.port if given.port is None else given.port
    return replace(serving, host=host, port=port)


def _json(option: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise DeclarationError(f"{option} is not JSON: {error}", cure="give one JSON object") from None


def _trusted_key(directory: Path, given: str) -> str:
    """The public key documents must be signed with: given, beside the private one, or derived from it."""
    if given:
        return given
    path = directory / PUBLIC_KEY
    try:
        return path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return load_sealer(directory, create=False).public_key
    except (OSError, UnicodeError) as error:
        raise Unavailable(f"{path.name} cannot be read: {error}", where=str(path), cure="give --trusted-key") from None


def _probe(journal: Journal | GroupJournal, path: Path) -> None:
    """Raises Unavailable when the journal has sealed itself, or its disk takes no byte."""
    if journal.refusal:
        raise Unavailable(f"journal: {journal.refusal}", cure="restart the worker")
    with disk(path):
        try:
            path.write_bytes(b"\n" * 4_096)
        finally:
            path.unlink(missing_ok=True)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _readable(recall: Callable[[], Signed | None]) -> Callable[[], Signed | None]:
    def read() -> Signed | None:
        try:
            return recall()
        except Corrupt:
            return None  # a damaged copy is no copy; the original is read next

    return read


if __name__ == "__main__":
    sys.exit(main())
