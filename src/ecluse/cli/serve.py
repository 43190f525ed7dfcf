"""Commands about serving: serve, predict, score."""

from __future__ import annotations

import io
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from ecluse.cli.console import Argument, Group, Option, Reply, Shell, table
from ecluse.cli.models import ModelName
from ecluse.core.errors import InvalidInput

if TYPE_CHECKING:
    import polars as pl

_SCALAR = re.compile(r"true|false|null|-?(0|[1-9]\d*)(\.\d+)?")  # what else is typed is text: 0123 is no number


def serve(
    shell: Shell,
    *,
    host: Annotated[str | None, Option("--host", help="address to bind (ecluse.toml)")] = None,
    port: Annotated[int | None, Option("--port", help="port to bind (ecluse.toml)")] = None,
    workers: Annotated[int | None, Option("--workers", help="processes on that port (ecluse.toml)")] = None,
) -> Reply:
    """Serve the champions over HTTP until SIGTERM; follows promotions and rollbacks without a restart."""
    address, command = shell.app.worker_command(host=host, port=port, workers=workers)
    shell.say(f"serving {shell.app.settings.project} on {address} (stop with Ctrl-C)")
    os.execv(command[0], command)  # noqa: S606 - the worker replaces this process, so that it holds none of the terminal's libraries


def predict(
    shell: Shell,
    *,
    values: Annotated[list[str], Argument(help="the request's fields as name=value, or one JSON object")],
    model: ModelName = None,
    url: Annotated[str | None, Option("--url", help="the server (the project's own)")] = None,
) -> Reply:
    """Ask the running server: `ecluse predict user_id=7590-VHVEG`."""
    answer = shell.app.ask(_fields(values), model=model, url=url)
    return Reply(
        answer,
        "\n".join(
            f"{key:<14} {json.dumps(value) if isinstance(value, dict | list) else value}"
            for key, value in answer.items()
        ),
    )


def _fields(values: list[str]) -> dict[str, Any]:
    if len(values) == 1 and values[0].lstrip().startswith("{"):
        try:
            parsed = json.loads(values[0])
        except ValueError as error:
            raise InvalidInput(f"not JSON: {error}", cure="write name=value, or one JSON object in quotes") from None
        assert isinstance(parsed, dict)
        return parsed
    fields: dict[str, Any] = {}
    for text in values:
        name, equals, value = text.partition("=")
        if not equals:
            raise InvalidInput(f"{text!r} is no field", cure="write name=value, or one JSON object in quotes")
        fields[name] = json.loads(value) if _SCALAR.fullmatch(value) else value
    return fields


def score(
    shell: Shell,
    *,
    model: ModelName = None,
    version: Annotated[int | None, Option("--version", help="score with this version (the champion)")] = None,
    out: Annotated[Path | None, Option("--out", help="write all rows to this .csv or .parquet file")] = None,
    top: Annotated[int, Option("--top", "-n", min=0, help="how many to show")] = 20,
) -> Reply:
    """Rank every entity known now with the scorer that serves."""
    if out is not None and out.suffix not in (".csv", ".parquet"):
        raise InvalidInput(f"--out {out}", cure="end the name with .csv or .parquet")
    scored = shell.app.score(shell.model(model), version)
    frame = scored.frame
    if out is not None:
        _write(frame, out)
    text = table(frame.columns, frame.head(top).rows())
    text += f"\n\n{frame.height:,} scored by version {scored.version}" + (f", written to {out}" if out else "")
    text += "".join(f"\n{count:,} left out: no live row in view {view}" for view, count in scored.left_out.items())
    data = {
        "version": scored.version,
        "scored": frame.height,
        "left_out": scored.left_out,
        "top": frame.head(top).to_dicts(),
    }
    return Reply(data, text)


def _write(frame: pl.DataFrame, out: Path) -> None:
    """The whole file or none: who reads it while it is made finds the one before."""
    from ecluse.adapters.files import disk, write_atomic

    data = io.BytesIO()
    _ = frame.write_csv(data) if out.suffix == ".csv" else frame.write_parquet(data)
    with disk(out.parent):
        out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(out, data.getvalue())


def register(app: Group) -> None:
    """Add these commands."""
    for command in (serve, predict, score):
        app.add(command)
