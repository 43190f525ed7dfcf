"""Bad input through the real command line on a real project: the exit code, what it says, and that nothing is lost or half-written."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from tests.acceptance.bad_place import Place, unchanged
from tests.projects.small_data import PROJECT
from tests.serving.house import other_sealer

from ecluse.adapters.database.sqlite import SqliteState
from ecluse.core.codec import canonical

NAN = """
@model("nan", predicts=spend, features=[profile, activity], judged_by="rmse")
def nan() -> Any:
    import numpy as np
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline

    from ecluse.training.encoders import scaled_encoder

    inner = make_pipeline(scaled_encoder(), Ridge())
    return TransformedTargetRegressor(inner, func=np.negative, inverse_func=np.log, check_inverse=False)
"""


# -- data -------------------------------------------------------------------------------------------------------------

Change = Callable[[pl.DataFrame], pl.DataFrame]


def column(name: str, value: str) -> Change:
    """Every fifth row says ``value``."""
    fifth = pl.int_range(pl.len()) % 5 == 0
    return lambda frame: frame.with_columns(pl.when(fifth).then(pl.lit(value)).otherwise(pl.col(name)).alias(name))


@pytest.mark.parametrize(
    ("table", "change", "why"),
    [
        ("visits", lambda frame: frame.drop("hours"), "column hours is missing"),
        ("visits", column("hours", "many"), "hours: wrong type"),
        ("visits", column("hours", "-3"), "hours: below"),
        ("visits", column("hours", "1e999"), "hours: "),
        ("people", column("region", "moon"), "region: unknown category"),
        ("people", lambda frame: pl.concat([frame, column("age", "77")(frame)]), "person: contradicts another row"),
        ("logins", column("at", "2024-02-01T00:00:00"), "at: naive timestamp"),
        ("logins", column("at", "2031-01-01T00:00:00Z"), "from the future"),
        ("logins", column("at", "0001-01-01T00:00:00+14:00"), "at: wrong type"),
        ("truths", lambda frame: frame.head(0), "rows 0"),
    ],
    ids=[
        "missing column", "wrong type", "negative value", "infinite value", "unknown category", "duplicate key",
        "naive timestamp", "future timestamp", "before year one", "empty table",
    ],
)  # fmt: skip
def test_rows_that_break_their_contract(place: Place, table: str, change: Change, why: str) -> None:
    path = place.month / f"{table}.csv"
    change(pl.read_csv(path, infer_schema=False)).write_csv(path)
    with unchanged(place, "data.refused"):
        said = place.ingest()
        assert said.code == 3
        (refused,) = [each for each in said.answer["tables"] if each["status"] == "refused"]
        assert refused["table"] == table
        findings = [each["why"] for each in refused["verdict"]["findings"] if each["outcome"] == "failed"]
        assert why in " ".join([*findings, *refused["counts"]]), (findings, refused["counts"])
        assert {each["status"] for each in said.answer["tables"]} == {"refused", "not taken"}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is empty"),
        ("person,hours,clicks\np\u00e9,1,1\n".encode("latin-1"), "is not UTF-8"),
        (b"person,hours,hours\np1,1,1\n", "`hours` is there twice"),
        (b'person,hours,clicks\n"p1,1,1\n', "cannot be read"),
    ],
    ids=["empty file", "not UTF-8", "column twice", "open quote"],
)
def test_files_that_cannot_be_read(place: Place, content: bytes, why: str) -> None:
    (place.month / "visits.csv").write_bytes(content)
    with unchanged(place):
        said = place.ingest()
        assert said.code == 2
        said.says(why, "visits.csv")


def test_labels_that_do_not_match(place: Place) -> None:
    """Truths about people no other table knows: refused by the joined frame's contract, and no run names them."""
    path = place.month / "truths.csv"
    strangers = [f"someone-{i}" for i in range(2_400)]
    frame = pl.read_csv(path, infer_schema=False)
    pl.concat([frame] * 10).with_columns(pl.Series("person", strangers)).write_csv(path)
    assert place.ingest().code == 0
    place.root.joinpath("ecluse.toml").write_text("[training.frame]\nmissing = 0.2\n")
    with unchanged(place, "run.failed"):
        said = place.quick("train", "--model", "left", "--no-plots")
        assert said.code == 3
        assert "frame.missing" in [f["check"] for f in said.answer["verdict"]["findings"] if f["outcome"] == "failed"]


# -- estimators -------------------------------------------------------------------------------------------------------


def test_an_estimator_that_fails_to_fit(place: Place) -> None:
    with unchanged(place, "run.failed"):
        said = place.run("train", "--model", "left", "--set", "kind=broken", "--no-plots")
        assert said.code == 2
        said.says("failed to fit", "no such loss", "model left")


def test_an_estimator_that_predicts_nan(place: Place) -> None:
    place.add(NAN)
    with unchanged(place, "run.failed"):
        said = place.run("train", "--model", "nan", "--no-plots")
        assert said.code == 2
        said.says("NaN or infinity")


def test_a_metric_nobody_knows(place: Place) -> None:
    place.add(NAN.replace('"rmse"', '"rsme"'))
    with unchanged(place):
        said = place.quick("train", "--model", "nan", "--no-plots")
        assert said.code == 2
        said.says("rsme", "rmse", "judged_by")


# -- bundles, seals, keys ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["gate", "promote"])
def test_a_corrupt_bundle(place: Place, command: str) -> None:
    bundle = SqliteState(place.home / "state.db").version("left", 2).bundle
    model = place.home / "bundles" / bundle / "model.onnx"
    data = bytearray(model.read_bytes())
    data[100] ^= 1
    model.chmod(0o600)
    model.write_bytes(data)
    with unchanged(place):
        said = place.quick(command, "2", "--model", "left", *(["--why", "x"] if command == "promote" else []))
        assert said.code == 7
        said.says("model.onnx", bundle[:12])


@pytest.mark.parametrize("command", ["gate", "promote"])
def test_a_wrong_seal(place: Place, command: str) -> None:
    bundle = SqliteState(place.home / "state.db").version("left", 2).bundle
    seal = place.home / "bundles" / f"{bundle}.beside" / "seal.json"
    seal.chmod(0o600)
    seal.write_bytes(canonical(other_sealer().sign(bundle)))
    with unchanged(place):
        said = place.quick(command, "2", "--model", "left", *(["--why", "x"] if command == "promote" else []))
        assert said.code in (5, 7)
        said.says("key")


def test_a_lost_key_is_not_replaced_in_silence(place: Place) -> None:
    (place.home / "keys" / "sealing.key").unlink()
    with unchanged(place):
        said = place.quick("train", "--model", "left", "--no-plots")
        assert said.code == 4
        said.says("no sealing key", "ECLUSE_SEALING_KEY")


# -- declarations and settings ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("def (", "SyntaxError"),
        ("raise RuntimeError('boom')", "boom"),
        ("import sys; sys.exit(0)", "SystemExit"),
        ("x = '\0'", "null bytes"),
        ("import os; os.chdir('/'); 1 / 0", "ZeroDivisionError"),
        ("model('../x', predicts=left, features=[profile], judged_by='f1')(lambda: None)", "'../x'"),
        ("FeatureView('v', people, features={'__key': last('age')})\n"
         "model('m', predicts=left, features=[FeatureView('v', people, features={'__key': last('age')})], judged_by='f1')"
         "(lambda: None)", "'__key'"),
        ("FeatureView('v', visits, features={'a': total('hours', over='999999999d')})", "thousand years"),
    ],
    ids=["syntax", "exception", "exit", "NUL", "chdir", "model name", "feature name", "endless window"],
)  # fmt: skip
def test_a_project_that_cannot_be_imported(place: Place, code: str, why: str) -> None:
    place.add("\n" + code + "\n")
    with unchanged(place):
        said = place.ingest()
        assert said.code == 2
        said.says(why, "project.py")
    assert place.quick("status").code == 0, "what runs none of the user's code goes on"
    assert place.quick("promote", "2", "--model", "left", "--why", "x").code == 0


def test_what_a_project_prints_or_changes_does_not_reach_the_answer(place: Place) -> None:
    place.add("\nprint('hello'); import os; os.chdir('/')\n")
    said = place.run("ingest", "--from", str(place.month), "--as-of", "2024-02-29")
    assert (said.code, len(said.answer["tables"])) == (0, 4)
    assert "hello" in said.errors


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("project = ", "not TOML"),
        ("[gatess]\nfloor = 1", "did you mean `gates`"),
        ("[gates]\nfloor = 3", "it must be a table"),
        ("[gates]\nfloor = { roc_auc = nan }", "`gates.floor.roc_auc` is nan"),
        ('[policy]\npromotion = "yolo"', "one of manual, approval, automatic, risk"),
    ],
    ids=["syntax", "unknown table", "wrong type", "not a number", "unknown word"],
)
def test_settings_that_say_nothing_sensible(place: Place, text: str, why: str) -> None:
    (place.root / "ecluse.toml").write_text(text)
    with unchanged(place):
        said = place.quick("promote", "2", "--model", "left", "--why", "x")
        assert said.code == 2
        said.says(why, "ecluse.toml")


def test_settings_that_cannot_be_read(place: Place) -> None:
    (place.root / "ecluse.toml").unlink()
    (place.root / "ecluse.toml").mkdir()
    said = place.quick("status")
    assert said.code == 6
    said.says("ecluse.toml")


# -- arguments --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ("ingest --from nowhere --as-of 2024-02-29", 2),
        ("ingest --from in/2024-02-29 --as-of 9999-12-31T23:59:59-12:00", 2),
        ("ingest --from in/2024-02-29 --as-of 2094-01-01", 2),
        ("gate 99999999999999999999999 --model left", 2),
        ("promote 7 --model left --why x", 4),
        ("rollback --model left --why x", 5),
        ("promote 2 --model left --why=", 2),
        ("clock frob", 2),
        ("clock set", 2),
        ("monitor --model left --period 0d", 2),
        ("monitor --model left --last 0", 2),
        ("runs --sort nope", 2),
        ("versions --stage nope", 2),
        ("predict person=p0001 --url http://localhost:99999", 2),
        ("predict person=p0001 --url http://127.0.0.1:9", 6),
        ("predict [1]", 2),
        ("status --profile nope", 2),
    ],
)
def test_arguments_that_cannot_be_meant(
    released: Path, arguments: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(released)
    monkeypatch.chdir(released)
    with unchanged(place):
        said = place.quick(*arguments.split())
        assert said.code == code, said
        assert said.answer["error"]["what"]


@pytest.mark.parametrize("out", ["d.csv", "/proc/nowhere/x.csv"])
def test_a_file_that_cannot_be_written(place: Place, out: str) -> None:
    (place.root / "d.csv").mkdir()
    said = place.quick("score", "--model", "left", "--out", str(place.root / out))
    assert said.code == 6
    said.says("disk")
    assert not list(place.root.glob(".*.tmp"))


def test_a_data_clock_can_be_set_before_any_data(tmp_path: Path) -> None:
    root = tmp_path / "small"
    shutil.copytree(PROJECT, root, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "ecluse.toml").write_text('[time]\nnow = "data"\n')
    place = Place(root)
    assert place.quick("clock", "set", "2024-01-31").code == 0
    back = place.quick("clock", "set", "2023-01-31")
    assert back.code == 5
    back.says("before the clock")
