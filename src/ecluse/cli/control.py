"""Commands about the control API: control serve."""

from __future__ import annotations

from typing import Annotated

from ecluse.cli.console import Group, Option, Reply, Shell
from ecluse.core.errors import NotFound


def serve(
    shell: Shell,
    *,
    host: Annotated[str | None, Option("--host", help="address to bind (ecluse.toml)")] = None,
    port: Annotated[int | None, Option("--port", help="port to bind (ecluse.toml)")] = None,
) -> Reply:
    """Answer the control API until SIGTERM: status, history, approvals, releases, the loop; in the name of API keys."""
    try:
        from ecluse.web.control import make_control
        from ecluse.web.listen import listen
    except ImportError as missing:
        what = f"the control API needs the library {missing.name}"
        raise NotFound(what, cure="install it: `pip install 'ecluse[control]'`") from None
    app, settings = shell.app, shell.app.settings.control
    address = settings.host if host is None else host
    control = make_control(app, address)
    listen(
        control,
        address,
        settings.port if port is None else port,
        settings.max_in_flight,
        lambda bound: shell.say(f"the control API of {app.settings.project} is on {bound} (stop with Ctrl-C)"),
    )
    return Reply({"stopped": True})


def register(app: Group) -> None:
    """Add these commands."""
    control = app.nest("control", "The control API: decisions over HTTP, in the name of API keys.")
    control.add(serve)
