"""Fitting: seeds and threads are settled, failures say what and where, whoever cannot be served is refused by name."""

import sys
from typing import Any

import numpy as np
import pytest
from lightgbm import LGBMClassifier
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import (
    BaggingClassifier,
    ExtraTreesClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.tree import DecisionTreeClassifier
from tests.training.jobs import FACTS, VIEW, job, model_of

from ecluse.app import open_scorer
from ecluse.core.errors import InvalidInput, Unsupported
from ecluse.core.view import FeatureView, last
from ecluse.training.encoders import encoder, scaled_encoder
from ecluse.training.make import make
from ecluse.training.train import build

NUMBERS = FeatureView("facts", FACTS, {"age": last("age"), "senior": last("senior")})


class Mine(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier of the user's own."""

    def fit(self, X: Any, y: Any) -> "Mine":
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X: Any) -> Any:
        return np.full((len(X), 2), 0.5)


def test_every_open_random_state_gets_the_seed() -> None:
    made = build(
        model_of("binary", lambda: make_pipeline(encoder(), BaggingClassifier(DecisionTreeClassifier()))), {}, 7
    )
    seeds = {name: value for name, value in made.get_params().items() if name.endswith("random_state")}
    assert set(seeds.values()) == {7}
    assert len(seeds) == 2
    assert build(model_of("binary", lambda: RandomForestClassifier(random_state=3)), {}, 7).random_state == 3


@pytest.mark.parametrize(
    "estimator",
    [
        lambda: make_pipeline(encoder(), RandomForestClassifier(10)),
        lambda: make_pipeline(encoder(), ExtraTreesClassifier(10, n_jobs=2)),
        lambda: make_pipeline(encoder(), HistGradientBoostingClassifier(max_iter=10)),
        lambda: make_pipeline(scaled_encoder(), LogisticRegression()),
        lambda: make_pipeline(scaled_encoder(), KNeighborsClassifier()),
    ],
)
def test_the_same_job_gives_the_same_bundle(estimator: Any) -> None:
    first, second = (make(job(estimator), open_scorer) for _ in range(2))
    assert first.bundle is not None
    assert second.bundle is not None
    assert first.bundle.digest == second.bundle.digest
    assert first.metrics == second.metrics
    auc = first.metrics["validation"]["roc_auc"]
    assert auc is not None
    assert auc > 0.8


def test_a_bare_booster_reads_the_matrix() -> None:
    product = make(job(lambda: LGBMClassifier(n_estimators=10, verbose=-1), view=NUMBERS), open_scorer)
    assert product.bundle is not None
    assert product.recipe is not None
    assert "lightgbm" in product.recipe.libraries


def test_a_bare_booster_does_not_read_words() -> None:
    with pytest.raises(InvalidInput, match=r"text columns plan reach LGBMClassifier.*encoder"):
        make(job(lambda: LGBMClassifier(verbose=-1)), open_scorer)


@pytest.mark.parametrize(
    ("estimator", "error", "message"),
    [
        (
            lambda: make_pipeline(encoder(), HistGradientBoostingClassifier(loss="none")),
            InvalidInput,
            "failed to fit.*model churn",
        ),
        (lambda: make_pipeline(encoder(), LogisticRegression()), InvalidInput, "failed to fit.*NaN.*scaled_encoder"),
        (lambda: 1 / 0, InvalidInput, "ZeroDivisionError.*model churn"),
        (lambda: "a forest", InvalidInput, "returned str.*scikit-learn estimator"),
        (lambda: LogisticRegression, InvalidInput, "returned the class LogisticRegression"),
        (lambda: sys.exit(0), InvalidInput, "SystemExit.*model churn"),
        (
            lambda: make_pipeline(encoder(), Mine()),
            Unsupported,
            r"test_train\.Mine is a class of the user's own.*export_onnx",
        ),
        (lambda: make_pipeline(scaled_encoder(), FunctionTransformer(np.square), KNeighborsClassifier()), None, ""),
        (
            lambda: make_pipeline(scaled_encoder(), FunctionTransformer(_twice), KNeighborsClassifier()),
            Unsupported,
            "_twice may not be",
        ),
    ],
)
def test_what_cannot_be_trained_or_served(estimator: Any, error: type[Exception] | None, message: str) -> None:
    if error is None:
        assert make(job(estimator), open_scorer).bundle is not None
        return
    with pytest.raises(error, match=message):
        make(job(estimator), open_scorer)


def test_nan_predictions_are_an_error() -> None:
    made = job(lambda: make_pipeline(encoder(), HistGradientBoostingClassifier(max_iter=3)))

    class Silent:
        """A scorer that answers NaN."""

        def score(self, matrix: Any) -> Any:
            return np.full((len(matrix), 1), np.nan)

    with pytest.raises(InvalidInput, match=r"predicts NaN or infinity on \d+ of \d+ rows.*impute"):
        make(made, lambda bundle: Silent())


def test_a_declaration_read_back_cannot_be_trained() -> None:
    with pytest.raises(InvalidInput, match=r"no estimator.*project's folder"):
        build(model_of("binary", None, VIEW), {}, 0)


def _twice(x: Any) -> Any:
    return 2 * x
