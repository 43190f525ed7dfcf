"""A server process of a project, for the demo and for tests: started, asked, waited for, stopped."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecluse.adapters.server_client import call
from ecluse.app import App
from ecluse.core.errors import EcluseError

PATIENCE_SECONDS = 30.0


@dataclass(frozen=True)
class Server:
    """A running worker of a project and its address."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    @classmethod
    def start(cls, app: App, port: int) -> Server:
        """Start the project's worker and wait until it is ready. Raises AssertionError with its log when it is not."""
        url, command = app.worker_command(port=port)
        log = app.home / "server.log"
        with log.open("ab") as out:
            process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, cwd=app.root)
        server = cls(url, process, log)
        server._until(lambda: call(url, "/ready") is not None)
        return server

    def ask(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """One prediction."""
        return call(self.url, "/predict", fields)

    def wait_for_version(self, version: int) -> float:
        """Seconds until the server says that ``version`` answers."""
        began = time.monotonic()
        self._until(lambda: any(model["serving"] == version for model in call(self.url, "/models")["models"].values()))
        return time.monotonic() - began

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def _until(self, condition: Any) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                if condition():
                    return
            except EcluseError:
                pass
            time.sleep(0.02)
        raise AssertionError(f"the server is not ready: {self.log.read_text(errors='replace')[-800:]}")


def free_port() -> int:
    """A port nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
