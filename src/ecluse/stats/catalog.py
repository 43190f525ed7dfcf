"""The metrics by name: which task each is for, which direction is better, and all of them measured at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike

from ecluse.core.errors import InvalidInput
from ecluse.stats import metrics_binary as binary
from ecluse.stats import metrics_multiclass as multiclass
from ecluse.stats import metrics_regression as regression
from ecluse.stats.arrays import NAN, Floats, vector

Task: TypeAlias = Literal["binary", "multiclass", "regression"]


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric of one task: ``function(y, prediction)``, plus ``threshold`` (third) when ``needs_threshold``.

    ``expected_value`` also needs the declared costs; ``closed`` binds all of that.
    """

    name: str
    task: Task
    greater_is_better: bool
    needs_threshold: bool
    function: Callable[..., float]

    def closed(
        self, *, threshold: float = 0.5, costs: Mapping[str, float] | None = None
    ) -> Callable[[ArrayLike, ArrayLike], float]:
        """The metric as ``f(y, prediction)``, ready for ``bootstrap``; the plain function when nothing must be bound.

        InvalidInput for ``expected_value`` without the costs false_positive, false_negative, action_value.

        >>> metric_of("binary", "f1").closed(threshold=0.3)([1, 0], [0.4, 0.1])
        1.0
        """
        if not self.needs_threshold:
            return self.function
        if self.name == "expected_value":
            return partial(self.function, threshold=threshold, **_costs(costs))
        return partial(self.function, threshold=threshold)


def _at(function: Callable[..., float], share: float) -> Callable[..., float]:
    return partial(function, share=share)


def _entry(task: Task, name: str, function: Callable[..., float], better: Literal["higher", "lower"]) -> Metric:
    return Metric(name, task, better == "higher", name in _THRESHOLDED and task == "binary", function)


_THRESHOLDED = frozenset({"accuracy", "precision", "recall", "f1", "expected_value"})
_LISTED = (
    _entry("binary", "roc_auc", binary.roc_auc, "higher"),
    _entry("binary", "pr_auc", binary.pr_auc, "higher"),
    _entry("binary", "log_loss", binary.log_loss, "lower"),
    _entry("binary", "brier", binary.brier, "lower"),
    _entry("binary", "accuracy", binary.accuracy, "higher"),
    _entry("binary", "precision", binary.precision, "higher"),
    _entry("binary", "recall", binary.recall, "higher"),
    _entry("binary", "f1", binary.f1, "higher"),
    _entry("binary", "precision_at_5", _at(binary.precision_at, 0.05), "higher"),
    _entry("binary", "precision_at_10", _at(binary.precision_at, 0.10), "higher"),
    _entry("binary", "lift_at_5", _at(binary.lift_at, 0.05), "higher"),
    _entry("binary", "lift_at_10", _at(binary.lift_at, 0.10), "higher"),
    _entry("binary", "calibration_error", binary.calibration_error, "lower"),
    _entry("binary", "expected_value", binary.expected_value, "higher"),
    _entry("multiclass", "accuracy", multiclass.accuracy, "higher"),
    _entry("multiclass", "balanced_accuracy", multiclass.balanced_accuracy, "higher"),
    _entry("multiclass", "macro_f1", multiclass.macro_f1, "higher"),
    _entry("multiclass", "log_loss", multiclass.log_loss, "lower"),
    _entry("multiclass", "roc_auc_ovr", multiclass.roc_auc_ovr, "higher"),
    _entry("regression", "rmse", regression.rmse, "lower"),
    _entry("regression", "mae", regression.mae, "lower"),
    _entry("regression", "r2", regression.r2, "higher"),
    _entry("regression", "median_absolute_error", regression.median_absolute_error, "lower"),
    _entry("regression", "mape", regression.mape, "lower"),
)

BY_TASK: Mapping[str, Mapping[str, Metric]] = MappingProxyType(
    {task: MappingProxyType({m.name: m for m in _LISTED if m.task == task}) for task in get_args(Task)}
)
"""task -> name -> Metric: every metric of the field for that task."""

METRICS: Mapping[str, Metric] = MappingProxyType({m.name: m for m in reversed(_LISTED)})
"""name -> Metric. A name shared by tasks (accuracy, log_loss) is the binary one here; the direction is always the same.
To compute, ask ``metric_of(task, name)``."""


def metric_of(task: str, name: str) -> Metric:
    """The metric of that name for that task; ``precision_at_P`` and ``lift_at_P`` exist for every percentage P.

    InvalidInput for an unknown task or name, with the known ones.

    >>> metric_of("regression", "rmse").greater_is_better, metric_of("binary", "lift_at_2.5").name
    (False, 'lift_at_2.5')
    """
    known = _known(task)
    found = known.get(name) or (_at_percentage(name) if task == "binary" else None)
    if found is None:
        cure = f"for {task} use one of {', '.join(known)}"
        raise InvalidInput(f"unknown metric {name!r}", where="metrics", cure=cure)
    return found


def measure(
    task: str,
    y: ArrayLike,
    prediction: ArrayLike,
    *,
    threshold: float = 0.5,
    names: Iterable[str] | None = None,
    costs: Mapping[str, float] | None = None,
    top: Iterable[float] = (0.05, 0.1),
) -> dict[str, float]:
    """All metrics of the task (or those ``names``), with the trivial model's beside accuracy and log loss.

    ``prediction`` is (n,) probabilities, (n, k) for multi-class, (n,) values for regression. ``expected_value`` appears
    when ``costs`` (false_positive, false_negative, action_value) are given; ``top`` are the shares of the list for
    precision and lift. ``accuracy_trivial`` and ``log_loss_trivial`` are those of the best constant *on these rows*
    (majority class, class shares): the hardest trivial model there is. Undefined values are NaN.

    >>> measure("regression", [1.0, 3.0], [1.0, 2.0], names=["mae", "r2"])
    {'mae': 0.5, 'r2': 0.5}
    >>> measure("binary", [0, 1, 1, 1], [0.1, 0.9, 0.8, 0.4], names=["accuracy"])
    {'accuracy': 0.75, 'accuracy_trivial': 0.75}
    """
    wanted = _default_names(task, costs, top) if names is None else [n.removesuffix("_trivial") for n in names]
    found: dict[str, float] = {}
    for name in wanted:
        found[name] = metric_of(task, name).closed(threshold=threshold, costs=costs)(y, prediction)
        if name in ("accuracy", "log_loss"):
            found[f"{name}_trivial"] = _trivial(name, y)
    return found


def trivial_prediction(task: str, y_train: ArrayLike, *, classes: int | None = None) -> float | Floats:
    """What a model that knows only the training labels predicts: prior, class shares (k,), or the mean.

    ``classes`` is k for multi-class (default: the largest code + 1). InvalidInput without labels.

    >>> trivial_prediction("binary", [0, 1, 1, 1]), trivial_prediction("multiclass", [0, 2], classes=4).tolist()
    (0.75, [0.5, 0.0, 0.5, 0.0])
    """
    y = vector(y_train, "labels")
    if task not in BY_TASK or y.size == 0:
        raise InvalidInput(
            f"no trivial model for task {task!r} and {y.size} labels", where="metrics", cure="pass labels"
        )
    if task != "multiclass":
        return float(y.mean())
    return np.bincount(y.astype(np.int64), minlength=classes or 0) / y.size


def _known(task: str) -> Mapping[str, Metric]:
    if task not in BY_TASK:
        raise InvalidInput(f"unknown task {task!r}", where="metrics", cure=f"use one of {', '.join(BY_TASK)}")
    return BY_TASK[task]


def _default_names(task: str, costs: Mapping[str, float] | None, top: Iterable[float]) -> list[str]:
    """The names of the task in catalogue order, the lists cut at the ``top`` shares asked for."""
    fixed = [name for name in _known(task) if "_at_" not in name]
    if costs is None:
        fixed = [name for name in fixed if name != "expected_value"]
    if task == "binary":
        fixed += [f"{kind}_at_{100 * share:g}" for share in top for kind in ("precision", "lift")]
    return fixed


def _at_percentage(name: str) -> Metric | None:
    """``precision_at_20`` or ``lift_at_2.5`` as a Metric; None when the name is no such thing."""
    kind, separator, percentage = name.partition("_at_")
    function = {"precision": binary.precision_at, "lift": binary.lift_at}.get(kind)
    try:
        share = float(percentage) / 100
    except ValueError:
        return None
    if function is None or not separator or not 0 < share <= 1:
        return None
    return Metric(name, "binary", True, False, _at(function, share))


def _costs(costs: Mapping[str, float] | None) -> dict[str, float]:
    """Exactly the three costs of ``expected_value``."""
    needed = ("false_positive", "false_negative", "action_value")
    if costs is None or set(costs) != set(needed):
        got = ", ".join(costs) if costs else "nothing"
        raise InvalidInput(f"costs name {got}", where="expected_value", cure=f"declare exactly {', '.join(needed)}")
    return dict(costs)


def _trivial(name: str, y: ArrayLike) -> float:
    """Accuracy of the majority class, or log loss of the class shares (their entropy in nats), on these rows."""
    labels = vector(y, "labels")
    if labels.size == 0:
        return NAN
    shares = np.unique(labels, return_counts=True)[1] / labels.size
    # Adding 0.0 turns the -0.0 of a single class into 0.0.
    return float(shares.max()) if name == "accuracy" else float(-(shares * np.log(shares)).sum()) + 0.0
