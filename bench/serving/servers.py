"""Every server of the comparison: how its environment is built, how it is started, what it is asked and what its answer means."""

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
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.serving.churn import Churn
from bench.serving.load import Target, ask_all, pinned
from bench.serving.ours import make_home

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SERVER_CPU = 0
SAME = ("joblib", "numpy", "scikit-learn")
"""Installed in a peer's environment in the versions the model was made with."""

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
    path: str = "/predict"
    shown: Sequence[str] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    prepare: str = ""
    """A script of this folder run in the peer's environment before it is started, with the model's folder and ``<model>/<name>``."""


def _peer_asgi(module: str) -> Callable[[Path, Path, int], list[str]]:
    def command(place: Path, model: Path, port: int) -> list[str]:
        return [
            *(str(place / "bin" / "python"), "-m", "uvicorn", "--app-dir", str(HERE), f"{module}:app"),
            *("--port", str(port), "--no-access-log"),
        ]

    return command


def _mlflow(place: Path, model: Path, port: int) -> list[str]:
    program = [str(place / "bin" / "mlflow"), "models", "serve", "-m", str(model / "mlflow")]
    return [*program, "--env-manager", "local", "--port", str(port)]


_FASTAPI = ("fastapi", "uvicorn", "uvloop", "httptools")
PEERS = (
    Server(
        "fastapi",
        "FastAPI tutorial (pydantic, pandas, scikit-learn)",
        _peer_asgi("peer_fastapi"),
        dict,
        lambda answer: float(answer["proba"]),
        packages=(*_FASTAPI, "pandas"),
        shown=("fastapi", "uvicorn", "pandas", "scikit-learn"),
    ),
    Server(
        "fastapi-onnx",
        "FastAPI, pydantic, onnxruntime (our compiled model)",
        _peer_asgi("peer_fastapi_onnx"),
        dict,
        lambda answer: float(answer["proba"]),
        packages=(*_FASTAPI, "onnxruntime"),
        shown=("fastapi", "uvicorn", "onnxruntime"),
    ),
    Server(
        "mlflow",
        "mlflow models serve",
        _mlflow,
        lambda row: {"dataframe_records": [row]},
        lambda answer: float(answer["predictions"][0][1]),
        packages=("mlflow>=3.17,<3.18", "pandas", "fastapi", "uvicorn"),
        path="/invocations",
        shown=("mlflow", "uvicorn", "scikit-learn"),
        prepare="peer_mlflow.py",
    ),
)


def static() -> Server:
    """The limit: the same HTTP server, an answer made beforehand."""
    return Server(
        "static",
        "*limit:* static answer, bare ASGI on the same uvicorn",
        lambda place, model, port: [sys.executable, "-m", "bench.serving.static_app", "--port", str(port)],
        lambda row: {"features": row},
        None,
        shown=("uvicorn", "uvloop", "httptools"),
    )


def ours(home: Path, churn: Churn) -> Server:
    """Écluse, with a new home."""
    key = make_home(home, churn)
    settings = json.dumps({"durability": "process"})
    program = [sys.executable, "-m", "ecluse.worker", "--home", str(home), "--serving", settings]
    return Server(
        "ecluse",
        "**Écluse** (key, contract, journal)",
        lambda place, model, port: [*program, "--log-level", "warning", "--port", str(port)],
        lambda row: {"features": row},
        lambda answer: float(answer["proba"]),
        shown=("ecluse", "uvicorn", "onnxruntime"),
        headers={"Authorization": f"Bearer {key}"},
    )


def place_of(server: Server, cache: Path) -> Path:
    """The peer's own virtual environment, built on first use with the versions the model was made with."""
    place = cache / f"peer-{server.name}"
    if not server.packages or (place / "built").exists():
        return place
    same = [f"{name}=={version(name)}" for name in SAME]
    subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
    command = [str(place / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*command, *same, *server.packages], check=True)
    (place / "built").touch()
    return place


def versions(server: Server, place: Path) -> str:
    """The packages that matter, as installed where the server runs."""
    python = str(place / "bin" / "python") if server.packages else sys.executable
    code = "import sys; from importlib.metadata import version; print(', '.join(f'{n} {version(n)}' for n in sys.argv[1:]))"
    return subprocess.run(
        [python, "-c", code, *server.shown], check=True, capture_output=True, text=True
    ).stdout.strip()


@contextlib.contextmanager
def started(server: Server, churn: Churn, model: Path, place: Path) -> Iterator[tuple[Target, int]]:
    """The running server, its answers to all rows checked against scikit-learn, and its pid. Raises ValueError when one is wrong."""
    if server.prepare and not (model / server.name).exists():
        python = str(place / "bin" / "python")
        subprocess.run([python, str(HERE / server.prepare), str(model), str(model / server.name)], check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    target = Target(
        port,
        server.path,
        {"Content-Type": "application/json", **server.headers},
        [json.dumps(server.body(row)) for row in churn.rows],
    )
    log = model / f"{server.name}.log"
    path = f"{place / 'bin'}:{os.environ['PATH']}" if server.packages else os.environ["PATH"]
    environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", "BENCH_MODEL": str(model)}
    with log.open("w") as stream:
        process = subprocess.Popen(
            [*pinned(SERVER_CPU), *server.command(place, model, port)],
            cwd=model if server.packages else ROOT,
            stdout=stream,
            stderr=stream,
            env=environment,
            start_new_session=True,
        )
    try:
        check(server, churn, _first_answers(target, process, log))
        yield target, process.pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def check(server: Server, churn: Churn, answers: Sequence[Any]) -> None:
    """Raises ValueError unless every answer is scikit-learn's."""
    if server.read is None:
        return
    worst = max(abs(server.read(answer) - right) for answer, right in zip(answers, churn.answers, strict=True))
    if worst > 1e-12:
        raise ValueError(f"{server.name} answers differ from scikit-learn by up to {worst}")


def _first_answers(target: Target, process: subprocess.Popen[bytes], log: Path) -> list[Any]:
    end = time.monotonic() + 120
    while True:
        try:
            return ask_all(target)
        except (OSError, ValueError) as error:
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"no answers: {error}; its log: {log.read_text()[-1_500:]}") from error
        time.sleep(0.1)
