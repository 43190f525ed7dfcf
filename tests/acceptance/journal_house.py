"""What the durability tests share: a worker started with small segments (and a planted defect), traced or not, and who answered what."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.serving.house import House, Worker, environment

SCRIPT = Path(__file__).with_name("journal_worker.py")
BODIES = [{"user_id": f"u{i}", "gift": True} for i in range(10)]


def can_trace() -> bool:
    return shutil.which("strace") is not None and not _fails(
        ["strace", "--seccomp-bpf", "-f", "-o", os.devnull, "true"]
    )


def can_mount() -> bool:
    return os.geteuid() == 0 and shutil.which("unshare") is not None and not _fails(["unshare", "-m", "true"])


def _fails(command: Sequence[str]) -> bool:
    return subprocess.run(command, capture_output=True, timeout=60).returncode != 0


@contextlib.contextmanager
def working(
    house: House,
    *,
    defect: str = "none",
    segment_bytes: int = 1 << 26,
    trace: Path | None = None,
    inject: str = "",
    calls: str = "write,writev,sendmsg,sendto,fdatasync,fsync,openat",
    **serving: Any,
) -> Iterator[Worker]:
    """A ready worker; with ``trace`` under strace, whose log goes there. At the end it is stopped, however it was left."""
    settings = {"poll_ms": 50, "port": 0, "drain_seconds": 1.0, **serving}
    command = [sys.executable, str(SCRIPT), defect, str(segment_bytes), "--home", str(house.home)]
    command += ["--serving", json.dumps(settings)]
    if trace is not None:
        filters = ["-e", f"trace={calls}"] + (["-e", f"inject={inject}"] if inject else [])
        command = ["strace", "--seccomp-bpf", "-f", "-s", "1000000", "-o", str(trace), *filters, *command]
    lock = house.home / "serve.lock"
    lock.unlink(missing_ok=True)
    log = house.home.parent / f"worker-{time.monotonic_ns()}.log"
    with log.open("w") as stream:
        process = subprocess.Popen(command, stderr=stream, text=True, env=environment(), start_new_session=True)
    try:
        worker = Worker(process, _wait_for_url(lock, process, log), log)
        worker.wait("ready", lambda health: health["status"] == "ok")
        yield worker
    finally:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError, FileNotFoundError, ValueError):
                os.kill(pid_of(house), signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def pid_of(house: House) -> int:
    """The worker's own process, not its tracer's."""
    return int(json.loads((house.home / "serve.lock").read_text())["pid"])


def _wait_for_url(lock: Path, process: subprocess.Popen[str], log: Path) -> str:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if process.poll() is not None:
            raise AssertionError(f"the worker ended with {process.returncode}: {log.read_text()}")
        if lock.exists() and (text := lock.read_text()):
            return str(json.loads(text)["url"])
        time.sleep(0.01)
    process.kill()
    raise AssertionError(f"the worker did not start: {log.read_text()}")


@dataclass
class Client:
    """What callers were told: ids of predictions answered, in any order."""

    answered: list[str] = field(default_factory=list)

    def note(self, body: Any, answer: Any) -> None:
        self.answered.append(answer["prediction_id"])


# ---------------------------------------------------------------- what a trace says


@dataclass(frozen=True)
class SystemCall:
    """One call of a trace: the lines where it began and ended, its thread, and the text between the name and the result."""

    start: int
    end: int
    thread: str
    name: str
    arguments: str
    result: int

    @property
    def fd(self) -> str:
        return self.arguments.partition(",")[0].strip()


_BEGUN = re.compile(r"(\d+) +(\w+)\((.*) <unfinished \.\.\.>$")
_RESUMED = re.compile(r"(\d+) +<\.\.\. (\w+) resumed>(.*)\) += (-?\d+)")
_WHOLE = re.compile(r"(\d+) +(\w+)\((.*)\) += (-?\d+)")


def read_trace(path: Path) -> list[SystemCall]:
    """Every finished call, in the order in which they ended."""
    begun: dict[str, tuple[int, str]] = {}
    calls = []
    for number, line in enumerate(path.read_text(errors="replace").splitlines()):
        if match := _BEGUN.match(line):
            begun[match[1]] = (number, match[3])
        elif match := _RESUMED.match(line):
            start, arguments = begun.pop(match[1], (number, ""))
            calls.append(SystemCall(start, number, match[1], match[2], arguments + match[3], int(match[4])))
        elif match := _WHOLE.match(line):
            calls.append(SystemCall(number, number, match[1], match[2], match[3], int(match[4])))
    return calls


_KEPT = re.compile(r'\\"id\\":\\"([a-z0-9-]+-[0-9a-z]+-\d+)\\"')
_ANSWERED = re.compile(r'\\"prediction_id\\":\\"([a-z0-9-]+-[0-9a-z]+-\d+)\\"')
FRAME = '"EJ1\\n'


def answers_before_sync(calls: Sequence[SystemCall]) -> tuple[int, int]:
    """Answers seen, and those that began to leave before an fdatasync begun after their record's write had ended well."""
    written: dict[str, SystemCall] = {}
    covered: dict[str, int] = {}
    seen = early = 0
    for call in calls:
        if call.name == "write" and FRAME in call.arguments:
            written |= dict.fromkeys(_KEPT.findall(call.arguments), call)
        elif call.name == "fdatasync" and call.result == 0:
            for identity, write in written.items():
                if write.fd == call.fd and write.end < call.start:
                    covered.setdefault(identity, call.end)
            written = {identity: write for identity, write in written.items() if identity not in covered}
        elif call.name in ("write", "writev", "sendmsg", "sendto"):
            for identity in _ANSWERED.findall(call.arguments):
                seen += 1
                early += not (identity in covered and covered[identity] < call.start)
    return seen, early


def rollovers(calls: Sequence[SystemCall]) -> list[list[str]]:
    """For each new segment, what its thread did from its creation up to the first frame in it."""
    found = []
    for index, call in enumerate(calls):
        if call.name == "openat" and "O_EXCL" in call.arguments and ".seg" in call.arguments:
            own = [each for each in calls[index + 1 :] if each.thread == call.thread][:3]
            found.append([f"{each.name} {'frame' if FRAME in each.arguments else ''}".strip() for each in own])
    return found
