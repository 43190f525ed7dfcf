"""A peer: LitServe over the scikit-learn pipeline, one worker process beside its HTTP process (the default). Run in the peer's environment.

python peer_litserve.py PORT

No postponed annotations here: LitServe reads those of ``decode_request`` as they stand.
"""

import os
import sys
from pathlib import Path
from typing import Any

import joblib
import litserve
import pandas as pd


class Churn(litserve.LitAPI):
    """One row to one probability."""

    def setup(self, device: str) -> None:
        self.model = joblib.load(Path(os.environ["BENCH_MODEL"]) / "model.joblib")

    def decode_request(self, request: dict[str, Any]) -> pd.DataFrame:
        return pd.DataFrame([request])

    def predict(self, frame: pd.DataFrame) -> float:
        return float(self.model.predict_proba(frame)[0, 1])

    def encode_response(self, output: float) -> dict[str, float]:
        return {"proba": output}


if __name__ == "__main__":
    server = litserve.LitServer(Churn(), accelerator="cpu")
    server.run(host="127.0.0.1", port=int(sys.argv[1]), num_api_servers=1, generate_client_file=False)
