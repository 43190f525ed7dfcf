"""Loaded versions: what a worker holds in memory, and how the next set is made before it replaces the present one in one assignment.

A version is fetched, its seal verified, tried in a process that may die, then parsed, warmed on its smoke rows and held against their
stored answers before it can be chosen. A bad one never displaces a good one: the old champion serves on and the reason is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from ecluse.core.bundle import FILES, Bundle
from ecluse.core.document import Document, ServedModel, ServedVersion
from ecluse.core.errors import Corrupt, DeclarationError, EcluseError, NotFound, Unsupported
from ecluse.core.ports import Bundles, Scorer, Verify
from ecluse.core.schema import Schema, encode_value
from ecluse.features.online import Assemble, make_assemble
from ecluse.serving.validate import Form, make_form

SMOKE_LIMIT = 1e-6
"""Largest difference to a stored answer: another processor may round differently, but not by so much."""

FORMAT = 1
CHAMPION_ARM, ASKED_ARM = "champion", "asked"


@dataclass(frozen=True)
class Loaded:
    """One version ready to answer. ``sealed_by`` is the key its seal was verified with; ``blocking``: scoring leaves the process.

    ``arm`` is how it came to answer: as the champion, or because the caller asked for it.
    """

    model: str
    number: int
    digest: str
    sealed_by: str
    schema: Schema
    form: Form
    scorer: Scorer
    threshold: float | None
    blocking: bool
    arm: str = CHAMPION_ARM

    @cached_property
    def assemble(self) -> Assemble:
        """See :func:`~ecluse.features.online.make_assemble`."""
        return make_assemble(self.schema)

    @cached_property
    def version(self) -> str:
        """The number as text."""
        return str(self.number)

    @cached_property
    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """The headers that name model and version."""
        return (b"x-ecluse-model", self.model.encode()), (b"x-ecluse-version", self.version.encode())


@dataclass(frozen=True)
class Failure:
    """A version that could not be loaded, and why."""

    model: str
    number: int
    reason: str


@dataclass(frozen=True)
class Fleet:
    """Everything a request reads, taken once: the document, the champion that serves each model, all warm versions."""

    document: Document | None = None
    champions: Mapping[str, Loaded] = field(default_factory=dict)
    warm: Mapping[tuple[str, int], Loaded] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()

    @property
    def generation(self) -> int:
        """The document's generation, 0 before the first."""
        return self.document.generation if self.document else 0


Load = Callable[[str, int, ServedVersion, Sequence[str]], Loaded]


def next_fleet(before: Fleet, document: Document, load: Load) -> Fleet:
    """The fleet a document asks for, reusing what is loaded already. Slow when it loads: call it beside the requests.

    Raises nothing of a bad version: it is named in ``failures`` and the champion before serves on, as long as its seal is trusted.
    """
    warm: dict[tuple[str, int], Loaded] = {}
    champions: dict[str, Loaded] = {}
    failures: list[Failure] = []
    for name, served in document.models.items():
        for number, version in _champion_first(served):
            try:
                warm[name, number] = _reuse(before, name, number, version, document) or load(
                    name, number, version, document.trusted
                )
            except EcluseError as error:
                failures.append(Failure(name, number, error.what))
            except Exception as error:  # noqa: BLE001 - whatever a bad bundle makes a parser raise, the good version serves on
                failures.append(Failure(name, number, f"{type(error).__name__}: {str(error)[:200]}"))
        champion = _choose(before, name, served, warm, document.trusted)
        if champion is not None:
            champions[name] = warm[name, champion.number] = champion
    return Fleet(document, champions, warm, tuple(failures))


def _untried(bundle: Bundle) -> None:
    """For loaders in a process that may die."""


def make_load(
    bundles: Bundles,
    verify: Verify,
    open_scorer: Callable[[Bundle], Scorer],
    try_out: Callable[[Bundle], None] = _untried,
) -> Load:
    """The loader of a worker: fetch, verify, try, parse, warm, compare. It raises Corrupt, NotFound, Unavailable or Unsupported.

    ``try_out`` raises for a bundle that must not be parsed in this process; it is given bytes whose seal and digests were verified.
    """

    def load(model: str, number: int, version: ServedVersion, trusted: Sequence[str]) -> Loaded:
        try:
            seal = bundles.seal(version.bundle)
        except NotFound as error:
            raise NotFound(
                f"bundle {version.bundle[:12]} is not here: {error.what}", cure="restore it or train again"
            ) from None
        if verify(seal, trusted) != version.bundle:
            raise Corrupt(f"the seal is not of bundle {version.bundle[:12]}", cure="restore the bundle or train again")
        bundle = bundles.get(version.bundle)
        if bundle.manifest.format != FORMAT:
            raise Unsupported(f"bundle format {bundle.manifest.format}", cure="upgrade ecluse")
        if bundle.manifest.model != model:
            raise Corrupt(f"bundle {version.bundle[:12]} is of model {bundle.manifest.model}", cure="publish again")
        if strange := sorted(set(bundle.files) - FILES):
            raise Corrupt(f"bundle {version.bundle[:12]} holds {strange[0]}, which no bundle does", cure="train again")
        try_out(bundle)
        schema, scorer = read_schema(bundle), open_scorer(bundle)
        check_smoke(bundle, schema, scorer)
        blocking = bundle.manifest.scorer != "onnx"
        form = make_form(schema)
        return Loaded(model, number, version.bundle, seal.key, schema, form, scorer, version.threshold, blocking)

    return load


def read_schema(bundle: Bundle) -> Schema:
    """The bundle's schema. Raises Corrupt."""
    try:
        return bundle.schema
    except DeclarationError as error:
        raise Corrupt(
            f"schema.json of bundle {bundle.digest[:12]}: {error.what}", cure="upgrade ecluse, or train again"
        ) from None


def check_smoke(bundle: Bundle, schema: Schema, scorer: Scorer) -> None:
    """Score the bundle's smoke rows, which warms the scorer, and hold the answers against the stored ones. Raises Corrupt.

    Once together and one by one: requests are scored as they come, and what a row is answered must not depend on its company.
    """
    rows = _smoke_rows(bundle)
    inputs = [[encode_value(feature, row["inputs"].get(feature.name)) for feature in schema.features] for row in rows]
    stored = np.array([np.atleast_1d(row["answer"]) for row in rows], dtype=np.float64)
    matrix = np.array(inputs, dtype=np.float64)
    found = scorer.score(matrix)
    alone = np.concatenate([scorer.score(matrix[i : i + 1]) for i in range(len(rows))])
    if not np.allclose(found, alone, rtol=SMOKE_LIMIT, atol=SMOKE_LIMIT, equal_nan=True):
        what = f"bundle {bundle.digest[:12]} answers a row otherwise alone than among others"
        raise Corrupt(what, cure="use a model that treats each row alone, then train again")
    if found.shape != stored.shape or not np.allclose(found, stored, rtol=SMOKE_LIMIT, atol=SMOKE_LIMIT):
        worst = float(np.max(np.abs(found - stored))) if found.shape == stored.shape else float("nan")
        raise Corrupt(
            f"bundle {bundle.digest[:12]} answers its smoke rows otherwise than stored (largest difference {worst:.3g})",
            cure="train again, or find what differs on this machine",
        )


def _smoke_rows(bundle: Bundle) -> list[dict[str, Any]]:
    rows = bundle.document("smoke.json").get("rows")
    if (
        not isinstance(rows, list)
        or not rows
        or not all(isinstance(r, dict) and {"inputs", "answer"} <= set(r) for r in rows)
    ):
        raise Corrupt(f"bundle {bundle.digest[:12]} has no smoke rows", cure="train again")
    return rows


def _champion_first(served: ServedModel) -> list[tuple[int, ServedVersion]]:
    numbered = [(int(number), version) for number, version in served.versions.items()]
    return sorted(numbered, key=lambda each: (each[0] != served.champion, -each[0]))


def _reuse(before: Fleet, name: str, number: int, version: ServedVersion, document: Document) -> Loaded | None:
    loaded = before.warm.get((name, number))
    if loaded is None or loaded.digest != version.bundle or loaded.sealed_by not in document.trusted:
        return None
    return replace(loaded, threshold=version.threshold)


def _choose(
    before: Fleet, name: str, served: ServedModel, warm: Mapping[tuple[str, int], Loaded], trusted: Sequence[str]
) -> Loaded | None:
    if served.champion is None:
        return None
    if (name, served.champion) in warm:
        return warm[name, served.champion]
    old = before.champions.get(name)
    if old is None or old.sealed_by not in trusted:
        return None
    return warm.get((name, old.number), old)
