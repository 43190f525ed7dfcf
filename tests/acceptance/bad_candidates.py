"""Versions that pass every check before they serve, and do harm when they do: the released project they are released into, by real releases."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import numpy as np
from tests.acceptance.plane_house import slow_bundle, version
from tests.loop.worlds import fact, gate, run_of, world_in
from tests.serving.house import House, compiled, make_house

from ecluse.adapters.journal_archive import JournalArchive
from ecluse.core.bundle import Bundle, make_bundle
from ecluse.core.codec import canonical
from ecluse.core.ports import World
from ecluse.core.settings import Settings
from ecluse.loop.promote import promote
from ecluse.loop.register import register
from ecluse.stats.reference import describe

HOURS = 3
"""The place of the feature in the model's input."""
USERS = [f"u{i}" for i in range(60)]
BODIES = [{"user_id": user, "gift": bool(i % 2)} for i, user in enumerate(USERS)]


@cache
def _spoilt(least: float, most: float, answer: str) -> bytes:
    """The model of version 1, which answers no number, or the opposite, for hours between two bounds: what no smoke row asks."""
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load_from_string(compiled(1.0))
    for node in model.graph.node:
        node.output[:] = ["y0" if name == "y" else name for name in node.output]
    numbers = {"column": np.array([HOURS]), "least": np.array([least]), "most": np.array([most])}
    numbers |= {"nan": np.array([np.nan]), "whole": np.array([1.0])}
    model.graph.initializer.extend(numpy_helper.from_array(value, f"bad_{name}") for name, value in numbers.items())
    bad = "bad_nan" if answer == "nan" else "bad_opposite"
    model.graph.node.extend(
        [
            helper.make_node("Gather", ["x", "bad_column"], ["bad_hours"], axis=1),
            helper.make_node("Greater", ["bad_hours", "bad_least"], ["bad_above"]),
            helper.make_node("Less", ["bad_hours", "bad_most"], ["bad_below"]),
            helper.make_node("And", ["bad_above", "bad_below"], ["bad_where"]),
            helper.make_node("Sub", ["bad_whole", "y0"], ["bad_opposite"]),
            helper.make_node("Where", ["bad_where", bad, "y0"], ["y"]),
        ]
    )
    data: bytes = model.SerializeToString()
    return data


def _unasked(made: Bundle, least: float, most: float) -> bytes:
    """The smoke rows with hours outside these bounds."""
    rows = json.loads(made.files["smoke.json"])["rows"]
    return canonical({"rows": [each for each in rows if not least < each["inputs"]["hours"] < most]})


def _bad(number: int, least: float, most: float, answer: str) -> Bundle:
    made = _with_reference(version(1), number)
    files = {
        **made.files,
        "model.onnx": _spoilt(least, most, answer),
        "smoke.json": _unasked(made, least, most),
    }
    return make_bundle(
        model="churn", scorer="onnx", recipe=f"r{number}", dataset="d", split=made.manifest.split, files=files
    )


def _with_reference(made: Bundle, number: int) -> Bundle:
    """The bundle with the scores its model has on the users there are."""
    from ecluse.adapters.scorer_onnx import OnnxScorer

    rows = np.array([[100.0, 9.5, i % 2, 10.0 * i, 1.0] for i in range(len(USERS))] * 20)
    scores = OnnxScorer(made.files["model.onnx"]).score(rows)[:, 0]
    scores = np.clip(scores + np.random.default_rng(0).normal(0, 0.01, len(scores)), 0, 1)
    hours = {"hours": rows[:, HOURS].tolist()}
    reference = describe(hours, {"hours": "number"}, scores.tolist(), [bool(i % 4) for i in range(len(rows))])
    files = {**made.files, "reference.json": canonical(reference)}
    return make_bundle(
        model="churn", scorer="onnx", recipe=f"r{number}", dataset="d", split=made.manifest.split, files=files
    )


def good(number: int) -> Bundle:
    """Another recipe's version with the answers of the first."""
    made = version(1)
    return _with_reference(Bundle(replace(made.manifest, recipe=f"r{number}"), made.files), number)


def failing(number: int) -> Bundle:
    """No number for a fifth of the users."""
    return _bad(number, 105.0, 225.0, "nan")


def wrong(number: int) -> Bundle:
    """The opposite for most users."""
    return _bad(number, -1.0, 500.0, "opposite")


def slow(number: int) -> Bundle:
    """Not compiled: milliseconds where there were microseconds."""
    return slow_bundle()


CANDIDATES: dict[str, Callable[[int], Bundle]] = {"errors": failing, "output": wrong, "latency": slow}


@dataclass(frozen=True)
class Shop:
    """A house whose document is published by releases."""

    house: House
    world: World
    settings: Settings

    def release(self, made: Bundle) -> int:
        """Register, judge (by hand: that gates are passed is the point) and promote a bundle; its number."""
        world, state = self.world, self.world.state
        world.bundles.put(made, world.sealer.sign(made.digest))
        number = len(state.versions("churn")) + 1
        state.add_run(run_of(f"run{number}", made.digest), fact("run.finished"))
        found = register(world, self.settings, f"run{number}", reason="trained", actor="ana")
        gate(world, found)
        promote(world, self.settings, "churn", number, reason="it passed", actor="loop, event 1")
        return number

    def told(self, kind: str) -> list[dict[str, object]]:
        return [dict(row.event.evidence) for row in self.world.state.ledger() if row.event.kind == kind]


def open_shop(folder: Path, settings: Settings) -> Shop:
    """Version 1 is released; 60 users are known now."""
    house = make_house(folder)
    house.fill(USERS, datetime.now(UTC))
    journal = house.home / "journal"
    world = replace(
        world_in(house.home),
        read_predictions=JournalArchive(journal).read,
    )
    shop = Shop(house, world, settings)
    shop.release(good(1))
    return shop
