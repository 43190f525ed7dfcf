"""Commands of a project that runs by itself: up, backfill."""

from __future__ import annotations

import json
import os
import shutil
import sys
from typing import Annotated

from ecluse.cli.console import Group, Option, Reply, Shell, table
from ecluse.core.errors import NotFound
from ecluse.core.instants import format_instant, parse_instant

GRACE_SECONDS = 10.0


def up(
    shell: Shell,
    *,
    host: Annotated[str | None, Option("--host", help="address to bind (ecluse.toml)")] = None,
    port: Annotated[int | None, Option("--port", help="port to bind (ecluse.toml)")] = None,
    workers: Annotated[int | None, Option("--workers", help="processes on that port (ecluse.toml)")] = None,
    mlflow_port: Annotated[
        int | None, Option("--mlflow-port", min=1, max=65_535, help="also show the tracking mirror's page there")
    ] = None,
    control_port: Annotated[
        int | None, Option("--control-port", min=1, max=65_535, help="also answer the control API there")
    ] = None,
) -> Reply:
    """Serve, take what arrives, watch, retrain and release by policy, until SIGTERM: everything under one supervisor."""
    address, serving = shell.app.worker_command(host=host, port=port, workers=workers)
    settings, root = shell.app.settings, str(shell.app.root)
    loop = [sys.executable, "-m", "ecluse.resident", "--project", root, "--profile", settings.profile]
    parts = {"data plane": serving, "loop": loop}
    if mlflow_port is not None:
        parts["mlflow"] = _page(shell, mlflow_port)
    if control_port is not None:
        serve = ["control", "serve", "--port", str(control_port), "--project", root, "--profile", settings.profile]
        parts["control"] = [sys.executable, "-m", "ecluse", *serve]
    patience = settings.serving.drain_wait + 1.5 * settings.serving.drain_seconds + GRACE_SECONDS
    command = [sys.executable, "-m", "ecluse.up", "--home", str(shell.app.home), "--parts", json.dumps(parts)]
    command += ["--patience", str(patience), "--log-level", settings.log.level]
    shell.say(f"{settings.project} is up on {address} (stop with Ctrl-C)")
    os.execv(command[0], command)  # noqa: S606 - the supervisor replaces this process, so that it holds none of the terminal's libraries


def _page(shell: Shell, port: int) -> list[str]:
    """MLflow's own page over the mirror. Raises NotFound: the library Écluse writes with brings no page."""
    program = shutil.which("mlflow")
    if program is None:
        raise NotFound(
            "no program `mlflow`", where="--mlflow-port", cure="install MLflow whole, in an environment of its own"
        )
    store = shell.app.settings.mlflow.tracking_uri or f"sqlite:///{shell.app.home / 'mlflow.db'}"
    return [program, "ui", "--backend-store-uri", store, "--host", "127.0.0.1", "--port", str(port)]


def backfill(
    shell: Shell,
    *,
    from_: Annotated[str, Option("--from", help="the first moment: 2024-01-31 or an RFC 3339 instant")],
    to: Annotated[str, Option("--to", help="the last moment, inclusive")],
    view: Annotated[list[str] | None, Option("--view", help="only this view (may be repeated)")] = None,
) -> Reply:
    """Rebuild features as of every past snapshot in a span, out of what was known then; done again it changes nothing."""
    from ecluse.adapters.backfills_files import BackfillFiles
    from ecluse.loop.backfill import backfill

    app = shell.app
    folder = app.home / "features"
    begin, end = parse_instant(from_, where="--from"), parse_instant(to, where="--to")
    done = backfill(app.world, app.project, BackfillFiles(folder), begin, end, view or ())
    rows = [
        (each.view, format_instant(each.moment), each.rows if each.written else None, "" if each.written else "there")
        for each in done
    ]
    written = sum(each.written for each in done)
    text = table(["view", "as of", "rows", ""], rows) + f"\n\n{written} written under {folder}"
    return Reply({"folder": str(folder), "written": written, "features": done}, text)


def register(app: Group) -> None:
    """Add these commands."""
    for command in (up, backfill):
        app.add(command)
