"""The commands about incidents, objectives and those who are told, over a project."""

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.projects.small_data import PROJECT, write_month

from ecluse.app import App, open_app
from ecluse.cli.main import app as cli
from ecluse.core.event import Event
from ecluse.core.instants import format_instant
from ecluse.loop.asking import sign
from ecluse.loop.rerun import rerun
from ecluse.loop.retrain import train

MONTHS = (datetime(2024, 1, 31, tzinfo=UTC), datetime(2024, 2, 29, tzinfo=UTC))
SECRET = "a secret of thirty-two characters"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("incidents") / "small"
    shutil.copytree(PROJECT, folder)
    made = open_app(folder)
    for seed, month in enumerate(MONTHS):
        assert made.ingest(write_month(folder.parent / "data", month, seed=seed), month).passed
    return folder


@pytest.fixture
def project(root: Path, tmp_path: Path) -> App:
    return open_app(Path(shutil.copytree(root, tmp_path / "small")))


def run(project: App, *words: str, capsys: Any) -> tuple[int, Any]:
    with pytest.raises(SystemExit) as ended:
        cli.typer([*words, "--project", str(project.root), "--json"], standalone_mode=False)
    return int(ended.value.code or 0), json.loads(capsys.readouterr().out)


def tell(project: App, kind: str, version: int, **evidence: Any) -> int:
    event = Event(kind, MONTHS[1], "loop", "left", version, "breaches errors", evidence)
    return project.world.state.append(event).sequence


def test_incidents_are_listed_with_their_end(project: App, capsys: Any) -> None:
    assert run(project, "incidents", "list", capsys=capsys) == (0, [])
    first = tell(project, "incident.opened", 2, to=1, answers=56, failures={"not_finite": 12})
    tell(project, "version.rolled_back", 1)
    tell(project, "incident.closed", 2)
    second = tell(project, "incident.opened", 3, to=1)
    code, found = run(project, "incidents", "list", capsys=capsys)
    assert code == 0
    assert [(each["number"], each["state"]) for each in found] == [(second, "open"), (first, "closed")]
    assert found[1]["failures"] == {"not_finite": 12}
    assert found[1]["seconds"] is not None


def test_a_signed_report_is_taken(project: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    body = json.dumps({"id": "1", "model": "left", "why": "orders fell"}).encode()
    (tmp_path / "report.json").write_bytes(body)
    words = ("incidents", "report", str(tmp_path / "report.json"), "--signature")
    assert run(project, *words, sign(body, SECRET), capsys=capsys)[0] == 5  # no secret is set
    monkeypatch.setenv("ECLUSE_TRIGGER_SECRET", SECRET)
    assert run(project, *words, "sha256=00", capsys=capsys)[0] == 5
    code, row = run(project, *words, sign(body, SECRET), capsys=capsys)
    assert (code, row["event"]["kind"]) == (0, "incident.reported")


def test_a_look_and_a_turn_of_telling_find_nothing_to_do(project: App, capsys: Any) -> None:
    assert run(project, "incidents", "check", capsys=capsys) == (0, [])
    assert run(project, "notify", "send", capsys=capsys) == (0, {"told": 0, "failed": []})


def test_rules_and_routes_are_written(project: App, tmp_path: Path, capsys: Any) -> None:
    code, told = run(project, "slo", "rules", "--out", str(tmp_path / "rules.yml"), capsys=capsys)
    assert code == 0
    assert "EcluseNoData" in told["alerts"]
    assert (tmp_path / "rules.yml").read_text().startswith('"groups":')
    out = str(tmp_path / "am.yml")
    assert run(project, "slo", "alertmanager", "--out", out, "--webhook", "https://h/x", capsys=capsys)[0] == 0
    assert run(project, "slo", "alertmanager", "--out", out, "--webhook", "nothing", capsys=capsys)[0] == 2
    assert run(project, "slo", "status", capsys=capsys)[0] == 6  # no server answers


def test_a_run_again_gives_the_same_bundle_and_says_what_changed(project: App, capsys: Any) -> None:
    made = train(
        project.world, project.project, project.settings, "left", actor="ana", moment=datetime(2024, 6, 1, tzinfo=UTC)
    )
    assert made.run is not None
    before = len(list(project.world.state.ledger()))
    code, told = run(project, "loop", "rerun", made.run.id[:12], capsys=capsys)
    assert code == 0, told
    assert told["bundle"] == made.run.bundle
    assert [each["check"] for each in told["verdict"]["findings"]] == ["recipe", "dataset", "bundle"]
    assert len(list(project.world.state.ledger())) == before
    with (project.root / "project.py").open("a") as stream:
        stream.write("\n# another source is another recipe\n")
    changed = open_app(project.root)
    again = rerun(changed.world, changed.project, changed.settings, made.run.id, actor="ana")
    assert [f.check for f in again.verdict.failed] == ["recipe", "bundle"], format_instant(made.run.started)
