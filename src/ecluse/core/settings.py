"""Settings: every number someone may turn, as frozen rows with defaults; unknown keys are errors that name file, key and cure.

Precedence: defaults < ecluse.toml < its ``[<profile>.<table>]`` < ``ECLUSE_<TABLE>__<KEY>`` < flags; tables merge key by key.
``[models.<name>.<table>]`` overrides the model tables (training, threshold, costs, gates, policy, approval, monitoring,
triggers, rollback, parameters) for one model.
"""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import Any, Literal

from ecluse.core.approval import check_rule
from ecluse.core.bounds import check_bounds
from ecluse.core.codec import from_plain
from ecluse.core.errors import DeclarationError
from ecluse.core.loop_settings import (
    Approval,
    Control,
    FreshGain,
    Loop,
    Monitoring,
    Policy,
    Rollback,
    Slo,
    Triggers,
    Webhook,
)
from ecluse.core.model import Scalar
from ecluse.core.source import Source

FILE = "ecluse.toml"
PROFILES = ("dev", "staging", "prod")
RESERVED_ENVIRONMENT = (
    "ECLUSE_PROFILE",
    "ECLUSE_SEALING_KEY",
    "ECLUSE_API_KEY",
    "ECLUSE_LAUNCHED_BY",
    "ECLUSE_FAILPOINT",
    "ECLUSE_ONLINE_PASSWORD",
    "ECLUSE_TRIGGER_SECRET",
    "ECLUSE_NOTIFY_SECRET",
)


@dataclass(frozen=True)
class Time:
    """``now``: the system's clock, or the newest data's (``"data"``: moved on by each ingest's as-of and ``ecluse clock set``)."""

    now: Literal["system", "data"] = "system"


@dataclass(frozen=True)
class Stores:
    """Where state lives; empty means embedded files under ``.ecluse/<profile>/``.

    ``online``: ``redis[s]://[user@]host[:port][/database]``, its password in ``ECLUSE_ONLINE_PASSWORD``; ``online_prefix`` begins every key
    there (empty: ``ecluse:<project>:<profile>``). A worker waits ``online_connect_ms`` for a connection, ``online_read_ms`` for an answer.
    """

    online: str = ""
    online_prefix: str = ""
    online_connect_ms: int = 500
    online_read_ms: int = 50

    def __post_init__(self) -> None:
        if min(self.online_connect_ms, self.online_read_ms) < 1:
            raise DeclarationError(
                f"online_connect_ms = {self.online_connect_ms}, online_read_ms = {self.online_read_ms}: a time to wait below 1 ms",
                where="stores",
                cure="give whole milliseconds from 1 on",
            )


@dataclass(frozen=True)
class MlflowSettings:
    """The tracking mirror: an existing server's address, or empty for a SQLite database beside the state."""

    enabled: bool = True
    tracking_uri: str = ""
    experiment: str = ""


@dataclass(frozen=True)
class Frame:
    """The contract of the joined training frame: least rows, least positives (or rows per class), largest missing share per view."""

    rows: int = 50
    positives: int = 10
    missing: float = 0.5


@dataclass(frozen=True)
class Training:
    """How the held-out rows are chosen and how far back rows are used.

    ``split``: ``"entity"`` (by hash of the key, for ever) or ``"time"`` (the newest ``held_out`` share of label moments;
    those within ``embargo`` before them are dropped: by default whatever truth was not known when the held-out time began).
    ``history`` / ``validation``: only label moments within so much of the newest are trained on / judged on (None: all).
    """

    split: Literal["entity", "time"] = "entity"
    held_out: float = 0.25
    embargo: timedelta | None = None
    seed: int = 0
    history: timedelta | None = None
    validation: timedelta | None = None
    frame: Frame = field(default_factory=Frame)

    def __post_init__(self) -> None:
        if not 0 < self.held_out < 1:
            raise DeclarationError(f"held_out = {self.held_out}", cure="give a share between 0 and 1")


@dataclass(frozen=True)
class Threshold:
    """How a binary model's decision threshold is chosen on the validation rows: fixed, best F1, or best expected value (needs costs)."""

    rule: Literal["fixed", "f1", "value"] = "f1"
    value: float = 0.5


@dataclass(frozen=True)
class Costs:
    """Money per decision: a false positive, a false negative, and the value of acting on a true positive."""

    false_positive: float = 0.0
    false_negative: float = 0.0
    action_value: float = 0.0

    @property
    def declared(self) -> bool:
        """True when any of them is given."""
        return bool(self.false_positive or self.false_negative or self.action_value)


@dataclass(frozen=True)
class NonRegression:
    """New against production on the same rows: ``must_gain = m`` (new >= production + m) or ``may_lose = m`` (new >= production - m),
    judged by the lower end of a paired bootstrap interval at ``confidence``.
    """

    may_lose: float | None = None
    must_gain: float | None = None
    confidence: float = 0.95
    rounds: int = 1_000

    def __post_init__(self) -> None:
        if self.may_lose is not None and self.must_gain is not None:
            raise DeclarationError("both may_lose and must_gain are set", cure="keep one of them")
        if not 0.5 <= self.confidence < 1:
            raise DeclarationError(f"confidence = {self.confidence}", cure="give a level such as 0.95")

    @property
    def margin(self) -> float:
        """The least allowed difference new - production."""
        return self.must_gain if self.must_gain is not None else -(0.01 if self.may_lose is None else self.may_lose)


@dataclass(frozen=True)
class Sanity:
    """Outputs must be finite, not constant, with a positive rate in a range and a distribution like the champion's (PSI)."""

    min_distinct: int = 5
    positive_rate: tuple[float, float] = (0.001, 0.999)
    max_psi: float = 1.0


@dataclass(frozen=True)
class Gates:
    """What a version must pass before it may be promoted. See docs/gates.md."""

    floor: Mapping[str, float] = field(default_factory=dict)
    baseline_margin: float = 0.0
    non_regression: NonRegression = field(default_factory=NonRegression)
    max_gap: float = 0.15
    leak: float = 0.98
    segments: tuple[str, ...] = ()
    segment_floor: Mapping[str, float] = field(default_factory=dict)
    segment_rows: int = 100
    sanity: Sanity = field(default_factory=Sanity)
    latency_ms: float = 5.0
    bundle_mb: float = 200.0
    reproducible: bool = True
    valid_for: timedelta = timedelta(days=7)
    fresh: FreshGain = field(default_factory=FreshGain)


@dataclass(frozen=True)
class Serving:
    """The data plane's address and limits. ``hosts``: names it answers for besides those it is bound to; a leading dot takes subdomains."""

    host: str = "127.0.0.1"
    port: int = 8400
    hosts: tuple[str, ...] = ()
    max_body_bytes: int = 65_536
    max_in_flight: int = 256
    max_waiting: int = 256
    max_connections: int = 1_024
    header_seconds: float = 5.0
    max_batch: int = 256
    deadline_ms: int = 1_000
    poll_ms: int = 200
    durability: Literal["process", "power"] = "process"
    drain_wait: float = 0.0
    drain_seconds: float = 10.0
    workers: int = 1
    model_mb: int = 2_048

    def __post_init__(self) -> None:
        if self.model_mb < LEAST_MODEL_MB:
            raise DeclarationError(f"model_mb = {self.model_mb}", cure=f"give at least {LEAST_MODEL_MB} megabytes")


LEAST_MODEL_MB = 256
"""The libraries alone take half of it."""


@dataclass(frozen=True)
class Retention:
    """What ``ecluse prune`` keeps besides the champion, what can be rolled back to, candidates and versions held for audit.

    ``journal``: how long predictions and outcomes are kept, longer where a monitor's window or a label's delay needs it.
    """

    archived: int = 5
    runs: int = 20
    rollback: int = 3
    journal: timedelta = timedelta(days=400)


@dataclass(frozen=True)
class Log:
    """Structured log level."""

    level: Literal["debug", "info", "warning", "error"] = "info"


@dataclass(frozen=True)
class Settings:
    """All tables of ecluse.toml for one profile."""

    project: str = ""
    profile: str = "dev"
    time: Time = field(default_factory=Time)
    stores: Stores = field(default_factory=Stores)
    mlflow: MlflowSettings = field(default_factory=MlflowSettings)
    training: Training = field(default_factory=Training)
    threshold: Threshold = field(default_factory=Threshold)
    costs: Costs = field(default_factory=Costs)
    gates: Gates = field(default_factory=Gates)
    policy: Policy = field(default_factory=Policy)
    monitoring: Monitoring = field(default_factory=Monitoring)
    triggers: Triggers = field(default_factory=Triggers)
    parameters: Mapping[str, Scalar] = field(default_factory=dict)
    serving: Serving = field(default_factory=Serving)
    retention: Retention = field(default_factory=Retention)
    log: Log = field(default_factory=Log)
    sources: Mapping[str, Source] = field(default_factory=dict)
    loop: Loop = field(default_factory=Loop)
    approval: Approval = field(default_factory=Approval)
    control: Control = field(default_factory=Control)
    slo: Slo = field(default_factory=Slo)
    rollback: Rollback = field(default_factory=Rollback)
    notify: Mapping[str, Webhook] = field(default_factory=dict)
    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_rule(self.policy, self.approval)
        check_bounds(self)

    def for_model(self, name: str) -> Settings:
        """These settings with ``[models.<name>.…]`` merged in. Raises DeclarationError."""
        own = self.models.get(name)
        if not own:
            return self
        unknown = set(own) - MODEL_TABLES
        if unknown:
            raise DeclarationError(
                f"unknown key `models.{name}.{sorted(unknown)[0]}`",
                where=FILE,
                cure="model tables: " + ", ".join(sorted(MODEL_TABLES)),
            )
        from ecluse.core.codec import to_plain

        return from_plain(Settings, merge(to_plain(self), own), where=FILE, path="")


MODEL_TABLES = frozenset(
    {
        "training",
        "threshold",
        "costs",
        "gates",
        "policy",
        "approval",
        "monitoring",
        "parameters",
        "triggers",
        "rollback",
    }
)


def resolve(
    file: Mapping[str, Any], profile: str, environment: Mapping[str, str], flags: Mapping[str, Any] | None = None
) -> Settings:
    """Settings of a profile out of the parsed file, the environment and flags (nested tables). Raises DeclarationError.

    >>> resolve(
    ...     {"serving": {"port": 1}, "prod": {"serving": {"port": 2}}}, "prod", {"ECLUSE_LOG__LEVEL": "debug"}
    ... ).serving.port
    2
    """
    if profile not in PROFILES:
        raise DeclarationError(
            f"profile {profile!r}", where="--profile or ECLUSE_PROFILE", cure="choose " + ", ".join(PROFILES)
        )
    known = {f.name for f in fields(Settings)}
    base = {key: value for key, value in file.items() if key not in PROFILES}
    for key in base:
        if key not in known or key == "profile":
            near = difflib.get_close_matches(key, sorted(known | set(PROFILES)), 1)
            raise DeclarationError(
                f"unknown key `{key}`",
                where=FILE,
                cure=f"did you mean `{near[0]}`?" if near else "tables: " + ", ".join(sorted(known)),
            )
    for each in PROFILES:  # a mistake in a profile that is not the current one is still a mistake
        from_plain(Settings, merge(base, file.get(each, {})), where=FILE)
    merged = merge(base, file.get(profile, {}))
    settings = from_plain(Settings, merged, where=FILE)
    if overrides := _from_environment(environment):
        settings = from_plain(Settings, merge(merged, overrides), where="environment")
        merged = merge(merged, overrides)
    if flags:
        merged = merge(merged, flags)
    settings = from_plain(Settings, {**merged, "profile": profile}, where=FILE)
    _check_finite(merged, "")
    for name in settings.models:
        settings.for_model(name)
    return settings


def _check_finite(value: object, path: str) -> None:
    """A limit that is not a number refuses everything or nothing, without a word. Raises DeclarationError."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            _check_finite(each, f"{path}.{key}" if path else str(key))
    elif isinstance(value, float) and not math.isfinite(value):
        raise DeclarationError(f"`{path}` is {value}", where=FILE, cure="give a finite number")


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Tables merged key by key, ``over`` winning.

    >>> merge({"a": {"x": 1, "y": 2}}, {"a": {"y": 3}})
    {'a': {'x': 1, 'y': 3}}
    """
    out = dict(base)
    for key, value in over.items():
        out[key] = merge(out[key], value) if isinstance(value, Mapping) and isinstance(out.get(key), Mapping) else value
    return out


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, text in sorted(environment.items()):
        if not name.startswith("ECLUSE_") or name in RESERVED_ENVIRONMENT:
            continue
        path = name.removeprefix("ECLUSE_").lower().split("__")
        value: Any = _toml_value(text)
        for key in reversed(path):
            value = {key: value}
        out = merge(out, value)
    return out


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text  # plain text needs no quotes in the environment
