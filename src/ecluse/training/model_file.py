"""The model's bytes: compiled to ONNX where that is exact, else skops; a class of the user's own is refused by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ecluse.core.errors import EcluseError, InvalidInput, Unsupported
from ecluse.core.model import Task
from ecluse.core.schema import Feature
from ecluse.training import skops_file
from ecluse.training.compile.foreign import wrap_onnx
from ecluse.training.compile.pipeline import compile_model, single_precision
from ecluse.training.onnx_source import OnnxFile
from ecluse.training.threads import parts
from ecluse.training.train import BOOSTERS, is_exporter

EXACT, SINGLE, FOREIGN = 1e-9, 1e-6, 1e-5
"""Largest difference the parity gate allows: our own compilation, a library that computes in single precision, a user's export."""


@dataclass(frozen=True)
class ModelFile:
    """``model.<scorer>`` and the parity limit; ``why`` says why it is not compiled, empty when it is."""

    scorer: Literal["onnx", "skops"]
    data: bytes
    limit: float
    why: str = ""


def model_file(
    estimator: Any, features: Sequence[Feature], task: Task, *, classes: Sequence[str], root: Path
) -> ModelFile:
    """The bytes of a fitted estimator, an OnnxFile or an exporter. Raises Unsupported, InvalidInput, each with its cure."""
    if isinstance(estimator, OnnxFile):
        return ModelFile("onnx", wrap_onnx(estimator.read(root), features, task, classes=len(classes) or None), FOREIGN)
    if is_exporter(estimator):
        return ModelFile("onnx", wrap_onnx(_exported(estimator), features, task, classes=len(classes) or None), FOREIGN)
    _refuse_strangers(estimator)
    try:
        limit = SINGLE if single_precision(estimator) else EXACT
        return ModelFile("onnx", compile_model(estimator, features, task), limit)
    except Unsupported as problem:
        if task != "regression" and not hasattr(estimator, "predict_proba"):
            raise Unsupported(
                f"{type(estimator).__name__} has no probabilities",
                where=problem.where,
                cure="wrap it in CalibratedClassifierCV",
            ) from None
        return ModelFile("skops", skops_file.dump(estimator), EXACT, problem.what)


def _exported(estimator: Any) -> bytes:
    try:
        data = estimator.export_onnx()
    except EcluseError:
        raise
    except Exception as error:  # the user's exporter may raise anything
        name = type(estimator).__name__
        raise InvalidInput(
            f"{name}.export_onnx: {type(error).__name__}: {error}", where="training", cure="mend it"
        ) from error
    if not isinstance(data, bytes):
        raise InvalidInput(
            f"export_onnx returned {type(data).__name__}", where="training", cure="return the model's bytes"
        )
    return data


def _refuse_strangers(estimator: Any) -> None:
    """A class of the user's own anywhere in the estimator cannot be served: the data plane runs no code of users."""
    known = {"sklearn", *BOOSTERS}
    kinds = sorted(
        {
            f"{k.__module__}.{k.__qualname__}"
            for k in map(type, parts(estimator))
            if k.__module__.partition(".")[0] not in known
        }
    )
    if kinds:
        cure = "express it with scikit-learn's classes, or give it export_onnx()"
        raise Unsupported(f"{', '.join(kinds)} is a class of the user's own", where="training", cure=cure)
