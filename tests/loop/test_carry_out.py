"""Carrying out: what a training process that dies without a word leaves in the ledger."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.loop.worlds import MODEL, NOW, SETTINGS, world_in

from ecluse.core.event import Event
from ecluse.loop.carry_out import Hands, carry_out
from ecluse.loop.commands import Retrain
from ecluse.testing.twins import VirtualTime


def _do(name: str, work: Callable[[], Any]) -> Any:
    return work()


def test_a_training_that_dies_without_a_word_has_cost_its_time(tmp_path: Path) -> None:
    world = world_in(tmp_path, clock=VirtualTime(NOW))
    (tmp_path / "project.py").write_text("import os, time\ntime.sleep(0.5)\nos._exit(9)\n")
    asked = world.state.append(Event("trigger.raised", NOW, "ana", MODEL, evidence={"trigger": "manual"}))
    hands = Hands(world, None, SETTINGS, _do, asked.sequence)  # type: ignore[arg-type]
    carry_out(hands, Retrain(MODEL, asked.sequence, "because"), None)
    failed = list(world.state.ledger())[-1].event
    assert failed.kind == "run.failed"
    assert "code 9" in failed.reason
    assert 0.5 <= failed.evidence["seconds"] < 60
