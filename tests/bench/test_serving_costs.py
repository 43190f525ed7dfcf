"""What durability and a start cost is still measured: both commands' parts run once, small. Nothing is timed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from bench.serving import power, start
from bench.serving.run import How

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc and pins to CPUs")


def test_durability(tmp_path: Path) -> None:
    disk, found = power.measure(tmp_path, How(tmp_path, seconds=1, rounds=1, connections=8), trees=5)
    assert [len(costs) for costs in disk.values()] == [1, 1]
    assert list(found.loads) == ["process", "power"]
    assert [each.failed for loads in found.loads.values() for each in loads] == [0, 0]
    assert power.table(disk, found).count("\n") == 5


def test_start(tmp_path: Path) -> None:
    (found,) = start.measure(tmp_path, rounds=1, trees=5)
    assert found.seconds > 0
    assert 20 < found.ready_mb < found.loaded_mb * 1.5
