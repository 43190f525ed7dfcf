"""Table: the contract of a table's rows. Columns with types and ranges, key, times, rules across columns, references, volume, freshness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from ecluse.core.codec import tagged
from ecluse.core.entity import Entity
from ecluse.core.errors import DeclarationError
from ecluse.core.expression import Node, names
from ecluse.core.instants import load_zone, parse_duration

AS_OF = "as_of"  # the pseudo-column: the moment an ingest speaks of


@tagged
@dataclass(frozen=True)
class Number:
    """A float. ``nulls`` is the largest allowed share of missing values (0: every row must have one)."""

    min: float | None = None
    max: float | None = None
    nulls: float = 0.0


@tagged
@dataclass(frozen=True)
class Integer:
    """A whole number."""

    min: int | None = None
    max: int | None = None
    nulls: float = 0.0


@tagged
@dataclass(frozen=True)
class Boolean:
    """True or false (``true/false/1/0/yes/no`` in CSV); empty is missing, never true."""

    nulls: float = 0.0


@tagged
@dataclass(frozen=True)
class Category:
    """Text out of a set: ``Category(["Basic", "Premium"])``; without values any text, at most ``max_distinct`` different."""

    values: Sequence[str] = ()
    max_distinct: int = 200
    nulls: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(self.values))


@tagged
@dataclass(frozen=True)
class Text:
    """Free text or an identifier; cannot be a feature."""

    max_length: int = 1_000
    nulls: float = 0.0


@tagged
@dataclass(frozen=True)
class Instant:
    """A moment. Naive values need the table's ``zone``; a bare date is 00:00 UTC."""

    nulls: float = 0.0


Column = Number | Integer | Boolean | Category | Text | Instant


@dataclass(frozen=True)
class Rule:
    """A condition that must hold within each row: ``Rule("paid_once", col("total_paid") >= col("monthly_fee"))``. Missing passes."""

    name: str
    condition: Node


@dataclass(frozen=True)
class Table:
    """What the rows of a table must be.

    A row *is* its key and event time, plus the ``identity`` columns where several rows of a key may share an instant: a later-known row
    with the same ones replaces the earlier. ``event_time`` is the column of the moment a row speaks of (``"as_of"``: the ingest's own),
    ``available_at`` the column of the moment it was known (without it a row is known from its ingest's as-of).
    ``references`` names tables whose keys must hold this table's keys. ``rows`` are the smallest and largest volume of one ingest;
    ``freshness`` the largest age of the newest row at its as-of; ``quarantine`` the largest share of bad rows an ingest may have before
    it stops. ``file`` is the file stem when it is not the name.
    """

    name: str
    key: Entity
    columns: Mapping[str, Column]
    event_time: str = AS_OF
    identity: tuple[str, ...] = ()
    available_at: str | None = None
    zone: str | None = None
    rules: tuple[Rule, ...] = ()
    references: tuple[str, ...] = ()
    rows: tuple[int, int | None] = (1, None)
    freshness: timedelta | None = None
    quarantine: float = 0.01
    file: str = ""

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        set_(self, "columns", dict(self.columns))
        set_(self, "rules", tuple(self.rules))
        set_(self, "identity", tuple(self.identity))
        set_(self, "references", tuple(self.references))
        set_(self, "file", self.file or self.name)
        if isinstance(self.freshness, str):
            set_(self, "freshness", parse_duration(self.freshness, where=f"table {self.name}"))
        self._check()

    def _check(self) -> None:
        where = f"project.py: table {self.name}"
        if not self.name.isidentifier():
            raise DeclarationError(f"table name {self.name!r}", where="project.py", cure="use a plain identifier")
        if self.zone is not None:
            load_zone(self.zone)
        for time in (self.event_time, self.available_at):
            if time not in (None, AS_OF) and not isinstance(self.columns.get(str(time)), Instant):
                raise DeclarationError(
                    f"`{time}` is not an Instant column", where=where, cure=f'declare "{time}": Instant()'
                )
        for name in {AS_OF, *self.key.columns} & set(self.columns):
            raise DeclarationError(
                f"column `{name}` is the key or the as-of", where=where, cure="leave it out of `columns`"
            )
        if missing := set(self.identity) - set(self.columns):
            raise DeclarationError(
                f"identity reads unknown {sorted(missing)}", where=where, cure="name declared columns"
            )
        for rule in self.rules:
            unknown = names(rule.condition) - set(self.columns)
            if unknown:
                raise DeclarationError(
                    f"rule {rule.name} reads unknown {sorted(unknown)}", where=where, cure="name declared columns"
                )
        if not 0 <= self.quarantine <= 1:
            raise DeclarationError(f"quarantine={self.quarantine}", where=where, cure="give a share between 0 and 1")
