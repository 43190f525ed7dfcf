"""Months that arrive in a bucket of an object store are taken once each, whoever is killed and however often they are sent."""

import os
import signal
import time
from pathlib import Path

import pytest
from tests.acceptance.standing import Standing, standing
from tests.acceptance.test_reaction import PROJECT, SETTINGS, month
from tests.adapters.object_store import SECRET, ObjectStore

from ecluse.core.event import broken_at

WATER = (
    SETTINGS.format(floor=0.7)
    + """
[loop]
warm = false
[sources.months]
drops = "s3://water/landing/*"
as_of = "month"
every = "1s"
settle = "1s"
"""
)


def _upload(store: ObjectStore, folder: Path, name: str) -> None:
    for path in sorted(folder.iterdir()):
        store.put("water", f"landing/{name}/{path.name}", path.read_bytes())


def _kill_the_loop(up: Standing) -> None:
    found = [
        pid for pid, command in up.children().items() if "ecluse.resident" in command and "ecluse.up" not in command
    ]
    assert found
    for pid in found:
        os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
def test_months_in_a_bucket_are_taken_once(object_store: ObjectStore, tmp_path: Path) -> None:
    root = tmp_path / "water"
    root.mkdir()
    (root / "project.py").write_text(PROJECT)
    (root / "ecluse.toml").write_text(WATER)
    for name, seed in (("january", 1), ("corrected", 2), ("february", 3)):
        month(tmp_path / name, flipped=False, seed=seed)
    _upload(object_store, tmp_path / "january", "2024-01")
    with standing(root, {}) as up:
        up.wait("a first fact", up.rows)
        _kill_the_loop(up)
        up.wait("January", lambda: up.rows("source.taken"))
        _upload(object_store, tmp_path / "january", "2024-01")
        _upload(object_store, tmp_path / "january", "sent-again-2024-01")
        _kill_the_loop(up)
        _upload(object_store, tmp_path / "corrected", "2024-01")
        up.wait("the correction", lambda: len(up.rows("source.taken")) == 2)
        _upload(object_store, tmp_path / "february", "2024-02")
        _kill_the_loop(up)
        up.wait("February", lambda: len(up.rows("source.taken")) == 3)
        time.sleep(1.5)
        taken = [str(row.event.evidence["drop"]) for row in up.rows("source.taken")]
        assert taken == ["landing/2024-01", "landing/2024-01", "landing/2024-02"]
        assert up.rows("source.refused") == []
        assert len({str(row.event.evidence["identity"]) for row in up.rows("source.taken")}) == 3
        assert broken_at(up.rows()) is None
    assert SECRET not in up.log.read_text()
    assert list((root / ".ecluse" / "dev" / "arriving").iterdir()) == []
