"""Every command in one small churn project: exit codes, the keys docs/cli.md promises, errors that name what, where and cure."""

import csv
import json
import re
from pathlib import Path

import polars as pl
import pytest
from tests.cli import documents
from tests.cli.terminal import ecluse, ingest_all, small_project

from ecluse.adapters.journal_files import Journal


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five months ingested, version 1 in Production, version 2 a candidate with other leaves."""
    folder = small_project(tmp_path_factory.mktemp("cli") / "streaming")
    ingest_all(folder)
    for words in (
        ("materialize",),
        ("train", "--no-plots"),
        ("gate", 1),
        ("promote", 1, "--why", "the first"),
        ("train", "--no-plots", "--register", "--set", "leaves=15"),
    ):
        said = ecluse(*words, project=folder)
        assert said.code == 0, (words, said)
    return folder


READING: dict[str, tuple[object, ...]] = {
    "doctor": ("doctor",),
    "check": ("check", "--from", "data/2024-05", "--as-of", "2024-05-31"),
    "ingest": ("ingest", "--from", "data/2024-05", "--as-of", "2024-05-31"),
    "materialize": ("materialize",),
    "backfill": ("backfill", "--from", "2024-05-01", "--to", "2024-05-31", "--view", "support"),
    "clock": ("clock",),
    "runs": ("runs",),
    "versions": ("versions",),
    "show": ("show", 1, "--against", 2),
    "gate": ("gate", 1, "--dry-run"),
    "prune": ("prune", "--dry-run"),
    "score": ("score",),
    "outcomes": ("outcomes",),
    "loop status": ("loop", "status"),
    "status": ("status",),
    "history": ("history",),
    "mirror": ("mirror",),
    "journal verify": ("journal", "verify"),
    "train": ("train", "--dry-run"),
}


@pytest.mark.parametrize("command", READING)
def test_json_is_one_document_with_the_documented_keys(
    command: str, house: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(house)
    said = ecluse(*READING[command], "--json")
    assert said.code == 0, said
    keys = documents.keys(command)
    assert isinstance(said.json, list) if keys is None else keys <= set(said.json), said.out[:500]


@pytest.mark.parametrize("command", READING)
def test_people_get_text_and_progress_stays_off_stdout(
    command: str, house: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(house)
    said = ecluse(*READING[command])
    assert said.code == 0, said
    assert said.out.strip()
    assert not said.out.lstrip().startswith("{")
    assert "reading" not in said.out
    assert "training churn" not in said.out


WRONG: dict[str, tuple[int, tuple[object, ...]]] = {
    "no such folder": (2, ("ingest", "--from", "nowhere", "--as-of", "2024-06-30")),
    "no instant": (2, ("ingest", "--from", "data/2024-05", "--as-of", "tomorrow")),
    "no such table": (4, ("ingest", "--from", "data/2024-05", "--as-of", "2024-05-31", "--table", "nope")),
    "a moment to come": (2, ("materialize", "--at", "2099-01-01")),
    "no such model": (4, ("train", "-m", "nope")),
    "no such parameter": (2, ("train", "--set", "rate=1")),
    "no parameter at all": (2, ("train", "--set", "rate")),
    "outside its choice": (2, ("train", "--set", "leaves=x")),
    "not a number": (2, ("train", "--set", "learning_rate=NaN")),
    "no such version": (4, ("show", 99)),
    "no other version": (4, ("show", 1, "--against", 99)),
    "nothing to gate": (4, ("gate", 99)),
    "no report": (5, ("promote", 2, "--why", "hope")),
    "no reason": (2, ("promote", 2, "--why", " ")),
    "nothing to reject": (4, ("reject", 99, "--why", "x")),
    "nothing earlier": (5, ("rollback", "--why", "x")),
    "never in production": (5, ("rollback", "--to", 2, "--why", "x")),
    "no probability": (2, ("threshold", 2, 3, "--why", "x")),
    "nothing to hold": (4, ("hold", 99, "--why", "x")),
    "no such stage": (2, ("versions", "--stage", "nope")),
    "no such metric": (2, ("runs", "--sort", "nope")),
    "no comparison": (2, ("runs", "--where", "roc_auc~1")),
    "no number": (2, ("runs", "--where", "roc_auc>much")),
    "no such run": (4, ("versions", "--register", "nope")),
    "no such ending": (2, ("score", "--out", "scores.txt")),
    "no window": (2, ("monitor", "--last", 0)),
    "no duration": (2, ("monitor", "--period", "1x")),
    "no server": (6, ("predict", "user_id=u000001", "--url", "http://127.0.0.1:9")),
    "no address": (2, ("predict", "user_id=u000001", "--url", "ftp://x")),
    "no field": (2, ("predict", "u000001")),
    "no JSON": (2, ("predict", "{user_id")),
    "no such worker": (4, ("journal", "read", "--worker", "nobody")),
    "no such kind": (2, ("journal", "read", "--kind", "nope")),
    "no format": (2, ("journal", "export", "all.csv")),
    "no journal head": (2, ("journal", "verify", "--head", "w1")),
    "nobody to erase": (4, ("journal", "erase", "--entity", "nobody", "--why", "x")),
    "no head": (2, ("history", "--verify", "abc")),
    "no clock action": (2, ("clock", "stop")),
    "no moment to set": (2, ("clock", "set")),
    "time goes on": (5, ("clock", "set", "2020-01-01")),
    "no such profile": (2, ("status", "--profile", "qa")),
    "no sealing key": (4, ("status", "--profile", "prod")),
}


@pytest.mark.parametrize("case", WRONG)
def test_an_error_says_what_and_what_to_do_and_changes_nothing(
    case: str, house: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(house)
    code, words = WRONG[case]
    before = facts()
    said = ecluse(*words, "--json")
    assert said.code == code, said
    assert set(said.error) == {"kind", "what", "where", "cure"}
    assert said.error["what"]
    assert said.error["cure"]
    told = ecluse(*words)
    assert told.code == code
    assert told.out == ""
    assert f"error: {said.error['what']}" in told.err
    assert f"do:    {said.error['cure']}" in told.err
    refused = (
        ["release.refused"] * 2 if case == "no report" else []
    )  # who asked for a release that the rules forbid is told
    assert facts() == [*before, *refused]


def facts() -> list[str]:
    """The kinds of all facts in the ledger."""
    return [row["event"]["kind"] for row in ecluse("history", "--limit", 0, "--json").json["rows"]]


@pytest.mark.parametrize(
    "words",
    [
        ("promote", 1),
        ("gate", "x"),
        ("gate",),
        ("status", "--nope"),
        ("history", "--limit", -1),
        ("nope",),
        ("runs", "-n", 0),
    ],
)
def test_wrong_usage_is_exit_2_and_leaves_stdout_alone(words: tuple[object, ...], house: Path) -> None:
    said = ecluse(*words, "--json", project=house)
    assert said.code == 2
    assert said.out == ""
    assert said.err


def test_outside_a_project_every_command_says_so(tmp_path: Path) -> None:
    said = ecluse("status", "--json", project=tmp_path)
    assert (said.code, said.error["kind"]) == (4, "NotFound")
    assert "ecluse init" in said.error["cure"]


def test_doctor_finds_the_missing_project(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        said = ecluse("doctor", "--json", project=folder)
        assert said.code == 3
        failed = {finding["check"] for finding in said.json if finding["outcome"] == "failed"}
        assert "project" in failed


def test_runs_are_filtered_sorted_and_limited(house: Path) -> None:
    every = ecluse("runs", "--json", project=house).json
    leaves = ecluse("runs", "--where", "leaves=15", "--json", project=house).json
    assert [run["parameters"]["leaves"] for run in leaves] == [15]
    assert ecluse("runs", "--where", "roc_auc>2", "--json", project=house).json == []
    assert len(ecluse("runs", "--limit", 1, "--json", project=house).json) == 1
    for metric, best_first in (("roc_auc", True), ("-roc_auc", False), ("log_loss", False), ("-log_loss", True)):
        name = metric.lstrip("-")
        values = [
            run["metrics"]["validation"][name] for run in ecluse("runs", "--sort", metric, "--json", project=house).json
        ]
        assert values == sorted(values, reverse=best_first), metric
        assert len(values) == len(every)


def test_versions_are_sorted_and_filtered_by_stage(house: Path) -> None:
    assert [v["number"] for v in ecluse("versions", "--json", project=house).json][-1] == 1
    served = ecluse("versions", "--stage", "production", "--json", project=house).json
    assert [v["number"] for v in served] == [1]
    table = ecluse("versions", "--sort", "-roc_auc", project=house).out
    assert table.splitlines()[0].split()[4] == "roc_auc"


def test_show_puts_another_version_beside(house: Path) -> None:
    text = ecluse("show", 1, "--against", 2, project=house).out
    assert "validation of 2" in text
    assert "may version 1 of churn be promoted" in text


def test_a_dry_run_of_the_gate_answers_and_records_nothing(house: Path) -> None:
    before = ecluse("history", "--head", project=house).out
    said = ecluse("gate", 2, "--dry-run", "--json", project=house)
    findings = said.json["verdict"]["findings"]
    assert said.code == (0 if all(f["outcome"] == "passed" for f in findings) else 3)
    assert {"floor", "non_regression", "baseline", "gap", "leakage"} <= {f["check"] for f in findings}
    assert ecluse("history", "--head", project=house).out == before
    assert ecluse("show", 2, "--json", project=house).json["report"] is None


def test_a_drill_is_refused_with_exit_3_and_reasons(house: Path) -> None:
    trained = ecluse("train", "--drill", "--no-plots", "--json", project=house)
    assert trained.code == 0, trained
    number = trained.json["version"]["number"]
    said = ecluse("gate", number, project=house)
    assert said.code == 3
    assert "may not be promoted" in said.out
    assert re.search(r"^NO +floor", said.out, re.M)
    refused = ecluse("promote", number, "--why", "hope", "--json", project=house)
    assert (refused.code, refused.error["kind"]) == (5, "NotAllowed")
    assert ecluse("reject", number, "--why", "a drill", project=house).code == 0


def test_the_threshold_is_changed_and_changed_back(house: Path) -> None:
    before = ecluse("show", 1, "--json", project=house).json["version"]["threshold"]
    assert ecluse("threshold", 1, 0.3, "--why", "fewer calls", "--json", project=house).json["threshold"] == 0.3
    assert ecluse("threshold", 1, before, "--why", "back", "--json", project=house).json["threshold"] == before


def test_a_held_version_is_not_pruned(house: Path) -> None:
    assert ecluse("hold", 1, "--why", "audit", "--json", project=house).json["held"] is True
    said = ecluse("prune", "--dry-run", "--json", project=house)
    assert 1 not in [version["number"] for version in said.json["versions"]]
    assert ecluse("hold", 1, "--why", "over", "--release", "--json", project=house).json["held"] is False


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_scores_are_written_best_first(ending: str, house: Path, tmp_path: Path) -> None:
    out = tmp_path / "made" / f"scores.{ending}"
    said = ecluse("score", "--out", out, "-n", 3, "--json", project=house)
    frame = pl.read_csv(out) if ending == "csv" else pl.read_parquet(out)
    assert frame.height == said.json["scored"]
    assert len(said.json["top"]) == 3
    assert frame["score"].is_sorted(descending=True)
    assert said.json["top"][0]["key"] == frame["key"][0]


def test_scores_that_cannot_be_written_are_an_error(house: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    said = ecluse("score", "--out", tmp_path / "file" / "scores.csv", "--json", project=house)
    assert said.code == 6
    assert said.error["cure"]


def test_the_journal_is_verified_read_exported_erased_and_pruned(house: Path, tmp_path: Path) -> None:
    """Of another model than the one whose monitor would keep its newest predictions however old they are."""
    root = house / ".ecluse" / "dev" / "journal"
    times = [f"{year}-05-0{day}T00:00:00.000000Z" for year in (2020, 2024) for day in (1, 2, 3)]
    with Journal.open(root, "test", durability="process", segment_bytes=400) as journal:
        for number, at in enumerate(times):
            record = {
                "kind": "prediction",
                "time": at,
                "model": "other",
                "entity": f"u{number}",
                "request_id": str(number),
            }
            journal.append(json.dumps(record).encode())
    head = ecluse("journal", "verify", "--json", project=house).json["heads"]["test"]
    assert ecluse("journal", "verify", "--head", head, project=house).code == 0
    read = ecluse("journal", "read", "--worker", "test", "--since", "2024-01-01", "--last", 2, "--json", project=house)
    assert [each["time"] for each in read.json] == times[-2:]
    lines = ecluse("journal", "read", "--until", "2021-01-01", project=house).out.splitlines()
    assert [json.loads(line)["entity"] for line in lines] == ["u0", "u1", "u2"]
    out = tmp_path / "all.parquet"
    assert ecluse("journal", "export", out, "--worker", "test", "--json", project=house).json["records"] == 6
    assert pl.read_parquet(out)["entity"].to_list() == [f"u{each}" for each in range(6)]
    erased = ecluse("journal", "erase", "--entity", "u4", "--why", "asked for", "--json", project=house)
    assert erased.json == {"records": {"test": [5]}, "quarantined": []}
    (gone,) = ecluse("prune", "--json", project=house).json["journal"]
    assert gone["records"] in (2, 3)
    assert ecluse("journal", "verify", "--head", head, "--json", project=house).json["problems"] == []
    left = ecluse("journal", "read", "--worker", "test", "--since", "2021-01-01", "--json", project=house).json
    assert [each["entity"] for each in left] == ["u3", "u5"]
    newest = sorted((root / "test").glob("*.seg"))[-1]
    whole = newest.read_bytes()
    newest.write_bytes(whole[:-1] + b"!")
    broken = ecluse("journal", "verify", "--json", project=house)
    newest.write_bytes(whole)
    assert (broken.code, len(broken.json["problems"])) == (3, 1)


def test_the_head_of_the_ledger_verifies_and_another_does_not(house: Path) -> None:
    head = ecluse("history", "--head", project=house).out.strip()
    rows = ecluse("history", "--head", "--json", project=house).json
    assert rows["head"] == head
    assert ecluse("history", "--verify", head, "--json", project=house).json["broken_at"] is None
    forged = ecluse("history", "--verify", head[:-1] + ("0" if head[-1] != "0" else "1"), "--json", project=house)
    assert forged.code == 3
    assert forged.json["broken_at"] is not None


def test_history_is_narrowed_by_kind_model_and_number(house: Path) -> None:
    said = ecluse("history", "--kind", "data", "--limit", 3, "--json", project=house)
    assert [row["event"]["kind"] for row in said.json["rows"]] == ["data.ingested"] * 3
    every = ecluse("history", "--limit", 0, "--model", "churn", "--json", project=house).json["rows"]
    assert {row["event"]["model"] for row in every} == {"churn"}
    promoted = next(row["event"] for row in every if row["event"]["kind"] == "version.promoted")
    assert promoted["reason"] == "the first"
    assert promoted["actor"]


def test_the_same_data_again_is_the_same_snapshot(house: Path) -> None:
    words = ("ingest", "--from", house / "data/2024-05", "--as-of", "2024-05-31", "--json")
    first, again = (ecluse(*words, project=house).json["tables"] for _ in range(2))
    assert [t["snapshot"]["digest"] for t in first] == [t["snapshot"]["digest"] for t in again]


def test_a_table_that_breaks_its_contract_is_exit_3_and_nothing_is_ingested(house: Path, tmp_path: Path) -> None:
    source = house / "data/2024-05/payments.csv"
    with source.open(newline="", encoding="utf-8") as rows:
        kept = [{k: v for k, v in row.items() if k != "amount"} for row in csv.DictReader(rows)]
    with (tmp_path / "payments.csv").open("w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, list(kept[0]))
        writer.writeheader()
        writer.writerows(kept)
    before = ecluse("status", "--json", project=house).json["tables"]
    said = ecluse("ingest", "--from", tmp_path, "--as-of", "2024-05-31", "--table", "payments", project=house)
    assert said.code == 3
    assert "amount" in said.out
    assert ecluse("status", "--json", project=house).json["tables"] == before


def test_the_clock_moves_on_a_release_comes_and_goes(tmp_path: Path, house: Path) -> None:
    assert ecluse("clock", "set", "2024-06-01", "--json", project=house).json["now"].startswith("2024-06-01")
    assert ecluse("gate", 2, project=house).code in (0, 3)
    said = ecluse("promote", 2, "--why", "a trial", "--override", "ana", "--json", project=house)
    assert (said.code, said.json["champion"]) == (0, 2), said
    back = ecluse("rollback", "--why", "enough", "--json", project=house)
    assert (back.code, back.json["champion"]) == (0, 1)
    assert ecluse("rollback", "--why", "again", project=house).code == 5
    kinds = [row["event"]["kind"] for row in json.loads(ecluse("history", "--json", project=house).out)["rows"]]
    assert kinds[-1] == "version.rolled_back"


def test_what_waits_for_the_loop_is_told(house: Path) -> None:
    said = ecluse("loop", "status", "--json", project=house)
    assert {row["event"]["kind"] for row in said.json["waiting"]} <= {
        "run.finished",
        "version.registered",
        "version.gated",
    }
    text = ecluse("loop", "status", project=house).out
    assert f"{len(said.json['waiting'])} events wait for `ecluse loop run`" in text


def test_a_monitor_without_predictions_is_inconclusive_and_no_breach(house: Path) -> None:
    said = ecluse("monitor", "--json", project=house)
    assert said.code == 0
    assert {finding["outcome"] for finding in said.json["verdict"]["findings"]} == {"inconclusive"}
    assert said.json["event"] is None
