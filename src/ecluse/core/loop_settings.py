"""The tables of ecluse.toml that only the loop reads: who decides, what is watched, what sets it off and what holds it back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from ecluse.core.errors import DeclarationError


@dataclass(frozen=True)
class Policy:
    """Who moves a version on: ``register`` after training, ``promotion`` after passed gates, ``retrain`` after a breached monitor.

    ``promotion = "risk"`` goes by the ``tier``: low is automatic, medium asks one approval, high two and the checklist.
    """

    register: Literal["manual", "automatic"] = "automatic"
    promotion: Literal["manual", "approval", "automatic", "risk"] = "manual"
    tier: Literal["low", "medium", "high"] = "medium"
    retrain: Literal["manual", "automatic"] = "automatic"


@dataclass(frozen=True)
class Monitoring:
    """When a window of predictions counts as drifted. A limit of 0 switches its statistic off.

    ``last`` / ``period``: the window judged by default (whichever is given; all predictions of the champion otherwise).
    ``every``: how often the loop that stays up judges, when anything was served since (None: never by itself); ``settle``: how often it
    settles truths and judges realised performance by all of them.
    A feature has drifted when any statistic passes its limit and is significant with at most ``false_discoveries`` false among all that are;
    the data has when ``drift_share`` of the features have (``weights``: counted, or weighed by their importance), a segment's when
    ``segment_share`` of them. ``trend``: the p-value below which ``trend_windows`` windows in a row rise or fall; 0 looks at no trend.
    ``estimate_rows``: truths in each window on which estimated performance is checked; 0 estimates nothing.
    """

    last: int | None = None
    period: timedelta | None = None
    every: timedelta | None = timedelta(minutes=1)
    settle: timedelta | None = timedelta(minutes=10)
    min_samples: int = 200
    psi: float = 0.2
    mean_shift: float = 0.5
    jensen_shannon: float = 0.1
    ks: float = 0.15
    wasserstein: float = 0.5
    cramers_v: float = 0.2
    missing: float = 0.1
    unseen: float = 0.02
    prediction_psi: float = 0.25
    target_shift: float = 0.1
    drift_share: float = 0.2
    weights: Literal["equal", "importance"] = "equal"
    segment_share: float = 0.5
    false_discoveries: float = 0.01
    trend: float = 0.01
    trend_windows: int = 10
    variance: float = 0.5
    performance: Mapping[str, float] = field(default_factory=dict)
    min_outcomes: int = 200
    estimate_rows: int = 1000

    def __post_init__(self) -> None:
        if not 0 < self.false_discoveries < 1:
            raise DeclarationError(
                f"false_discoveries = {self.false_discoveries}", where="monitoring", cure="give a share such as 0.01"
            )
        if self.estimate_rows and self.estimate_rows < 100:
            raise DeclarationError(
                f"estimate_rows = {self.estimate_rows}", where="monitoring", cure="give at least 100, or 0"
            )
        if not 0 <= self.trend < 1 or self.trend_windows < 5:
            raise DeclarationError(
                f"trend = {self.trend}, trend_windows = {self.trend_windows}",
                where="monitoring",
                cure="give a p-value below 1, such as 0.01, and at least 5 windows",
            )


@dataclass(frozen=True)
class Loop:
    """The loop that stays up (``ecluse up``): looks ``every`` so often; ``warm`` keeps training processes waiting for their order."""

    every: timedelta = timedelta(seconds=1)
    warm: bool = True

    def __post_init__(self) -> None:
        if self.every <= timedelta(0):
            raise DeclarationError("loop.every of no time", where="loop", cure='write it like "1s"')


TRIGGERS = ("manual", "schedule", "new_data", "drift", "performance", "slo", "outside")
"""What may set off a retraining."""
OBJECTIVES = ("availability", "latency")
"""Objectives whose miss may be a model's own doing: no retraining empties a queue or makes features fresh."""
MOST_PER_DAY = 200
"""The largest ``per_day``: so many retrainings of each model are remembered, and what is forgotten cannot be held against a budget."""


@dataclass(frozen=True)
class Triggers:
    """What sets off a retraining, and what holds it back. Times are the project's clock's.

    ``on``: the triggers that may act. ``every``: retrain so long after the last training; ``new_rows`` / ``new_share``: when so many rows of
    the label's table arrived since the last training, or so large a share of those before (0: never).
    ``objectives``: those of ``[slo]`` that ask when their error budget burns too fast.
    ``debounce``: wait so long after the first cause, and act once for all; ``hysteresis``: windows in a row, of different rows, that must breach;
    ``cool_down`` after a retraining began; at most ``per_day`` retrainings begun and ``compute_minutes`` trained in any 24 hours (0: no limit).
    After refused candidates drift and performance wait for the cool-down doubled with each in a row, up to ``refused_most`` (0: never).
    A training that failed is tried again after ``backoff``, doubled each time up to ``backoff_most``, and given up after ``attempts``;
    one that takes longer than ``training_timeout`` is ended and has failed.
    """

    on: tuple[str, ...] = TRIGGERS
    every: timedelta | None = None
    new_rows: int = 0
    new_share: float = 0.0
    objectives: tuple[str, ...] = ("availability",)
    debounce: timedelta = timedelta(0)
    hysteresis: int = 1
    cool_down: timedelta = timedelta(hours=6)
    refused_most: timedelta = timedelta(days=7)
    per_day: int = 4
    compute_minutes: float = 0.0
    attempts: int = 3
    backoff: timedelta = timedelta(minutes=10)
    backoff_most: timedelta = timedelta(hours=6)
    training_timeout: timedelta = timedelta(hours=6)

    def __post_init__(self) -> None:
        if unknown := set(self.on) - set(TRIGGERS):
            raise DeclarationError(f"no trigger is called {min(unknown)!r}", cure="choose among " + ", ".join(TRIGGERS))
        if unknown := set(self.objectives) - set(OBJECTIVES):
            cure = "choose among " + ", ".join(OBJECTIVES)
            raise DeclarationError(f"no retraining mends {min(unknown)!r}", where="triggers.objectives", cure=cure)
        if self.per_day < 1 or self.attempts < 1 or self.hysteresis < 1:
            raise DeclarationError(
                "per_day, attempts and hysteresis begin at 1", cure='`on = ["manual"]` acts on nothing else'
            )
        if self.training_timeout <= timedelta(0):
            raise DeclarationError("training_timeout of no time", cure='write it like "6h"')
        if self.per_day > MOST_PER_DAY:
            raise DeclarationError(f"per_day = {self.per_day}", where="triggers", cure=f"give at most {MOST_PER_DAY}")


ROLE = "role:"
"""Begins an approver that is a role."""


@dataclass(frozen=True)
class Approval:
    """Who may approve a release, and what an approval is worth, where the policy asks for one.

    ``approvers``: persons, or ``role:<name>`` of ``roles`` (empty: everybody but the author); ``people``: the other names (accounts, API keys)
    a person acts under; ``count`` approvals under ``promotion = "approval"``, each good for ``expires``; ``checklist``: what must be vouched for.
    """

    approvers: tuple[str, ...] = ()
    roles: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    people: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    count: int = 1
    expires: timedelta = timedelta(days=3)
    checklist: tuple[str, ...] = ()
    author_may_approve: bool = False

    def __post_init__(self) -> None:
        asked = {each.removeprefix(ROLE) for each in self.approvers if each.startswith(ROLE)}
        if unknown := asked - self.roles.keys():
            raise DeclarationError(
                f"no role is called {min(unknown)!r}", where="approval", cure="declare it under [approval.roles]"
            )
        if self.count < 1 or self.expires <= timedelta(0):
            raise DeclarationError(
                "count begins at 1, and an approval must last",
                where="approval",
                cure='`policy.promotion = "automatic"` asks nobody',
            )


@dataclass(frozen=True)
class Control:
    """The control API's address and limits. ``hosts``: names it answers for besides those it is bound to; a leading dot takes subdomains."""

    host: str = "127.0.0.1"
    port: int = 8401
    hosts: tuple[str, ...] = ()
    max_body_bytes: int = 65_536
    max_in_flight: int = 32

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65_535:
            raise DeclarationError(f"control.port = {self.port}", cure="choose one from 0 (any) to 65535")
        for name in ("max_body_bytes", "max_in_flight"):
            if getattr(self, name) < 1:
                raise DeclarationError(f"control.{name} = {getattr(self, name)}", cure="give a whole number from 1 on")


@dataclass(frozen=True)
class FreshGain:
    """Before the loop releases a version: it must be better than the champion by more than ``min_gain`` on labels the champion could not
    know, of the last of ``windows`` equal stretches of them. With fewer than ``rows`` of them nothing can be said; 0 asks nothing.
    """

    rows: int = 100
    windows: int = 3
    min_gain: float = 0.0

    def __post_init__(self) -> None:
        if self.rows < 0 or self.windows < 1:
            raise DeclarationError("rows begin at 0, windows at 1", where="gates.fresh", cure="`rows = 0` asks nothing")


@dataclass(frozen=True)
class Slo:
    """Objectives over ``window``: the share of answers that are no failure (``availability``); the share within ``latency_ms``
    (``latency_share``); the share of time (``time_share``) in which no more than ``saturation`` of the places are taken, and no view's
    features are older than ``freshness`` (None: no objective).
    """

    availability: float = 0.999
    latency_ms: float = 50.0
    latency_share: float = 0.99
    saturation: float = 0.8
    freshness: timedelta | None = None
    time_share: float = 0.99
    window: timedelta = timedelta(days=30)

    def __post_init__(self) -> None:
        for name in ("availability", "latency_share", "saturation", "time_share"):
            if not 0 < getattr(self, name) < 1:
                raise DeclarationError(f"slo.{name} = {getattr(self, name)}", cure="give a share between 0 and 1")
        if self.window < timedelta(days=3):
            raise DeclarationError("slo.window is shorter than its longest alert window", cure='give "3d" or more')


ROLLBACKS = ("errors", "latency", "output", "slo", "drift", "performance", "business", "incident")
"""What may take a version back."""


@dataclass(frozen=True)
class Rollback:
    """When the loop takes a champion back by itself: ``on`` which checks, up to ``watch`` after its release.

    ``errors``: share of failed answers; ``latency``: times the median of the version before; ``output_psi``: PSI of its outputs against
    those at training; each over at least ``samples`` answers. ``metrics``: least values of business metrics. ``within``: the time it may
    take. ``cool_down``: no second rollback and no release without a person so long after one. ``calm``: an incident closes after so long.
    """

    on: tuple[str, ...] = ("errors", "output", "business", "incident")
    watch: timedelta = timedelta(days=1)
    within: timedelta = timedelta(minutes=1)
    errors: float = 0.02
    latency: float = 1.25
    output_psi: float = 1.0
    samples: int = 50
    metrics: Mapping[str, float] = field(default_factory=dict)
    cool_down: timedelta = timedelta(hours=6)
    calm: timedelta = timedelta(minutes=10)

    def __post_init__(self) -> None:
        if unknown := set(self.on) - set(ROLLBACKS):
            raise DeclarationError(
                f"nothing is taken back for {min(unknown)!r}", cure="choose among " + ", ".join(ROLLBACKS)
            )
        if not 0 < self.errors < 1 or self.latency <= 1 or self.samples < 1:
            raise DeclarationError(
                "rollback.errors is a share, rollback.latency above 1, rollback.samples at least 1",
                where="rollback",
                cure="give numbers such as 0.02, 1.25 and 50",
            )


NOTIFY_SECRET = "ECLUSE_NOTIFY_SECRET"  # noqa: S105 - the name of the variable that holds it
LEAST_SECRET = 32
"""Characters of a secret messages are signed with: a shorter one can be found out from a message and its signature."""
NOTABLE = ("incident.opened", "incident.closed", "alert.raised", "version.rolled_back")


def is_plain(url: str) -> bool:
    """Whether an address is of visible ASCII characters alone: no other can be sent as it stands.

    >>> is_plain("https://h/f%C3%BCr"), is_plain("https://h/für"), is_plain("https://h/a b")
    (True, False, False)
    """
    return all("!" <= character <= "~" for character in url)


@dataclass(frozen=True)
class Webhook:
    """Who is told of events: a POST to ``url`` for each of these ``kinds``, signed with the secret in the environment variable ``secret``.

    ``private``: addresses inside one's own network are meant. ``timeout`` of a whole attempt, of which there are ``attempts``.
    """

    url: str
    kinds: tuple[str, ...] = NOTABLE
    secret: str = NOTIFY_SECRET
    private: bool = False
    timeout: timedelta = timedelta(seconds=5)
    attempts: int = 4

    def __post_init__(self) -> None:
        if not self.url.startswith(("https://", "http://")):
            raise DeclarationError(f"notify.url = {self.url!r}", cure="write https://…")
        if not is_plain(self.url):  # the address itself may be a secret
            cure = "percent-encode the path (ü is %C3%BC), and write the host in ASCII (xn--…)"
            raise DeclarationError(
                "notify.url holds a blank or a character that is not ASCII", where="notify", cure=cure
            )
        if self.secret.startswith("ECLUSE_") and self.secret != NOTIFY_SECRET:  # it would be read as a setting
            raise DeclarationError(
                f"notify.secret = {self.secret!r}", cure="give a name that does not begin with ECLUSE_"
            )
        if self.attempts < 1 or self.timeout <= timedelta(0):
            raise DeclarationError("notify.attempts begin at 1, notify.timeout above 0", where="notify")
