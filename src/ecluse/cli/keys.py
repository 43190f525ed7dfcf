"""Commands about API keys: keys add, keys list, keys revoke."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from ecluse.cli.console import Argument, Group, Option, Reply, Shell, table
from ecluse.core.access import SCOPES, KeyGrant
from ecluse.core.instants import format_instant, parse_duration

Name = Annotated[str, Argument(help="the key's name, once and for all")]


def add(
    shell: Shell,
    *,
    name: Name,
    scope: Annotated[list[str] | None, Option("--scope", help="may be given again: " + ", ".join(SCOPES))] = None,
    expires: Annotated[str | None, Option("--expires", help='lifetime, such as "90d" (none)')] = None,
) -> Reply:
    """Make an API key; it is shown this once. Without --scope it may ask for predictions."""
    from ecluse.loop.keys import add_key

    lifetime = parse_duration(expires, where="--expires") if expires else None
    key, grant = add_key(
        shell.app.world, shell.app.settings, name, tuple(scope or ("predict",)), lifetime, actor=shell.app.actor
    )
    text = f"{key}\n\n{name} may: {', '.join(grant.scopes)}; {_end(grant)}. Keep the key: it is stored nowhere."
    return Reply({"key": key, "name": name, "scopes": grant.scopes, "expires": grant.expires}, text)


def list_(shell: Shell) -> Reply:
    """Every key: name, scopes, until when, and the first of its hash."""
    from ecluse.loop.publish import grants as granted

    grants = granted(shell.app.world)
    rows = [(g.name, ", ".join(g.scopes), _end(g), g.sha256[:12]) for g in grants]
    return Reply(grants, table(["name", "scopes", "", "sha256"], rows) if grants else "no keys: `ecluse keys add NAME`")


def revoke(
    shell: Shell,
    *,
    name: Name,
    after: Annotated[str, Option("--after", help='let it live on for so long, such as "1h"')] = "0s",
    why: Annotated[str, Option("--why", help="the reason, for the ledger")] = "revoked",
) -> Reply:
    """End a key now, or after a while; running workers follow within seconds."""
    from ecluse.loop.keys import revoke_key

    app = shell.app
    grant = revoke_key(
        app.world, app.settings, name, parse_duration(after, where="--after"), reason=why, actor=app.actor
    )
    return Reply(grant, f"{name}: {_end(grant)}")


def _end(grant: KeyGrant) -> str:
    if grant.expires is None:
        return "never expires"
    lives = grant.lives(datetime.now(UTC))
    word = ("ends" if lives else "revoked") if grant.revoked else "expires" if lives else "expired"
    return f"{word} {format_instant(grant.expires.replace(microsecond=0))}"


def register(app: Group) -> None:
    """Add these commands."""
    keys = app.nest("keys", "API keys: who may call the server, and what for.")
    for command in (add, list_, revoke):
        keys.add(command)
