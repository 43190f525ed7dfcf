"""Fitting: the user's estimator, made deterministic, on the frame scikit-learn reads; and the same estimator's answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from ecluse.core.errors import EcluseError, InvalidInput
from ecluse.core.model import Model, Scalar, Task
from ecluse.core.schema import Feature
from ecluse.training.encode import encode, model_frame
from ecluse.training.onnx_source import Exporter, OnnxFile
from ecluse.training.threads import fixed_threads, forget_cores, parts, use_cores

Array = npt.NDArray[np.float64]
BOOSTERS = ("lightgbm", "xgboost")


def build(model: Model, parameters: Mapping[str, Scalar | None], seed: int) -> Any:
    """A fresh estimator of the model's function, every ``random_state`` that is None set to ``seed``. Raises InvalidInput."""
    where = f"project.py: model {model.name}"
    if model.build is None:
        raise InvalidInput(
            "a declaration read back has no estimator", where=where, cure="train from the project's folder"
        )
    try:
        estimator = model.build(**parameters)
    except EcluseError:
        raise
    except (Exception, SystemExit) as error:  # the user's function may raise anything; an exit would look like success
        raise InvalidInput(f"{type(error).__name__}: {error}", where=where, cure="mend the model's function") from error
    if isinstance(estimator, OnnxFile):
        return estimator
    if isinstance(estimator, type) or not hasattr(estimator, "fit"):
        cure = "return a scikit-learn estimator, an OnnxFile, or an object with fit and export_onnx"
        got = f"the class {estimator.__name__}" if isinstance(estimator, type) else type(estimator).__name__
        raise InvalidInput(f"the model's function returned {got}", where=where, cure=cure)
    if hasattr(estimator, "get_params"):
        open_seeds = [k for k, v in estimator.get_params(deep=True).items() if _is_seed(k) and v is None]
        estimator.set_params(**dict.fromkeys(open_seeds, seed))
    return estimator


def fit(
    model: Model,
    parameters: Mapping[str, Scalar | None],
    frame: pl.DataFrame,
    y: npt.NDArray[Any],
    seed: int,
    *,
    features: Sequence[Feature],
    estimator: Any = None,
) -> Any:
    """The model's estimator fitted on ``frame`` (n rows with every feature) and ``y`` (n,); ``estimator`` is one already built.

    The result does not depend on the machine's cores (see ``threads``). An OnnxFile is returned as it is. Raises InvalidInput when the
    fit fails, naming the estimator and what it said.
    """
    estimator = build(model, parameters, seed) if estimator is None else estimator
    if isinstance(estimator, OnnxFile):
        return estimator
    inputs = _inputs(estimator, frame, features)
    use_cores(estimator)
    try:
        with fixed_threads(estimator):
            estimator.fit(inputs, y)
    except EcluseError:
        raise
    except (Exception, SystemExit) as error:  # estimators raise anything; what they say is the best hint there is
        raise _failed(model, estimator, error) from error
    forget_cores(estimator)
    return estimator


def predictor(estimator: Any, features: Sequence[Feature], task: Task) -> Callable[[pl.DataFrame], Array]:
    """The fitted estimator's answers: frame of n rows -> probability of the positive class [n], of every class [n, K], or value [n].

    One thread: a forest that adds its trees from several threads may differ in the last bit from run to run.
    """

    def predict(frame: pl.DataFrame) -> Array:
        inputs = _inputs(estimator, frame, features)
        if task == "regression" or not hasattr(estimator, "predict_proba"):
            return np.asarray(estimator.predict(inputs), dtype=np.float64)
        answers = np.asarray(estimator.predict_proba(inputs), dtype=np.float64)
        if task == "multiclass" or answers.ndim == 1:
            return answers
        return np.ascontiguousarray(answers[:, -1])

    return predict


def libraries_of(estimator: Any) -> frozenset[str]:
    """Top-level packages of the estimator's parts: which libraries a recipe must name."""
    return frozenset(type(part).__module__.partition(".")[0] for part in parts(estimator))


def is_exporter(estimator: Any) -> bool:
    """Whether the object learns in its own way and exports ONNX."""
    return isinstance(estimator, Exporter)


def _inputs(estimator: Any, frame: pl.DataFrame, features: Sequence[Feature]) -> Any:
    """The polars frame for scikit-learn; the encoded matrix for an exporter, and for a booster with no step before it."""
    if is_exporter(estimator):
        return encode(frame, features)
    if type(_first(estimator)).__module__.partition(".")[0] in BOOSTERS:
        if words := [f.name for f in features if f.kind == "category"]:
            cure = "put an encoder before it: make_pipeline(encoder(), ...)"
            raise InvalidInput(
                f"text columns {', '.join(words)} reach {type(_first(estimator)).__name__}", where="training", cure=cure
            )
        return encode(frame, features)
    return model_frame(frame, features)


def _first(estimator: Any) -> Any:
    """The first step that does anything."""
    for _, step in getattr(estimator, "steps", ()):
        if step is not None and step != "passthrough":
            return _first(step)
    return estimator


def _failed(model: Model, estimator: Any, error: BaseException) -> InvalidInput:
    said = " ".join(str(error).split())[:300]
    cure = (
        "put SimpleImputer or scaled_encoder() before it" if "NaN" in said else "check the estimator and its parameters"
    )
    return InvalidInput(
        f"{type(estimator).__name__} failed to fit: {type(error).__name__}: {said}",
        where=f"model {model.name}",
        cure=cure,
    )


def _is_seed(name: str) -> bool:
    return name == "random_state" or name.endswith("__random_state")
