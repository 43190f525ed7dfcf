"""`ecluse approve` and `ecluse policy explain`, as a person meets them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.cli.terminal import ecluse
from tests.conftest import ROOT
from tests.loop.worlds import candidate

from ecluse.app import App, open_app

POLICY = """
[policy]
promotion = "risk"
tier = "high"

[approval]
approvers = ["role:risk", "ana"]
roles = { risk = ["bob", "eva"] }
checklist = ["segments", "costs"]
"""


@pytest.fixture
def app(tmp_path: Path) -> App:
    root = Path(shutil.copytree(ROOT / "tests/projects/small", tmp_path / "small"))
    (root / "ecluse.toml").write_text(POLICY)
    app = open_app(root)
    assert app.project.models
    candidate(app.world, "a", "left")
    return app


def say_as(who: str, app: App, patch: pytest.MonkeyPatch, *arguments: str) -> tuple[int, str]:
    patch.setenv("ECLUSE_LAUNCHED_BY", who)
    said = ecluse("approve", "1", "--why", "read it", "-m", "left", *arguments, project=app.root)
    return said.code, said.out + said.err


def test_people_approve_and_the_policy_explains(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    told = ecluse("policy", "explain", "1", "-m", "left", project=app.root).out
    assert "left: risk: high" in told
    assert "who may approve: ana, bob, eva, but not the author" in told
    assert "0 of 2 approvals; not checked: segments, costs" in told
    code, said = say_as("ana", app, monkeypatch)
    assert (code, "an author does not approve" in said) == (5, True)
    assert say_as("kim", app, monkeypatch)[0] == 5
    assert say_as("bob", app, monkeypatch, "--check", "nothing")[0] == 2
    assert say_as("bob", app, monkeypatch, "--check", "segments")[0] == 0
    assert "1 of 2 approvals (bob); not checked: costs" in ecluse("policy", "explain", project=app.root).out
    code, said = say_as("eva", app, monkeypatch, "--check", "costs")
    assert (code, "2 of 2 approvals (bob, eva); `ecluse loop run` releases it" in said) == (0, True)
    code, said = say_as("eva", app, monkeypatch, "--withdraw")
    assert (code, "eva says no" in said) == (0, True)
    [left, *_] = ecluse("policy", "explain", "--json", project=app.root).json["models"]
    assert [word["who"] for word in left["candidates"][0]["standing"]["against"]] == ["eva"]
    assert ecluse("promote", "1", "--why", "x", "-m", "left", project=app.root).code == 5


def test_an_override_is_told_on_stderr(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECLUSE_LAUNCHED_BY", "kim")
    said = ecluse("promote", "1", "--why", "outage", "--override", "kim", "-m", "left", project=app.root)
    assert said.code == 0
    assert "policy overridden" in said.err
    assert "policy.overridden" in ecluse("history", project=app.root).out


@pytest.mark.parametrize(("promotion", "words"), [("manual", "ecluse promote"), ("automatic", "as soon as it passed")])
def test_who_releases_without_approvals(app: App, promotion: str, words: str) -> None:
    (app.root / "ecluse.toml").write_text(f'[policy]\npromotion = "{promotion}"\n')
    assert words in ecluse("policy", "explain", "-m", "left", project=app.root).out
