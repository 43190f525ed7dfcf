"""A project that runs by itself: ``ecluse up`` as users start it, its log, its ledger; for the acceptance test and the benchmark."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecluse.adapters.server_client import call
from ecluse.app import App, open_app
from ecluse.core.errors import EcluseError
from ecluse.core.event import LedgerRow
from ecluse.demo.server import free_port

PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class Standing:
    """A project under ``ecluse up``."""

    app: App
    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def rows(self, *kinds: str) -> list[LedgerRow]:
        """The ledger's rows of these kinds (all)."""
        return [row for row in self.app.world.state.ledger() if not kinds or row.event.kind in kinds]

    def wait(self, what: str, condition: Callable[[], Any], seconds: float = PATIENCE_SECONDS) -> Any:
        """Until it is true; what it returned. Raises AssertionError with the log."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.process.poll() is None:
            with contextlib.suppress(EcluseError):
                if found := condition():
                    return found
            time.sleep(0.02)
        said = "\n".join(f"{row.event.kind} {row.event.reason}" for row in self.rows())
        raise AssertionError(f"{what} did not come\n{said}\n{self.log.read_text()}")

    def said(self) -> list[dict[str, Any]]:
        """The log's lines; every one is JSON."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def serving(self, model: str) -> int | None:
        """The version that answers now."""
        found = call(self.url, "/models")["models"].get(model, {}).get("serving")
        return None if found is None else int(found)

    def cpu(self, part: str = "") -> float:
        """CPU seconds of everything under it so far, what has ended included; or of the part whose command line holds this text."""
        roots = (pid for pid in _tree(self.process.pid)[1:] if part in _command(pid))
        root = next(roots) if part else self.process.pid
        total = 0
        for pid in _tree(root):
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                total += sum(int(each) for each in fields[11:15])
        return total / os.sysconf("SC_CLK_TCK")

    def children(self) -> dict[int, str]:
        """Process id -> command line of everything in the sessions of its parts, and of itself."""
        parts = _tree(self.process.pid)
        return {pid: _command(pid) for pid in parts}


@contextmanager
def standing(root: Path, environment: Mapping[str, str]) -> Iterator[Standing]:
    """``ecluse up`` over the project in ``root``, stopped by SIGTERM at the end."""
    port = free_port()
    log = root.parent / f"{root.name}.log"
    command = [sys.executable, "-m", "ecluse", "up", "--project", str(root), "--port", str(port), "--json"]
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=os.environ | environment)
    try:
        yield Standing(open_app(root), f"http://127.0.0.1:{port}", process, log)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            raise


def drop(folder: Path, source: Path, name: str = "") -> None:
    """Let a folder arrive (under a name) as one piece: written beside under a name nobody looks at, then renamed."""
    folder.mkdir(exist_ok=True)
    hidden = folder / f".{source.name}"
    shutil.copytree(source, hidden)
    hidden.rename(folder / (name or source.name))


def _tree(root: int) -> list[int]:
    """The process and its descendants."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ProcessLookupError):
            fields = stat.read_text().rpartition(")")[2].split()
            parents.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found, new = [root], [root]
    while new:
        new = [child for pid in new for child in parents.get(pid, ())]
        found += new
    return found


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""
