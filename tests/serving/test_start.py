"""How a worker starts: what it imports, when it refuses to, and who may call it."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tests.serving.house import House, environment, ready_house, running

from ecluse.core.access import SCOPES, KeyGrant, hash_key

BODIES = [{"user_id": f"u{i}", "gift": True} for i in range(10)]

# What a worker may load: our own, the standard library, and these.
ALLOWED = {
    "_cffi_backend", "_cython_3_3_0", "_openssl", "cython_runtime",  # parts of cryptography and uvloop
    "typing_extensions",  # cryptography's own need
    "cryptography", "httptools", "msgspec", "numpy", "onnxruntime", "prometheus_client", "uvloop",
}  # fmt: skip

LOADED = """
import asyncio, json, sys
from pathlib import Path
from ecluse.core.settings import Serving
from ecluse.serving.http import Application
from ecluse.worker import compose

async def main():
    plane = compose(Path(sys.argv[1]), Serving(), profile="dev", worker="imports")
    await plane.load()
    body = json.dumps({"user_id": "u1", "gift": True}).encode()
    application = Application(plane)
    for method, path in (("POST", "/predict"), ("GET", "/metrics")):
        call = application.open(method, path, {b"host": b"localhost"})
        application.enter(call)
        call.body = body
        reply = await application.answer(call)
        assert reply.status == 200, reply
    plane.parts.journal.close()

import ecluse.serving.server
asyncio.run(main())
print(json.dumps(sorted(sys.modules)))
"""


@pytest.fixture
def house(tmp_path: Path) -> House:
    return ready_house(tmp_path)


def refuses(house: House, *arguments: str) -> tuple[int, str]:
    """Exit code and message of a worker that does not start."""
    command = [sys.executable, "-m", "ecluse.worker", "--home", str(house.home), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, env=environment())
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


def test_a_worker_that_predicts_has_loaded_only_what_the_list_allows(house: House) -> None:
    done = subprocess.run([sys.executable, "-c", LOADED, str(house.home)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    loaded = json.loads(done.stdout.splitlines()[-1])
    strangers = (
        {name.partition(".")[0] for name in loaded}
        - set(sys.stdlib_module_names)
        - ALLOWED
        - {"ecluse", "__main__", "__mp_main__"}
    )
    # an editable install leaves its own finders behind
    assert not {
        name
        for name in strangers
        if not name.startswith(("_distutils_hack", "_sysconfigdata", "_virtualenv", "__editable__", "_editable"))
    }
    ours = {".".join(name.split(".")[:2]) for name in loaded if name.startswith("ecluse.")}
    assert ours == {"ecluse.adapters", "ecluse.core", "ecluse.features", "ecluse.serving", "ecluse.worker"}


def test_a_port_in_use(house: House) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        code, message = refuses(house, "--port", port)
    assert code == 5
    assert port in message
    assert "--port" in message


def test_a_second_server_on_the_same_project(house: House) -> None:
    with running(house) as worker:
        code, message = refuses(house, "--port", "0")
        assert code == 5
        assert worker.url in message
        assert worker.predict()[0] == 200
    with running(house) as worker:
        assert worker.predict()[0] == 200, "the lock went with its holder"


def test_no_home_and_no_key(house: House, tmp_path: Path) -> None:
    code, message = refuses(House(tmp_path / "nowhere", house.sealer), "--port", "0")
    assert (code, "init" in message) == (4, True)
    assert refuses(house, "--serving", '{"prot": 1}')[0] == 2
    assert refuses(house, "--serving", "{")[0] == 2
    (house.home / "keys" / "sealing.key").unlink()
    assert refuses(house, "--port", "0")[0] == 4


def test_the_public_key_is_enough(house: House) -> None:
    (house.home / "keys" / "sealing.key").unlink()
    with running(house, "--trusted-key", house.sealer.public_key) as worker:
        assert worker.predict()[0] == 200
    (house.home / "keys" / "sealing.pub").write_text(house.sealer.public_key)
    with running(house) as worker:
        assert worker.predict()[0] == 200


def test_outside_dev_a_key_is_needed(house: House) -> None:
    code, message = refuses(house, "--port", "0", "--profile", "prod")
    assert code == 5
    assert "keys add" in message


def test_keys(house: House) -> None:
    first, second = ("first-key", "second-key")
    house.keys = (KeyGrant("one", hash_key(first), tuple(SCOPES)),)
    house.publish(1)
    body = BODIES[1]
    with running(house, "--profile", "prod") as worker:
        for shown in (
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": f"Basic {first}"},
            {"Authorization": "Bearer "},
        ):
            status, headers, answer = worker.call("POST", "/predict", body, shown)
            assert (status, answer["code"], headers["www-authenticate"]) == (401, "unauthorized", "Bearer")
        for path in ("/metrics", "/models"):
            assert worker.call("GET", path)[0] == 401
        for path in ("/health", "/ready"):
            assert worker.call("GET", path)[0] == 200
        assert worker.call("POST", "/predict", body, {"Authorization": f"Bearer {first}"})[0] == 200
        house.keys = (KeyGrant("two", hash_key(second), tuple(SCOPES)),)
        house.publish(1)
        worker.wait("the new keys", lambda health: health["generation"] == house.generation)
        assert worker.call("POST", "/predict", body, {"Authorization": f"Bearer {first}"})[0] == 401, "revoked"
        assert worker.call("POST", "/predict", body, {"Authorization": f"Bearer {second}"})[0] == 200
        assert first not in worker.log.read_text() + str(house.records())
