"""The peers: what each is built from, how it is started with its own defaults, what it is asked and what its answer means."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.serving.servers import HERE, Row, Server, free_port

Command = Callable[[Path, Path, int], list[str]]
_FASTAPI = ("fastapi", "uvicorn", "uvloop", "httptools")
_RAY_LIMIT = 100


def _uvicorn(module: str) -> Command:
    def command(place: Path, model: Path, port: int) -> list[str]:
        program = [str(place / "bin" / "python"), "-m", "uvicorn", "--app-dir", str(HERE), f"{module}:app"]
        return [*program, "--port", str(port), "--no-access-log"]

    return command


def _script(name: str, *more: str) -> Command:
    return lambda place, model, port: [str(place / "bin" / "python"), str(HERE / name), str(port), *more]


def _mlflow(place: Path, model: Path, port: int) -> list[str]:
    program = [str(place / "bin" / "mlflow"), "models", "serve", "-m", str(model / "mlflow")]
    return [*program, "--env-manager", "local", "--port", str(port)]


def _bentoml(place: Path, model: Path, port: int) -> list[str]:
    program = [
        "env",
        f"BENTOML_HOME={model / 'bentoml-home'}",
        "BENTOML_DO_NOT_TRACK=True",
        str(place / "bin" / "bentoml"),
    ]
    return [
        *program,
        "serve",
        "peer_bentoml:Churn",
        "--working-dir",
        str(HERE),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]


def _mlserver(place: Path, model: Path, port: int) -> list[str]:
    ports = {"HTTP": port, "GRPC": free_port(), "METRICS": free_port()}
    given = [f"MLSERVER_{kind}_PORT={number}" for kind, number in ports.items()]
    return ["env", "MLSERVER_HOST=127.0.0.1", *given, str(place / "bin" / "mlserver"), "start", str(model / "mlserver")]


def _proba(answer: Any) -> float:
    return float(answer["proba"])


def _in_tensors(row: Row) -> dict[str, Any]:
    """A row as the Open Inference Protocol has it: a tensor a column, to be read as a pandas frame."""
    return {
        "parameters": {"content_type": "pd"},
        "inputs": [
            {"name": name, "shape": [1], "data": [value]}
            | (
                {"datatype": "BYTES", "parameters": {"content_type": "str"}}
                if isinstance(value, str)
                else {"datatype": "FP64"}
            )
            for name, value in row.items()
        ],
        "outputs": [{"name": "predict_proba"}],
    }


def _fastapi_onnx(name: str, title: str, path: str) -> Server:
    return Server(
        name,
        f"FastAPI, pydantic, onnxruntime (our compiled model), {title}",
        _uvicorn("peer_fastapi_onnx"),
        dict,
        _proba,
        packages=(*_FASTAPI, "onnxruntime"),
        path=path,
        shown=("fastapi", "uvicorn", "onnxruntime"),
        venv="fastapi-onnx",
    )


def _ray(name: str, title: str, *limit: str) -> Server:
    return Server(
        name,
        f"Ray Serve, {title}",
        _script("peer_ray.py", *limit),
        dict,
        _proba,
        packages=("ray[serve]", "pandas"),
        shown=("ray", "scikit-learn"),
        venv="ray",
    )


PEERS = (
    Server(
        "fastapi",
        "FastAPI tutorial (pydantic, pandas, scikit-learn)",
        _uvicorn("peer_fastapi"),
        dict,
        _proba,
        packages=(*_FASTAPI, "pandas"),
        shown=("fastapi", "uvicorn", "pandas", "scikit-learn"),
    ),
    _fastapi_onnx("fastapi-onnx", "`async def`", "/predict"),
    _fastapi_onnx("fastapi-onnx-def", "`def` in its thread pool", "/predict/pool"),
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
    Server(
        "bentoml",
        "BentoML",
        _bentoml,
        lambda row: {"row": row},
        _proba,
        packages=("bentoml", "pandas"),
        shown=("bentoml", "pandas", "scikit-learn"),
    ),
    Server(
        "litserve",
        "LitServe",
        _script("peer_litserve.py"),
        dict,
        _proba,
        packages=("litserve", "pandas"),
        shown=("litserve", "pandas", "scikit-learn"),
    ),
    Server(
        "mlserver",
        "MLServer (scikit-learn runtime, Open Inference Protocol)",
        _mlserver,
        _in_tensors,
        lambda answer: float(answer["outputs"][0]["data"][1]),
        packages=(
            "mlserver",
            "mlserver-sklearn",
            "uvloop<0.22",
            "pandas",
        ),  # from 0.22 on its worker finds no event loop
        path="/v2/models/churn/infer",
        shown=("mlserver", "uvloop", "scikit-learn"),
        prepare="peer_mlserver.py",
    ),
    _ray("ray", "its defaults"),
    _ray("ray-100", f"max_ongoing_requests={_RAY_LIMIT}", str(_RAY_LIMIT)),
)
