"""The contract of the ports Online and OnlineReads, as tests every adapter runs.

    class TestMine(OnlineSuite):
        @pytest.fixture
        def store(self): ...   # Online, empty

        @pytest.fixture
        def reads(self): ...   # OnlineReads of the same store

``reads`` is used on one event loop, that of ``runner``.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecluse.core.errors import EcluseError, Unavailable
from ecluse.core.ports import Online, OnlineReads, OnlineRow

ROW = OnlineRow(
    {"hours": 1.5, "plan": "Gold", "näme": "é\0\n", "trial": False, "since": 1_700_000_000_000_000, "none": None}, 10, 7
)
_fresh = itertools.count()


class OnlineSuite:
    """Newer is never overwritten by older, a write is whole or absent, both ports give the same answers."""

    @pytest.fixture
    def runner(self) -> Iterator[asyncio.Runner]:
        """The loop of ``reads``."""
        with asyncio.Runner() as runner:
            yield runner

    def test_before_the_first_write_a_reader_waits(self, reads: OnlineReads, runner: asyncio.Runner) -> None:
        with pytest.raises(Unavailable, match="ecluse materialize"):
            runner.run(reads.fetch(["profile"], "1"))
        with pytest.raises(Unavailable, match="ecluse materialize"):
            runner.run(reads.newest("profile"))

    def test_what_is_written_is_read_in_one_go(self, store: Online, reads: OnlineReads, runner: asyncio.Runner) -> None:
        assert store.write("profile", [("1", ROW), ("ключ\0 1", ROW)]) == (2, 0)
        assert store.write("usage", [("1", OnlineRow({}, 11, None))]) == (1, 0)
        wanted = {"profile": ROW, "usage": OnlineRow({}, 11, None)}
        assert store.read(["profile", "usage", "other"], "1") == wanted
        assert runner.run(reads.fetch(["profile", "usage", "other"], "1")) == wanted
        assert runner.run(reads.fetch(["profile"], "ключ\0 1")) == {"profile": ROW}
        assert runner.run(reads.fetch(["usage"], "2")) == store.read(["usage"], "2") == {}
        assert [store.moment("profile"), store.moment("other")] == [10, None]
        assert [runner.run(reads.newest(view)) for view in ("profile", "other")] == [10, None]

    def test_an_empty_batch_makes_the_store(self, store: Online, reads: OnlineReads, runner: asyncio.Runner) -> None:
        assert store.write("profile", []) == (0, 0)
        assert runner.run(reads.fetch(["profile"], "1")) == {}
        assert store.moment("profile") is None

    def test_older_values_never_replace_newer_ones(self, store: Online) -> None:
        older, same = OnlineRow({"x": 0.0}, 9, 1), OnlineRow({"x": 2.0}, 10, 1)
        store.write("v", [("1", ROW), ("2", ROW)])
        assert store.write("v", [("1", older), ("2", older), ("3", older)]) == (1, 2)
        assert store.read(["v"], "1") == {"v": ROW}
        assert store.moment("v") == 10
        assert store.write("v", [("1", same)]) == (1, 0), "the same moment computed again, with a correction"
        assert store.read(["v"], "1") == {"v": same}

    def test_what_stands_already_is_not_written_again(self, store: Online) -> None:
        rows = [(str(i), OnlineRow({"x": float(i)}, 10, None)) for i in range(2_500)]
        assert store.write("v", rows) == (2_500, 0)
        assert store.write("v", rows) == (0, 2_500)
        changed = [(key, OnlineRow({"x": -1.0}, 10, None)) if key == "7" else (key, row) for key, row in rows]
        assert store.write("v", changed) == (1, 2_499)
        assert store.read(["v"], "7") == {"v": OnlineRow({"x": -1.0}, 10, None)}

    def test_moments_of_this_century_keep_their_microseconds(self, store: Online) -> None:
        micros = 4_102_444_800_000_001  # 2100-01-01, a microsecond after midnight
        store.write("v", [("1", OnlineRow({"at": micros}, micros, micros - 1))])
        assert store.write("v", [("1", OnlineRow({}, micros - 1, None))]) == (0, 1)
        assert store.read(["v"], "1") == {"v": OnlineRow({"at": micros}, micros, micros - 1)}
        assert store.moment("v") == micros

    def test_the_newest_moment_wins_in_any_order(self, store: Online) -> None:
        @settings(max_examples=30)
        @given(st.lists(st.lists(st.tuples(st.sampled_from("ab"), st.integers(-3, 5)), max_size=4), max_size=6))
        def holds(batches: list[list[tuple[str, int]]]) -> None:
            _check_newest_wins(store, f"v{next(_fresh)}", batches)

        holds()

    def test_a_batch_that_cannot_be_written_leaves_nothing(self, store: Online) -> None:
        store.write("v", [("1", ROW)])
        bad = [(str(i), OnlineRow({"x": 1.0}, 11, None)) for i in range(2_500)]
        bad.append(("bad", OnlineRow({"x": object()}, 11, None)))  # type: ignore[dict-item]
        with pytest.raises((EcluseError, TypeError)):
            store.write("v", bad)
        assert store.read(["v"], "1") == {"v": ROW}
        assert store.read(["v"], "2") == {}
        assert store.moment("v") == 10

    def test_many_readers_at_once_get_their_own(
        self, store: Online, reads: OnlineReads, runner: asyncio.Runner
    ) -> None:
        store.write("v", [(str(i), OnlineRow({"x": float(i)}, 10, None)) for i in range(200)])

        async def all_of_them() -> list[float]:
            found = await asyncio.gather(*(reads.fetch(["v"], str(i)) for i in range(200)))
            return [float(rows["v"].values["x"] or 0) for rows in found]

        assert runner.run(all_of_them()) == [float(i) for i in range(200)]


def _check_newest_wins(store: Online, view: str, batches: list[list[tuple[str, int]]]) -> None:
    newest: dict[str, OnlineRow] = {}
    for number, batch in enumerate(batches):
        rows = [(key, OnlineRow({"n": number, "i": i}, as_of, None)) for i, (key, as_of) in enumerate(batch)]
        written, kept = store.write(view, rows)
        assert written + kept == len(rows)
        for key, row in rows:
            if key not in newest or row.as_of >= newest[key].as_of:
                newest[key] = row
    for key in "ab":
        assert store.read([view], key).get(view) == newest.get(key)
    assert store.moment(view) == max((row.as_of for row in newest.values()), default=None)
