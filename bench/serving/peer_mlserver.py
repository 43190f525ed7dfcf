"""Writes the settings by which MLServer serves the pipeline with its own scikit-learn runtime; ``mlserver start`` serves it.

python peer_mlserver.py MODEL_FOLDER TARGET
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

model, target = Path(sys.argv[1]), Path(sys.argv[2])
target.mkdir()
settings = {
    "name": "churn",
    "implementation": "mlserver_sklearn.SKLearnModel",
    "parameters": {"uri": str(model / "model.joblib")},
}
(target / "model-settings.json").write_text(json.dumps(settings))
