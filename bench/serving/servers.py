"""A server of the comparison: how its environment is built, how it is started, checked and ended; ours and the static limit."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from http.client import HTTPException
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.serving.churn import Churn
from bench.serving.load import Target, ask_all, family, pinned, stat_of

from ecluse.core.settings import Stores

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SERVER_CPU = 0
SAME = ("joblib", "numpy", "scikit-learn")
"""Installed in a peer's environment in the versions the model was made with."""
START_SECONDS = 120.0

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Server:
    """One server. ``command`` gets the place, the folder of the model and the port; ``read`` gives the probability in an answer."""

    name: str
    title: str
    command: Callable[[Path, Path, int], list[str]]
    body: Callable[[Row], Any]
    read: Callable[[Any], float] | None
    packages: Sequence[str] = ()
    """What its own virtual environment holds; none: it runs in ours."""
    path: str = "/predict"
    shown: Sequence[str] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    prepare: str = ""
    """A script of this folder run in the peer's environment before it is started, with the model's folder and ``<model>/<name>``."""
    venv: str = ""
    """Whose environment it runs in, if not one of its own name."""
    workers: int = 1


def static(*, uvicorn: bool = False) -> Server:
    """A limit: an answer made beforehand, on our own connection, or as a bare ASGI application on uvicorn."""
    command = [sys.executable, "-m", "bench.serving.static_app", *(["--uvicorn"] if uvicorn else [])]
    return Server(
        "static-uvicorn" if uvicorn else "static",
        "*limit:* static answer, bare ASGI on uvicorn" if uvicorn else "*limit:* static answer, on the same connection",
        lambda place, model, port: [*command, "--port", str(port)],
        lambda row: {"features": row},
        None,
        shown=("uvicorn", "uvloop", "httptools") if uvicorn else ("uvloop", "httptools"),
    )


def ours(
    home: Path,
    key: str,
    *,
    name: str = "ecluse",
    title: str = "**Écluse** (key, contract, journal)",
    body: Callable[[Row], Any] = lambda row: {"features": row},
    stores: Stores | None = None,
    **serving: Any,
) -> Server:
    """Écluse over a ready home (see ``ours.py``) and a key to it; ``serving`` are settings of its own."""
    settings = {"durability": "process", **serving}
    module = "ecluse.supervisor" if settings.get("workers", 1) > 1 else "ecluse.worker"
    more = ["--stores", json.dumps(asdict(stores))] if stores else []

    def command(place: Path, model: Path, port: int) -> list[str]:
        given = json.dumps({**settings, "port": port})
        program = [sys.executable, "-m", module, "--home", str(home), "--serving", given]
        return [*program, "--log-level", "warning", *more]

    return Server(
        name,
        title,
        command,
        body,
        lambda answer: float(answer["proba"]),
        shown=("ecluse", "uvicorn", "onnxruntime"),
        headers={"Authorization": f"Bearer {key}"},
        workers=settings.get("workers", 1),
    )


def place_of(server: Server, cache: Path) -> Path:
    """The virtual environment it runs in; a peer's own is built on first use with the versions the model was made with.

    Raises CalledProcessError when it cannot be built.
    """
    if not server.packages:
        return Path(sys.prefix)
    place = cache / f"peer-{server.venv or server.name}"
    if (place / "built").exists():
        return place
    same = [f"{name}=={version(name)}" for name in SAME]
    subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
    command = [str(place / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*command, *same, *server.packages], check=True)
    (place / "built").touch()
    return place


def versions(server: Server, place: Path) -> str:
    """The packages that matter, as installed where the server runs."""
    code = "import sys; from importlib.metadata import version; print(', '.join(f'{n} {version(n)}' for n in sys.argv[1:]))"
    made = subprocess.run([str(place / "bin" / "python"), "-c", code, *server.shown], capture_output=True, text=True)
    return made.stdout.strip()


def target_of(server: Server, port: int, rows: Sequence[Row]) -> Target:
    """Where and what it is asked."""
    headers = {"Content-Type": "application/json", **server.headers}
    return Target(port, server.path, headers, [json.dumps(server.body(row)) for row in rows])


def free_port() -> int:
    """One that nobody listens on at this moment."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextlib.contextmanager
def started(server: Server, churn: Churn, model: Path, place: Path) -> Iterator[tuple[Target, int]]:
    """The running server, its answers to all rows checked against scikit-learn, and its pid.

    Raises ValueError when an answer is wrong, RuntimeError when none comes, CalledProcessError when the peer cannot be prepared.
    """
    if server.prepare and not (model / server.name).exists():
        python = str(place / "bin" / "python")
        subprocess.run([python, str(HERE / server.prepare), str(model), str(model / server.name)], check=True)
    port = free_port()
    target = target_of(server, port, churn.rows)
    log = model / f"{server.name}.log"
    process = spawn(server, model, place, port, log)
    try:
        check(server, churn, _first_answers(target, process, log))
        yield target, process.pid
    finally:
        end(process)


def spawn(server: Server, model: Path, place: Path, port: int, log: Path) -> subprocess.Popen[bytes]:
    """Its process on the servers' CPU, first of a session, one thread a library."""
    path = f"{place / 'bin'}:{os.environ['PATH']}"
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
    with log.open("w") as stream:
        return subprocess.Popen(
            [*pinned(SERVER_CPU), *server.command(place, model, port)],
            cwd=model if server.packages else ROOT,
            stdout=stream,
            stderr=stream,
            env={**os.environ, **quiet, "PATH": path, "BENCH_MODEL": str(model)},
            start_new_session=True,
        )


def end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM to the first process, which may end the others; then an end of all its family: some peers leave workers behind."""
    before = family(process.pid)
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(15)
    for pid, stat in {**before, **family(process.pid)}.items():
        if (
            stat_of(Path(f"/proc/{pid}"))[19:20] == stat[19:20]
        ):  # the start: a number may have been given to another since
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    process.wait()


def check(server: Server, churn: Churn, answers: Sequence[Any]) -> None:
    """Raises ValueError unless every answer is scikit-learn's."""
    if server.read is None:
        return
    off = [abs(server.read(answer) - right) for answer, right in zip(answers, churn.answers, strict=True)]
    if not all(each <= 1e-12 for each in off):  # so that NaN is wrong too
        raise ValueError(f"{server.name} answers differ from scikit-learn by up to {max(off)}")


def _first_answers(target: Target, process: subprocess.Popen[bytes], log: Path) -> list[Any]:
    patience = time.monotonic() + START_SECONDS
    while True:
        try:
            return ask_all(target)
        except (OSError, ValueError, HTTPException) as error:
            if process.poll() is not None or time.monotonic() > patience:
                raise RuntimeError(f"no answers: {error}; its log: {log.read_text()[-1_500:]}") from error
        time.sleep(0.1)
