"""Stretch: the part of the journal a monitor looks at, as a sketch of the version it judges and the predictions whose truth may have come.

A short one is read record by record. A long one is counted segment by segment (``panes.py``), and of its predictions only the newest are
joined with truths.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from ecluse.core.bundle import Bundle
from ecluse.core.codec import from_plain
from ecluse.core.errors import InvalidInput, NotFound
from ecluse.core.instants import parse_instant
from ecluse.core.model import Label, Model
from ecluse.core.ports import World
from ecluse.core.settings import Settings
from ecluse.core.version import Stage
from ecluse.data.labels import AT, label_rows
from ecluse.loop.dataset import current_dataset, histories
from ecluse.loop.panes import Pane, Question, Version, count_segments, forget
from ecluse.loop.segment_reference import read_segments
from ecluse.monitoring.sketch import Sketch, sketch_of
from ecluse.monitoring.window import Record, busiest, by_version, make_window
from ecluse.stats.reference import Reference

LONG_BYTES = 32 * 1024 * 1024
"""A journal of so many bytes or more is counted by segments."""
JOINED = 100_000
"""Of a long stretch the newest so many records are joined with truths."""
_VERSIONS = 4


@dataclass(frozen=True)
class Stretch:
    """Of one model: ``against`` what was judged, its ``sketch``, answers per version, the judged version's predictions ``asked`` about truths,
    all ``records`` read (outcomes among them), and how many predictions of the version are not among those asked.
    """

    bundle: Bundle
    declared: Model
    against: Version
    sketch: Sketch
    versions: Mapping[int, int]
    asked: Sequence[Record]
    records: Sequence[Record]
    unasked: int


def look(world: World, settings: Settings, model: str, last: int | None, period: timedelta | None) -> Stretch:
    """The ``last`` N predictions of a model, those of a ``period`` up to now, or all. ``settings`` are the model's own.

    The version that answered most is judged; the champion where all are looked at. Raises NotFound when nothing was ever served.
    """
    since = _since(world.clock.now(), period)
    if last is None and (found := _long(world, settings, model, since, whole=period is None)) is not None:
        return found
    records = _last(world, model, last) if last is not None else list(world.read_predictions(since, None, None))
    versions = by_version(records, model)
    counts = {number: len(each) for number, each in sorted(versions.items())}
    number = _judged(world, model, counts, whole=last is None and period is None)
    bundle, against = _against(world, settings, model, number)
    window = make_window(model, number, versions, against.split)
    sketch = sketch_of(window, against.reference, against.segments)
    return Stretch(bundle, _declared(bundle), against, sketch, counts, versions.get(number, []), records, 0)


def sample(world: World, model: str, rows: int) -> Sequence[Record]:
    """The newest ``rows`` predictions of a model, oldest first."""
    return [each for each in _last(world, model, rows) if each["kind"] == "prediction"]


def _long(world: World, settings: Settings, model: str, since: datetime | None, *, whole: bool) -> Stretch | None:
    """The same of a long journal by its panes; None for a short one, a damaged one, or a version that was not counted."""
    segments = world.segments() if world.segments is not None else ()
    if sum(each.bytes for each in segments) < LONG_BYTES:
        return None
    bundles = {number: _against(world, settings, model, number) for number in _candidates(world, model)}
    question = Question(model, tuple(version for _, version in bundles.values()))
    pane = count_segments(world.home, segments, question, since)
    if pane is None:
        return None
    forget(world.home, segments, question)
    counts = dict(pane.answers)
    number = _judged(world, model, counts, whole=whole)
    if number not in bundles:
        return None
    bundle, against = bundles[number]
    declared = _declared(bundle)
    records: Sequence[Record] = ()
    if _may_be_known(world, declared.predicts, pane):
        newest = world.read_predictions(None, None, JOINED)
        records = [each for each in newest if since is None or parse_instant(each["time"]) >= since]
    asked = by_version(records, model).get(number, [])
    empty = Sketch(model, number)
    sketch = next((each for each in pane.sketches if each.version == number), empty)
    return Stretch(bundle, declared, against, sketch, counts, asked, records, counts.get(number, 0) - len(asked))


def _candidates(world: World, model: str) -> list[int]:
    """The versions that may have answered: the champion and the newest that were in Production, those pruned left out."""
    champion = world.state.rollout(model).champion
    served = [each for each in world.state.versions(model) if each.stage in (Stage.PRODUCTION, Stage.ARCHIVED)]
    numbers = [each.number for each in served][-_VERSIONS:]
    found = []
    for number in dict.fromkeys([*numbers, *([champion] if champion is not None else [])]):
        try:
            world.bundles.seal(world.state.version(model, number).bundle)
        except NotFound:
            continue
        found.append(number)
    return found


def _may_be_known(world: World, label: Label, pane: Pane) -> bool:
    """Whether any truth of these predictions can have arrived: one was reported, or the label's table has rows of their moments."""
    if pane.outcomes:
        return True
    if not pane.asked[1]:
        return False
    now = world.clock.now()
    history = histories(world, [label.table], current_dataset(world, [label.table], now))[label.table.name]
    first, last = (parse_instant(each) for each in pane.asked)
    return not label_rows(history, label, now).frame.filter(pl.col(AT).is_between(first, last)).is_empty()


def _against(world: World, settings: Settings, model: str, number: int) -> tuple[Bundle, Version]:
    bundle = world.bundles.get(world.state.version(model, number).bundle)
    reference = from_plain(Reference, bundle.document("reference.json"), where="reference.json")
    segments = read_segments(world, bundle.digest, settings.gates.segments)
    return bundle, Version(number, reference, bundle.manifest.split, segments)


def _declared(bundle: Bundle) -> Model:
    return from_plain(Model, bundle.document("declaration.json"), where="declaration.json")


def _last(world: World, model: str, last: int) -> list[Record]:
    """The stretch from the oldest of a model's newest ``last`` predictions on, read from the end in growing steps, for outcomes lie between.

    What is held are records of this model alone: of one that is hardly asked, all of a journal may have to be read.
    """
    if last < 1:
        raise InvalidInput(f"a window of {last} predictions", where="monitor", cure="ask for at least one")
    asked = last
    while True:
        records: list[Record] = list(world.read_predictions(None, None, asked, model=model))
        places = [i for i, record in enumerate(records) if record["kind"] == "prediction"]
        if len(places) >= last:
            return records[places[-last] :]
        if len(records) < asked:
            return records
        asked *= 4


def _since(now: datetime, period: timedelta | None) -> datetime | None:
    if period is None:
        return None
    if period <= timedelta(0):
        raise InvalidInput("a window of no time", where="monitor", cure="ask for a period above 0")
    try:
        return now - period
    except OverflowError:
        return None  # longer than there is time: everything


def _judged(world: World, model: str, counts: Mapping[int, int], *, whole: bool) -> int:
    champion = world.state.rollout(model).champion
    number = champion if champion is not None and (whole or not counts) else busiest(counts)
    if number is None:
        raise NotFound(
            f"{model} has not served anything yet", cure="promote a version, start `ecluse serve`, send requests"
        )
    return number
