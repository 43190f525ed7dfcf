"""Online: stored values and request fields of one entity -> the scorer's input vector, or the reason why there is none.

On every request's path: standard library only. Nothing is made up: a missing or stale feature is a FeatureProblem, unless its view
declares ``missing="accept"``; then the answer is marked degraded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Literal, NamedTuple

from ecluse.core.errors import EcluseError
from ecluse.core.expression import Value, evaluate
from ecluse.core.ports import OnlineRow
from ecluse.core.schema import Schema, StoredView, make_encoder

UNSEEN = -1.0  # what ``make_encoder`` gives a category outside those of training
ProblemCode = Literal["feature_missing", "feature_stale"]


class FeatureProblem(EcluseError):
    """A feature that a prediction needs is missing or older than its view allows. ``view`` is ``""`` for a request field."""

    def __init__(self, code: ProblemCode, *, field: str, view: str, why: str, cure: str) -> None:
        self.code, self.field, self.view = code, field, view
        super().__init__(f"`{field}`: {why}", where=f"view {view}" if view else "request", cure=cure)


class Assembled(NamedTuple):
    """``vector``: the scorer's inputs in its order, encoded; ``raw``: stored values and request fields as they were; ``moments``: what each
    view was computed as of (UTC microseconds); ``degraded``: which views are missing and why; ``unseen``: inputs never seen in training.
    """

    vector: list[float]
    raw: Mapping[str, Value]
    moments: Mapping[str, int]
    degraded: tuple[str, ...]
    unseen: tuple[str, ...]


_NO_MOMENTS: Mapping[str, int] = {}
_NOTHING: tuple[str, ...] = ()
Assemble = Callable[[Mapping[str, OnlineRow], Mapping[str, Value], int, int], Assembled]


def make_assemble(schema: Schema) -> Assemble:
    """``assemble(rows, given, now, as_of)``: the input vector of one request to a version, with all that a schema says worked out once.

    ``rows``: what the online store holds for the entity, by view; ``given``: request fields and explicit features, already validated
    (instants as microseconds); a view is read only when it has a feature that is not given. ``now`` is the project's present in UTC
    microseconds, against which ages are judged; ``as_of`` the moment derived features read as such. Raises FeatureProblem. O(features).
    """
    encoders = [(each.name, make_encoder(each)) for each in schema.features]
    categories = [(i, each.name) for i, each in enumerate(schema.features) if each.categories is not None]
    plan = tuple(_Plan.of(view) for view in schema.views)
    everything = {*schema.request, *(name for view in schema.views for name in view.features)}

    def assemble(rows: Mapping[str, OnlineRow], given: Mapping[str, Value], now: int, as_of: int) -> Assembled:
        if given.keys() == everything:
            raw, moments, degraded = given, _NO_MOMENTS, _NOTHING
        else:
            raw, moments, degraded = _collect(schema.request, plan, rows, given, now)
        try:
            values = {**raw, **_derived(schema, raw, as_of)} if schema.derived else raw
            vector = [encode(values[name]) for name, encode in encoders]
        except (ValueError, EcluseError):
            _refuse_text(plan, raw)
            raise
        unseen = tuple([name for i, name in categories if vector[i] == UNSEEN])
        return Assembled(vector, raw, moments, degraded, unseen)

    return assemble


class _Plan(NamedTuple):
    """A view, and what is asked of its row at each request: ``ttl`` in microseconds (0: rows do not grow stale)."""

    view: StoredView
    features: tuple[str, ...]
    names: frozenset[str]
    ttl: int

    @classmethod
    def of(cls, view: StoredView) -> _Plan:
        ttl = 0 if view.ttl is None else max(1, view.ttl // timedelta(microseconds=1))
        return cls(view, tuple(view.features), frozenset(view.features), ttl)

    def in_order(self, row: OnlineRow, now: int) -> bool:
        """A live row, fresh, of just these features: all but a few are."""
        if row.event is None or row.values.keys() != self.names:
            return False
        return not self.ttl or (now - row.as_of <= self.ttl and now - row.event <= self.ttl)


def _collect(
    request: tuple[str, ...],
    plan: tuple[_Plan, ...],
    rows: Mapping[str, OnlineRow],
    given: Mapping[str, Value],
    now: int,
) -> tuple[Mapping[str, Value], Mapping[str, int], tuple[str, ...]]:
    raw: dict[str, Value] = {}
    moments: dict[str, int] = {}
    degraded: list[str] = []
    for name in request:
        if name not in given:
            raise FeatureProblem(
                "feature_missing", field=name, view="", why="the request does not hold it", cure="send it"
            )
        raw[name] = given[name]
    for each in plan:
        name = each.view.name
        row = rows.get(name)
        if row is not None and each.in_order(row, now) and given.keys().isdisjoint(each.names):
            moments[name] = row.as_of
            for feature in each.features:
                raw[feature] = row.values[feature]
            continue
        wanted: list[str] = []
        for feature in each.features:
            if feature in given:
                raw[feature] = given[feature]
            else:
                wanted.append(feature)
        if not wanted:
            continue
        if row is not None:
            moments[name] = row.as_of
        stored, why = _stored(each, wanted, row, now)
        raw.update(stored)
        if why:
            degraded.append(f"{name}: {why}")
    return raw, moments, tuple(degraded)


def _stored(plan: _Plan, wanted: list[str], row: OnlineRow | None, now: int) -> tuple[dict[str, Value], str]:
    """The wanted values of a view and why they are not in order ("" when they are). Raises FeatureProblem where that is refused."""
    problem = _problem(plan.ttl, wanted, row, now)
    if problem is None:
        assert row is not None
        return {name: row.values[name] for name in wanted}, ""
    code, field, why = problem
    if plan.view.missing == "refuse":
        cure = "bring the online store up to date with `ecluse materialize`"
        raise FeatureProblem(code, field=field, view=plan.view.name, why=why, cure=cure)
    # no live row is a state training saw too (counts of nothing are 0); a stale or absent row says nothing about now
    values = row.values if row is not None and code == "feature_missing" else {}
    return {name: values.get(name) for name in wanted}, why


def _problem(ttl: int, wanted: list[str], row: OnlineRow | None, now: int) -> tuple[ProblemCode, str, str] | None:
    if row is None:
        return "feature_missing", wanted[0], "the online store has no row of this entity"
    for name in wanted:
        if name not in row.values:
            return "feature_missing", name, "the stored row does not hold it"
    if ttl:
        if now - row.as_of > ttl:
            return "feature_stale", wanted[0], "computed longer ago than its time-to-live"
        if row.event is not None and now - row.event > ttl:
            return "feature_stale", wanted[0], "its latest event is older than its time-to-live"
    if row.event is None:
        return "feature_missing", wanted[0], "the entity has no live row in the table"
    return None


def _refuse_text(plan: tuple[_Plan, ...], raw: Mapping[str, Value]) -> None:
    """Raises FeatureProblem for text where a version expects a number: the view was declared anew and materialized for another version."""
    for view in (each.view for each in plan):
        for name, kind in view.features.items():
            if kind != "category" and isinstance(raw.get(name), str):
                why, cure = (
                    "the stored value is text, the version expects none",
                    "release a version of the view as it is",
                )
                raise FeatureProblem("feature_missing", field=name, view=view.name, why=why, cure=cure)


def _derived(schema: Schema, raw: Mapping[str, Value], as_of: int) -> dict[str, Value]:
    read = {**raw, "as_of": float(as_of)}
    found = {name: evaluate(node, read) for name, node in schema.derived.items()}
    return {name: float(value) if isinstance(value, bool) else value for name, value in found.items()}
