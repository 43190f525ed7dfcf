"""A peer: Ray Serve over the scikit-learn pipeline, one replica on a Ray of its own. Run in the peer's environment until SIGTERM.

python peer_ray.py PORT [MAX_ONGOING_REQUESTS]
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import joblib
import pandas as pd
import ray
from ray import serve
from starlette.requests import Request


class Churn:
    """One row to one probability."""

    def __init__(self) -> None:
        self.model = joblib.load(Path(os.environ["BENCH_MODEL"]) / "model.joblib")

    async def __call__(self, request: Request) -> dict[str, float]:
        frame = pd.DataFrame([await request.json()])
        return {"proba": float(self.model.predict_proba(frame)[0, 1])}


def main() -> None:
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    options = {"max_ongoing_requests": int(sys.argv[2])} if len(sys.argv) > 2 else {}
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # short: it holds sockets, whose paths may have 107 characters
    try:
        # two CPUs to place actors by; which they run on is the caller's choice
        ray.init(
            address="local", num_cpus=2, object_store_memory=200_000_000, include_dashboard=False, _temp_dir=folder
        )
        serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
        serve.run(serve.deployment(**options)(Churn).bind(), route_prefix="/predict")
        signal.pause()
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
