"""Bad input through the real command line on a real project: the exit code, what it says, and that nothing is lost or half-written."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.projects.small_data import PROJECT, write_month
from tests.serving.house import environment, other_sealer

from ecluse.adapters.bundles_files import BundlesFiles
from ecluse.adapters.database.sqlite import SqliteState
from ecluse.cli.main import app
from ecluse.core.codec import canonical
from ecluse.core.event import broken_at

LOGINS = """
from ecluse import Instant

logins = Table("logins", key=person, event_time="at", columns={"at": Instant(), "device": Category(["tv", "phone"])})
"""
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


@dataclass(frozen=True)
class Said:
    """How a command ended, and the one JSON document it printed."""

    code: int
    answer: Any
    errors: str

    def says(self, *parts: str) -> None:
        """An error of ours: what, and a cure; ``parts`` are somewhere in it."""
        error = self.answer["error"]
        assert error["what"]
        assert error["cure"]
        text = json.dumps(error, ensure_ascii=False)
        assert not [part for part in parts if part not in text], text


@dataclass(frozen=True)
class Place:
    """A project folder, and what it holds."""

    root: Path

    @property
    def home(self) -> Path:
        return self.root / ".ecluse" / "dev"

    @property
    def month(self) -> Path:
        """The second month's files, not ingested."""
        return self.root / "in" / "2024-02-29"

    def run(self, *arguments: str, **variables: str) -> Said:
        command = [sys.executable, "-m", "ecluse", *arguments, "--project", str(self.root), "--json"]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=60, env={**environment(), **variables}, check=False
        )
        assert "Traceback" not in done.stderr + done.stdout, done.stderr
        answer = json.loads(done.stdout) if done.stdout.startswith(("{", "[")) else None
        return Said(done.returncode, answer, done.stderr)

    def quick(self, *arguments: str) -> Said:
        """The same in this process, for long tables of cases; the code between the command line and the answer is the same."""
        out, errors, log = io.StringIO(), io.StringIO(), logging.getLogger("ecluse")
        before = log.handlers[:], log.level
        with redirect_stdout(out), redirect_stderr(errors), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pytest.raises(SystemExit) as ended:
                app.typer([*arguments, "--project", str(self.root), "--json"])
        log.handlers[:], log.level = before
        assert "Traceback" not in out.getvalue() + errors.getvalue()
        assert isinstance(ended.value.code, int)
        return Said(ended.value.code, json.loads(out.getvalue()), errors.getvalue())

    def ingest(self) -> Said:
        return self.quick("ingest", "--from", str(self.month), "--as-of", "2024-02-29")

    def facts(self) -> list[str]:
        """The kinds of all facts, oldest first; the chain must be whole."""
        rows = list(SqliteState(self.home / "state.db").ledger())
        assert broken_at(rows) is None
        return [row.event.kind for row in rows]

    def holds(self) -> dict[str, bytes]:
        """Every file that says something; not SQLite's, locks and caches."""
        return {
            str(path.relative_to(self.home)): path.read_bytes()
            for path in self.home.rglob("*")
            if path.is_file() and ".db" not in path.name and path.suffix != ".lock" and "cache" not in path.parts
        }

    def add(self, code: str) -> None:
        with (self.root / "project.py").open("a") as file:
            file.write(code)


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small project with one month, version 1 of ``left`` in Production and version 2 in Staging."""
    root = tmp_path_factory.mktemp("bad") / "small"
    shutil.copytree(PROJECT, root, ignore=shutil.ignore_patterns("__pycache__"))
    place = Place(root)
    place.add(LOGINS)
    settings = (root / "ecluse.toml").read_text()  # so few rows decide nothing between two versions
    (root / "ecluse.toml").write_text(settings.replace("[gates]", "[gates]\nnon_regression = { may_lose = 0.5 }"))
    for seed, as_of in enumerate((datetime(2024, 1, 31, tzinfo=UTC), datetime(2024, 2, 29, tzinfo=UTC))):
        folder = write_month(root / "in", as_of, people=240, seed=seed)
        stamps = [f"{as_of:%Y-%m}-01" + (f"T0{i % 10}:00:00Z" if i % 10 else "") for i in range(240)]
        frame = pl.DataFrame({"person": [f"p{i:04}" for i in range(240)], "at": stamps, "device": ["tv"] * 240})
        frame.write_csv(folder / "logins.csv")
    assert place.quick("ingest", "--from", str(root / "in" / "2024-01-31"), "--as-of", "2024-01-31").code == 0
    assert place.quick("train", "--model", "left", "--no-plots").code == 0
    assert place.quick("gate", "1", "--model", "left").code == 0
    assert place.quick("promote", "1", "--model", "left", "--why", "first").code == 0
    assert place.quick("train", "--model", "left", "--set", "trees=30", "--no-plots").code == 0
    assert place.quick("gate", "2", "--model", "left").code == 0
    return root


@pytest.fixture
def place(released: Path, tmp_path: Path) -> Place:
    return Place(Path(shutil.copytree(released, tmp_path / "small", symlinks=True)))


@contextlib.contextmanager
def unchanged(place: Place, *new: str) -> Iterator[None]:
    """Within, files stay what they are, and the ledger grows by facts of the kinds ``new`` only."""
    facts, files = place.facts(), place.holds()
    yield
    assert place.facts() == [*facts, *new]
    assert place.holds() == files


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


# -- the state, the disk, other processes -----------------------------------------------------------------------------


def test_a_database_that_is_locked(place: Place) -> None:
    with unchanged(place):
        holder = sqlite3.connect(place.home / "state.db", isolation_level=None)
        holder.execute("BEGIN EXCLUSIVE")
        said = place.run("promote", "2", "--model", "left", "--why", "x")
        holder.close()
        assert said.code == 6
        said.says("locked", "state.db")
    assert place.run("promote", "2", "--model", "left", "--why", "x").code == 0, "and then it goes on"


@pytest.mark.parametrize(("damage", "code"), [("gone", 6), ("empty", 6), ("garbage", 7)])
def test_a_database_that_is_gone_or_damaged(place: Place, damage: str, code: int) -> None:
    path = place.home / "state.db"
    for each in place.home.glob("state.db*"):
        each.unlink()
    if damage != "gone":
        path.write_bytes(b"" if damage == "empty" else os.urandom(9_000))
    before = path.read_bytes() if path.exists() else None
    files = place.holds()
    for arguments in (("status",), ("rollback", "--model", "left", "--why", "x")):
        said = place.quick(*arguments)
        assert said.code == code, said
        said.says("state.db", "restore")
    assert place.ingest().code == code
    if damage == "gone":
        place.run("serve", "--port", "0").says("state.db", "restore")
    assert (path.read_bytes() if path.exists() else None) == before, "no empty state is begun beside what is published"
    assert place.holds() == files


def test_a_snapshot_that_is_gone(place: Place) -> None:
    shutil.rmtree(place.home / "snapshots" / "visits")
    said = place.quick("train", "--model", "left", "--no-plots")
    assert said.code == 4
    said.says("visits", "backup")


@pytest.fixture
def small_disk(place: Place) -> Iterator[Place]:
    """The project's state on a disk of its own of 6 MB, filled to the last byte."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("needs root to mount a small disk")
    state, beside = place.root / ".ecluse", place.root / "kept"
    state.rename(beside)
    state.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(state)], capture_output=True).returncode:
        pytest.skip("this machine does not let us mount")
    try:
        shutil.copytree(beside, state, dirs_exist_ok=True)
        yield place
    finally:
        subprocess.run(["umount", "-l", str(state)], check=True)


def fill(place: Place) -> Path:
    ballast = place.root / ".ecluse" / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4_096)
    return ballast


def test_a_full_disk(small_disk: Place) -> None:
    place = small_disk
    place.facts()
    ballast = fill(place)
    files = place.holds()
    commands = [
        ("ingest", "--from", str(place.month), "--as-of", "2024-02-29"),
        ("train", "--model", "left", "--set", "trees=40", "--no-plots"),
        ("promote", "2", "--model", "left", "--why", "x"),
    ]
    for command in commands:
        said = place.run(*command)
        assert said.code == 6, (command, said)
        said.says("disk")
    assert place.holds() == files
    ballast.unlink()
    kinds = place.facts()
    for command in commands:
        assert place.run(*command).code == 0, "with space again the same command does all of it"
    assert set(place.facts()[len(kinds) :]) >= {"data.ingested", "run.finished", "version.promoted"}


def test_a_disk_that_may_only_be_read(small_disk: Place) -> None:
    place = small_disk
    facts, files = place.facts(), place.holds()
    subprocess.run(["mount", "-o", "remount,ro", str(place.root / ".ecluse")], check=True)
    try:
        for command in (
            ("ingest", "--from", str(place.month), "--as-of", "2024-02-29"),
            ("promote", "2", "--model", "left", "--why", "x"),
            ("serve", "--port", "0"),
        ):
            said = place.run(*command)
            assert said.code == 6, (command, said)
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(place.root / ".ecluse")], check=True)
    assert (place.facts(), place.holds()) == (facts, files)


def test_a_training_that_is_killed(place: Place) -> None:
    """Killed when its bundle is stored and its run not yet recorded, or just recorded: every run there is can be opened."""
    facts, bundles = place.facts(), set((place.home / "bundles").iterdir())
    command = [sys.executable, "-m", "ecluse", "train", "--model", "tier", "--no-plots", "-C", str(place.root)]
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and set((place.home / "bundles").iterdir()) == bundles:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    assert process.wait() in (-signal.SIGKILL, 0), "on a busy machine it may have ended first"
    assert place.facts()[len(facts) :] in ([], ["run.finished"], ["run.finished", "version.registered"])
    assert place.quick("train", "--model", "tier", "--no-plots").code == 0
    for run in SqliteState(place.home / "state.db").runs():
        assert BundlesFiles(place.home / "bundles").get(run.bundle).digest == run.bundle


def test_two_ingests_at_once(place: Place) -> None:
    command = [sys.executable, "-m", "ecluse", "ingest", "--from", str(place.month), "--as-of", "2024-02-29", "--json"]
    command += ["-C", str(place.root)]
    running = [
        subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in "abc"
    ]
    ended = [(each.communicate()[0], each.returncode) for each in running]
    assert {code for _, code in ended} <= {0, 5}
    assert 0 in {code for _, code in ended}
    assert place.facts().count("data.ingested") == 8
    for out, code in ended:
        if code == 5:
            Said(code, json.loads(out), "").says("another ingest is running")


def test_a_port_in_use(place: Place) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        done = place.run("serve", "--port", str(other.getsockname()[1]))
    assert done.code == 5
    assert "--port" in done.errors


@pytest.mark.parametrize("port", ["99999", "-5"])
def test_a_port_that_is_none(place: Place, port: str) -> None:
    done = place.run("serve", "--port", port)
    assert done.code == 2
    assert "65535" in done.errors


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
        ('[policy]\npromotion = "yolo"', "one of manual, automatic"),
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
