"""Writes the pipeline as an MLflow model that answers probabilities; ``mlflow models serve`` serves it. Run in the peer's environment.

python peer_mlflow.py MODEL_FOLDER TARGET
"""

from __future__ import annotations

import sys
from pathlib import Path

import joblib
import mlflow.sklearn

mlflow.sklearn.save_model(
    joblib.load(Path(sys.argv[1]) / "model.joblib"),
    sys.argv[2],
    serialization_format="cloudpickle",
    pyfunc_predict_fn="predict_proba",
    pip_requirements=["scikit-learn"],
)
