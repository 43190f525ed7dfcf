"""The scorer process: ``python -m ecluse.adapters.scorer_process`` reads a skops model from its input and scores what follows.

It sees bytes whose seal was verified, reads them with our list of types (``core/trusted.py``), and builds the frame scikit-learn was fitted
on out of the encoded matrix. It ends when its input does.
"""

from __future__ import annotations

import io
import json
import sys
import warnings
import zipfile
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from ecluse.adapters.child_process import answer, answers_only, limit_memory, read_exactly, read_framed
from ecluse.adapters.scorer_skops import SHAPE
from ecluse.core.codec import from_plain
from ecluse.core.schema import Feature
from ecluse.core.trusted import TRUSTED_TYPES

Matrix = npt.NDArray[np.float64]
_BOOSTERS = ("lightgbm", "xgboost")


def main() -> int:
    """Load, say whether it went well, then answer until the input ends."""
    source = sys.stdin.buffer
    answers = answers_only()
    warnings.simplefilter("ignore")
    try:
        header = json.loads(read_framed(source))
        limit_memory(header["megabytes"])
        features = tuple(from_plain(Feature, each) for each in header["features"])
        estimator = load(read_framed(source))
        problem = ""
    except EOFError:
        return 0
    except Exception as error:  # noqa: BLE001 - the parent is told whatever it was
        problem = f"{type(error).__name__}: {str(error)[:500]}"
    answer(answers, problem)
    if problem:
        return 1
    while True:
        try:
            rows, columns = SHAPE.unpack(read_exactly(source, SHAPE.size))
            matrix = np.frombuffer(read_exactly(source, rows * columns * 8), dtype=np.float64).reshape(rows, columns)
        except EOFError:
            return 0
        answers.write(score(estimator, matrix, features, header["task"], header["outputs"]).tobytes())
        answers.flush()


def score(estimator: Any, matrix: Matrix, features: tuple[Feature, ...], task: str, outputs: int) -> Matrix:
    """The estimator's answers, double [n, K]; NaN for a row it raises an error for: which one it is, is found by halving."""
    try:
        return _predict(estimator, matrix, features, task).reshape(len(matrix), outputs)
    except Exception:  # noqa: BLE001 - an encoder refuses an unknown category with any of several classes
        if len(matrix) == 1:
            return np.full((1, outputs), np.nan)
        half = len(matrix) // 2
        parts = matrix[:half], matrix[half:]
        return np.concatenate([score(estimator, part, features, task, outputs) for part in parts])


def frame_of(matrix: Matrix, features: tuple[Feature, ...]) -> pl.DataFrame:
    """The frame scikit-learn saw in training: numbers as they are, codes as their categories. A category never seen becomes a word of ours.

    >>> frame_of(np.array([[1.0], [np.nan]]), (Feature("plan", "category", ("Basic", "Gold")),))["plan"].to_list()
    ['Gold', None]
    """
    columns = []
    for i, feature in enumerate(features):
        values = matrix[:, i]
        if feature.kind == "category":
            words = (*(feature.categories or ()), UNSEEN)  # the code -1 is the last word
            columns.append(
                pl.Series(feature.name, [None if v != v else words[int(v)] for v in values], dtype=pl.String)
            )
        else:
            columns.append(pl.Series(feature.name, values))
    return pl.DataFrame(columns)


UNSEEN = "\x00never seen"


def _predict(estimator: Any, matrix: Matrix, features: tuple[Feature, ...], task: str) -> Matrix:
    bare = type(_first(estimator)).__module__.partition(".")[0] in _BOOSTERS
    inputs = matrix if bare else frame_of(matrix, features)
    if task == "regression" or not hasattr(estimator, "predict_proba"):
        return np.asarray(estimator.predict(inputs), dtype=np.float64)
    answers = np.asarray(estimator.predict_proba(inputs), dtype=np.float64)
    return np.ascontiguousarray(answers if task == "multiclass" or answers.ndim == 1 else answers[:, -1])


def _first(estimator: Any) -> Any:
    for _, step in getattr(estimator, "steps", ()):
        if step is not None and step != "passthrough":
            return _first(step)
    return estimator


def load(data: bytes) -> Any:
    """The estimator in a skops archive as we write them: nothing compressed, so that it cannot swell, and only types we trust.

    Raises ValueError, or whatever skops raises.
    """
    import skops.io

    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
        if any(m.compress_type != zipfile.ZIP_STORED for m in members) or sum(m.file_size for m in members) > len(data):
            raise ValueError("an archive that is compressed")
    return skops.io.loads(data, trusted=list(TRUSTED_TYPES))


if __name__ == "__main__":
    sys.exit(main())
