"""`ecluse control serve` as a process: it listens, knows keys, follows their end, says where it is, and stops cleanly."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import ROOT
from tests.loop.worlds import candidate

from ecluse.app import App, open_app
from ecluse.core.errors import InvalidInput, Unavailable
from ecluse.loop.keys import add_key, revoke_key
from ecluse.web.listen import bind

MODEL = "left"
WHY = {"why": "read the report"}


@dataclass(frozen=True)
class Served:
    app: App
    port: int
    process: subprocess.Popen[str]

    def ask(self, method: str, path: str, key: str = "", body: object = None) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        with connection.getresponse() as response:
            answer = json.loads(response.read())
        connection.close()
        return response.status, answer


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    root = Path(shutil.copytree(ROOT / "tests/projects/small", tmp_path / "small"))
    (root / "ecluse.toml").write_text('[policy]\npromotion = "approval"\n')
    app = open_app(root)
    assert app.project.models
    command = [sys.executable, "-m", "ecluse", "control", "serve", "--port", "0", "-C", str(root)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        found = re.search(r"http://127\.0\.0\.1:(\d+)", process.stderr.readline())
        try:
            assert found, process.stderr.read()
            yield Served(app, int(found[1]), process)
        finally:
            process.kill()


def test_it_decides_over_http_in_the_name_of_a_key_and_stops_cleanly(served: Served) -> None:
    world, settings = served.app.world, served.app.settings
    candidate(world, "a", MODEL)
    bob, _ = add_key(world, settings, "bob", ("approve", "operate", "read"), None, actor="ana")
    assert served.ask("GET", "/health") == (200, {"status": "ok"})
    assert served.ask("GET", "/v1/models")[0] == 401
    assert served.ask("GET", "/v1/status", bob)[1]["models"][0]["model"] == MODEL
    one = f"/v1/models/{MODEL}/versions/1"
    assert served.ask("POST", f"{one}/promote", bob, WHY)[0] == 403
    assert served.ask("POST", f"{one}/approve", bob, WHY)[1]["missing"] == 0
    assert served.ask("POST", f"{one}/promote", bob, WHY)[1]["champion"] == 1
    actors = [(row.event.kind, row.event.actor) for row in world.state.ledger()][-3:]
    assert actors == [("release.refused", "bob"), ("version.approved", "bob"), ("version.promoted", "bob")]
    revoke_key(world, settings, "bob", timedelta(0), reason="left", actor="ana")
    assert served.ask("GET", "/v1/models", bob)[0] == 401
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(15) == 0


def test_an_address_in_use_is_told() -> None:
    taken = bind("127.0.0.1", 0)
    try:
        with pytest.raises(Unavailable, match="cannot be bound"):
            bind("127.0.0.1", taken.getsockname()[1])
    finally:
        taken.close()


@pytest.mark.parametrize("port", [-1, 65_536, 99_999, 2**70])
def test_a_port_that_is_none_is_told(port: int) -> None:
    with pytest.raises(InvalidInput, match="65535"):
        bind("127.0.0.1", port)
