"""Bundles: complete, canonical, answering their own smoke rows; refusals carry their numbers."""

import json
import platform
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from tests.training.jobs import FACTS, USER, VIEW, job, model_of, settings, table, truth

from ecluse.app import open_scorer
from ecluse.core.bundle import Bundle, open_bundle
from ecluse.core.codec import canonical, digest_bytes, from_plain
from ecluse.core.contract import Category, Integer, Number, Table
from ecluse.core.errors import InvalidInput
from ecluse.core.model import Model
from ecluse.core.schema import Feature, encode_value
from ecluse.core.snapshot import Dataset
from ecluse.core.view import FeatureView, count, last
from ecluse.stats.reference import CategoryReference, NumberReference, Reference
from ecluse.training.compile.pipeline import compile_model
from ecluse.training.encode import encode
from ecluse.training.encoders import encoder, scaled_encoder
from ecluse.training.make import Product, make
from ecluse.training.onnx_source import OnnxFile
from ecluse.training.schema import make_columns

NUMBERS = FeatureView("facts", FACTS, {"age": last("age"), "senior": last("senior")})

ESTIMATORS: dict[str, Callable[[], Any]] = {
    "binary": lambda: make_pipeline(encoder(), RandomForestClassifier(10, min_samples_leaf=5)),
    "multiclass": lambda: make_pipeline(scaled_encoder(), LogisticRegression()),
    "regression": lambda: make_pipeline(encoder(), HistGradientBoostingRegressor(max_iter=10)),
}


def bundle_of(product: Product) -> Bundle:
    assert product.bundle is not None, product.verdict
    return product.bundle


@pytest.fixture(scope="module", params=list(ESTIMATORS))
def product(request: pytest.FixtureRequest) -> Product:
    return make(job(ESTIMATORS[request.param], request.param), open_scorer)


def test_a_bundle_reads_back_whole(product: Product) -> None:
    bundle = bundle_of(product)
    assert open_bundle(bundle.digest, canonical(bundle.manifest), bundle.files) == bundle
    assert set(bundle.files) == {
        "model.onnx", "schema.json", "declaration.json", "dataset.json", "recipe.json", "reference.json", "smoke.json", "parity.json",
    }  # fmt: skip
    assert product.recipe is not None
    assert bundle.manifest.recipe == digest_bytes(bundle.files["recipe.json"]) == product.recipe.digest
    assert bundle.manifest.dataset == from_plain(Dataset, bundle.document("dataset.json")).digest
    declared = from_plain(Model, bundle.document("declaration.json"))
    assert canonical(declared) == bundle.files["declaration.json"]


def test_nothing_of_the_machine_or_the_moment_is_in_it(product: Product) -> None:
    for name, data in bundle_of(product).files.items():
        assert platform.node().encode() not in data or len(platform.node()) < 4, name
        assert b"/tests/" not in data


def test_it_answers_its_own_smoke_rows(product: Product) -> None:
    bundle = bundle_of(product)
    rows = bundle.document("smoke.json")["rows"]
    assert isinstance(rows, list)
    assert len(rows) >= 20
    features = bundle.schema.features
    matrix = np.array([[encode_value(f, row["inputs"][f.name]) for f in features] for row in rows])
    assert open_scorer(bundle).score(matrix).tolist() == [row["answer"] for row in rows]


def test_categories_are_those_trained_on_and_classes_in_order(product: Product) -> None:
    schema = bundle_of(product).schema
    plan = next(feature for feature in schema.features if feature.name == "plan")
    assert plan.categories == ("Basic", "Gold", "Silver")
    assert [feature.name for feature in schema.features] == ["age", "mean_age", "plan", "senior"]
    assert schema.classes == (("a", "b", "c") if schema.task == "multiclass" else ())


def test_the_reference_is_of_the_rows_trained_on(product: Product) -> None:
    bundle = bundle_of(product)
    reference = from_plain(Reference, bundle.document("reference.json"))
    assert reference.rows == product.rows["train"]
    assert all(feature.rows == reference.rows for feature in reference.features.values())
    assert reference.score.rows == product.rows["validation"]
    assert isinstance(reference.features["age"], NumberReference)
    assert isinstance(reference.features["senior"], CategoryReference)
    assert (reference.target_rate is None) == (bundle.schema.task == "multiclass")


def test_parity_is_measured_on_ten_thousand_rows(product: Product) -> None:
    parity = bundle_of(product).document("parity.json")
    assert parity["compared"] is True
    assert parity["rows"] == 10_000
    assert isinstance(parity["max_difference"], int | float)
    assert parity["max_difference"] <= 1e-9


def test_metrics_of_both_parts_and_a_threshold_for_decisions(product: Product) -> None:
    assert set(product.metrics) == {"train", "validation"}
    assert (product.threshold is not None) == (bundle_of(product).schema.task == "binary")
    assert product.held_out is not None
    assert product.held_out.height == product.rows["validation"]


def test_segments_of_both_parts() -> None:
    gates = {"segments": ["plan"], "segment_rows": 20}
    product = make(job(ESTIMATORS["binary"], gates=gates), open_scorer)
    assert {"plan=Gold", "train: plan=Gold", "train: plan=missing"} <= set(product.segments)


def test_what_cannot_be_compiled_is_a_skops_bundle() -> None:
    product = make(job(lambda: make_pipeline(scaled_encoder(), KNeighborsClassifier())), open_scorer)
    assert bundle_of(product).manifest.scorer == "skops"
    assert "KNeighborsClassifier" in product.facts["not_compiled"]


def test_too_few_rows_are_a_refusal_with_numbers() -> None:
    product = make(
        job(ESTIMATORS["binary"], training={"frame": {"rows": 10_000, "positives": 5_000, "missing": 0.0}}), open_scorer
    )
    assert product.bundle is None
    assert {finding.check for finding in product.verdict.failed} == {"frame.rows", "frame.positives"}
    assert all(finding.measured is not None for finding in product.verdict.failed)


def test_a_view_without_rows_is_a_refusal() -> None:
    made = job(ESTIMATORS["binary"])
    empty = made.frame.with_columns(pl.lit(None, dtype=pl.Datetime("us", "UTC")).alias("__event:facts"))
    product = make(replace(made, frame=empty), open_scorer)
    assert [finding.check for finding in product.verdict.failed] == ["frame.missing"]


def test_a_scorer_that_answers_otherwise_is_refused_with_the_difference() -> None:
    class Off:
        def __init__(self, bundle: Bundle) -> None:
            self.scorer = open_scorer(bundle)

        def score(self, matrix: Any) -> Any:
            return np.clip(self.scorer.score(matrix) + 1e-6, 0, 1)

    product = make(job(ESTIMATORS["binary"]), Off)
    assert product.bundle is None
    assert [finding.check for finding in product.verdict.failed] == ["parity"]
    assert product.verdict.failed[0].measured == pytest.approx(1e-6, rel=1e-3)


def test_one_class_alone_is_a_refusal_not_an_exception() -> None:
    made = job(ESTIMATORS["binary"])
    product = make(replace(made, y=pl.Series("y", [False] * made.frame.height)), open_scorer)
    assert product.bundle is None
    assert "positives trained on" in {finding.subject for finding in product.verdict.failed}


# -- models trained elsewhere, and objects that export ONNX ------------------------------------------------------------


class Line:
    """Learns a logistic line by a few steps and exports it: what a wrapped neural network looks like."""

    def fit(self, X: Any, y: Any) -> "Line":
        self.model = LogisticRegression().fit(np.nan_to_num(X), y)
        return self

    def predict_proba(self, X: Any) -> Any:
        p = self.model.predict_proba(np.nan_to_num(X))
        p[np.isnan(X).any(axis=1)] = np.nan
        return p

    def export_onnx(self) -> bytes:
        names = [Feature(f"x{i}", "number") for i in range(self.model.coef_.shape[1])]
        return compile_model(self.model, names, "binary")


class Wrong(Line):
    def export_onnx(self) -> bytes:
        self.model, kept = deepcopy(self.model), self.model
        self.model.intercept_ = self.model.intercept_ + 1e-3
        data = super().export_onnx()
        self.model = kept
        return data


def _numbers(build: Callable[[], Any], **more: Any) -> Any:
    made = job(build, view=NUMBERS, **more)
    return replace(made, frame=made.frame.with_columns(pl.col("age").fill_null(40.0)))


def test_an_object_that_exports_onnx_is_packaged_behind_the_parity_gate() -> None:
    product = make(_numbers(Line), open_scorer)
    assert bundle_of(product).document("parity.json")["limit"] == 1e-5


def test_an_export_that_differs_is_refused() -> None:
    product = make(_numbers(Wrong), open_scorer)
    assert product.bundle is None
    assert [finding.check for finding in product.verdict.failed][:1] == ["parity"]


def test_an_onnx_file_serves_as_it_is(tmp_path: Path) -> None:
    frame = table(300)
    rows = frame.with_columns(pl.col("age").fill_null(40.0))
    features = [Feature("age", "number"), Feature("senior", "boolean")]
    fitted = LogisticRegression().fit(encode(rows, features), truth(frame, "binary").to_numpy())
    (tmp_path / "model.onnx").write_bytes(compile_model(fitted, features, "binary"))
    product = make(_numbers(lambda: OnnxFile("model.onnx"), root=tmp_path), open_scorer)
    bundle = bundle_of(product)
    assert bundle.document("parity.json") == {"compared": False}
    with pytest.raises(InvalidInput, match=r"absent\.onnx.*project's root"):
        make(_numbers(lambda: OnnxFile("absent.onnx"), root=tmp_path), open_scorer)


def test_an_onnx_file_reads_declared_categories_only() -> None:
    open_plan = Table("facts", USER, {"plan": Category()})
    view = FeatureView("facts", open_plan, {"plan": last("plan")})
    with pytest.raises(InvalidInput, match="category `plan` has no declared values"):
        make(job(lambda: OnnxFile("model.onnx"), view=view), open_scorer)


# -- the contract of explicit features ---------------------------------------------------------------------------------


def test_columns_come_from_the_table_and_the_aggregation() -> None:
    view = FeatureView("facts", FACTS, {"age": last("age"), "rows": count(over="30d")})
    columns = make_columns(model_of("binary", None, view))
    assert columns == {"age": Number(min=0, nulls=0.5), "rows": Integer(min=0)}
    accepted = make_columns(model_of("binary", None, replace(view, missing="accept")))
    assert accepted["rows"] == Integer(min=0, nulls=1.0)
    assert make_columns(model_of("binary", None, VIEW))["mean_age"] == Number(min=0, nulls=1.0)


def test_costs_are_in_the_recipe_only_where_they_choose_the_threshold() -> None:
    costs = {"false_positive": 1, "false_negative": 5, "action_value": 4}
    by_f1 = make(job(ESTIMATORS["binary"], costs=costs), open_scorer)
    by_value = make(job(ESTIMATORS["binary"], costs=costs, threshold={"rule": "value"}), open_scorer)
    assert by_f1.recipe is not None
    assert by_value.recipe is not None
    assert "costs" not in by_f1.recipe.threshold
    assert by_value.recipe.threshold["costs"] == costs
    assert by_value.metrics["validation"]["expected_value"] is not None


def test_recipes_differ_by_what_determines_the_model() -> None:
    plain = make(job(ESTIMATORS["binary"]), open_scorer).recipe
    other = make(job(ESTIMATORS["binary"], training={"seed": 1}), open_scorer).recipe
    assert plain is not None
    assert other is not None
    assert plain.digest != other.digest
    assert {"ecluse", "numpy", "polars", "scikit-learn"} <= set(plain.libraries)
    assert json.loads(canonical(plain))["parameters"] == {}
    assert settings().training.seed == 0
