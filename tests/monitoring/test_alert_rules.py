"""M5: alerts are called at the minute that was computed, none on healthy traffic, one where nothing is told; judged by promtool."""

from __future__ import annotations

import math
import re
import subprocess
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.monitoring.promtool import Traffic, check, program, series

from ecluse.core.errors import DeclarationError, InvalidInput
from ecluse.core.loop_settings import Slo
from ecluse.monitoring import alert_rules
from ecluse.monitoring.alert_rules import make_alertmanager, make_rules, to_yaml
from ecluse.monitoring.exposition import read_samples
from ecluse.monitoring.slo import BOUNDS, BURNS, ROUTES, Burn, measure
from ecluse.serving.metrics import Metrics
from ecluse.serving.routes import ROUTES as SERVED

SLO = Slo(freshness=timedelta(hours=1))
RULES = make_rules(SLO, "shop", 256)
HISTORY = 3 * 24 * 60
"""Three healthy days before anything goes wrong: the longest window is full."""
NAMES = {"availability": "Availability", "latency": "Latency", "saturation": "Saturation", "freshness": "Freshness"}


def minute_of(burn: Burn, budget: float, share: float) -> float:
    """When both windows have seen enough of a share that went bad at minute 0."""
    longest = max(burn.long, burn.short).total_seconds() / 60
    return burn.factor * budget / share * longest


def moments(objective: str, budget: float, share: float, history: int = HISTORY) -> dict[str, list[tuple[int, bool]]]:
    """Each burn alert one evaluation before and after its minute."""
    found = {}
    for burn in BURNS:
        at = history + minute_of(burn, budget, share)
        found[f"Ecluse{NAMES[objective]}Burn{burn.factor:g}x".replace(".", "_")] = [
            (history - 1, False),
            (math.floor(at) - 1, False),
            (math.ceil(at) + 1, True),
        ]
    return found


BAD: dict[str, tuple[Traffic, float, float]] = {
    "availability": (Traffic(120, failed=100), 0.001, 0.1),
    "latency": (Traffic(200, slow=500), 0.01, 0.5),
    "saturation": (Traffic(200, taken=250), 0.01, 1.0),
    "freshness": (Traffic(200, age=4_000), 0.01, 1.0),
}


def only(rules: dict[str, Any], *names: str) -> dict[str, Any]:
    """The rules of some objectives: three days of minutes take promtool a second for each rule."""

    def kept(rule: dict[str, Any]) -> bool:
        told = rule.get("record") or rule["labels"].get("objective") or rule["alert"]
        return any(name in told for name in (*names, "saturated", "stale", "NoData"))

    return {"groups": [{**g, "rules": [r for r in g["rules"] if kept(r)]} for g in rules["groups"]]}


FAST = "EcluseAvailabilityBurn14_4x"
SHORT = 180


def paged(rules: dict[str, Any], folder: Path) -> str:
    """What promtool says of the fastest alert: three hours of history fill its windows."""
    bad, budget, share = BAD["availability"]
    called = {FAST: moments("availability", budget, share, SHORT)[FAST]}
    return check(folder, only(rules, "availability"), series([Traffic(SHORT), bad]), called)


def test_the_page_is_called_at_the_computed_minute(tmp_path: Path) -> None:
    said = paged(RULES, tmp_path)
    assert not said, said


@pytest.mark.nightly
@pytest.mark.parametrize("objective", BAD)
def test_every_alert_is_called_at_the_computed_minute(objective: str, tmp_path: Path) -> None:
    bad, budget, share = BAD[objective]
    said = check(tmp_path, only(RULES, objective), series([Traffic(HISTORY), bad]), moments(objective, budget, share))
    assert not said, said


def test_rules_with_windows_swapped_are_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted defect: the alert that pages at once looks at six hours, the slower one at one."""
    fast, slow, ticket = BURNS
    swapped = (replace(fast, long=slow.long, short=slow.short), replace(slow, long=fast.long, short=fast.short), ticket)
    monkeypatch.setattr(alert_rules, "BURNS", swapped)
    said = paged(make_rules(SLO, "shop", 256), tmp_path)
    assert FAST in said


def test_a_fault_that_is_over_calls_nobody_any_more(tmp_path: Path) -> None:
    """The short window: five minutes after the end the page is quiet, though the hour still remembers."""
    parts = [Traffic(120), Traffic(12, failed=100), Traffic(60)]
    called = {"EcluseAvailabilityBurn14_4x": [(131, True), (139, False)]}
    said = check(tmp_path, only(RULES, "availability"), series(parts), called)
    assert not said, said


def test_silence_is_an_alert(tmp_path: Path) -> None:
    said = check(tmp_path, RULES, series([Traffic(60)]), {"EcluseNoData": [(59, False), (72, True)]})
    assert not said, said


@pytest.mark.parametrize("days", [1, pytest.param(30, marks=pytest.mark.nightly)])
def test_healthy_traffic_calls_nobody(days: int, tmp_path: Path) -> None:
    """Half of every budget is spent, day and night; looked at every six hours, evaluated every five minutes."""
    day = [
        Traffic(8 * 60, requests=10_000, failed=5, slow=50),
        Traffic(16 * 60, requests=2_000, failed=1, slow=10, taken=100, age=1_800),
    ]
    alerts = [rule["alert"] for group in RULES["groups"] for rule in group["rules"] if "alert" in rule]
    looks = [(minute, False) for minute in range(60, days * 24 * 60, 360)]
    said = check(tmp_path, RULES, series(day * days), dict.fromkeys(alerts, looks), every="5m")
    assert not said, said


def test_every_metric_is_one_that_workers_tell() -> None:
    metrics = Metrics()
    metrics.count("/predict", "churn", "1", 200, "ok", 0.001)
    metrics.feature_age.labels("usage").set(1.0)
    told = {name for name, _ in read_samples(metrics.render().decode())}
    asked = set(re.findall(r"\becluse_\w+", to_yaml(RULES)))
    assert asked <= told, asked - told
    bounds = [
        float(dict(labels)["le"])
        for (name, labels), _ in read_samples(metrics.render().decode()).items()
        if "le" in dict(labels)
    ]
    assert sorted(bounds) == [*BOUNDS, math.inf]


def test_the_routes_of_predictions_are_those_served() -> None:
    pattern = re.compile(ROUTES.partition('"')[2].rstrip('"'))
    for route in SERVED:
        assert bool(pattern.fullmatch(route.path)) == (route.permission == "predict"), route.path


def test_the_rules_pass_their_own_checker(tmp_path: Path) -> None:
    path = tmp_path / "rules.yml"
    path.write_text(to_yaml(make_rules(Slo(), "shop's", 256, match='job="shop"')))
    subprocess.run([program("promtool", "prometheus"), "check", "rules", str(path)], check=True, capture_output=True)


def test_the_configuration_of_alertmanager_passes_its_own_checker(tmp_path: Path) -> None:
    path = tmp_path / "alertmanager.yml"
    path.write_text(to_yaml(make_alertmanager("https://hooks.example.com/ecluse", "shop")))
    command = [program("amtool", "prometheus-alertmanager"), "check-config", str(path)]
    subprocess.run(command, check=True, capture_output=True)
    with pytest.raises(InvalidInput):
        make_alertmanager("ftp://example.com", "shop")


def test_a_latency_that_cannot_be_counted_is_refused() -> None:
    with pytest.raises(DeclarationError, match="latency_ms"):
        make_rules(Slo(latency_ms=42), "shop", 256)


def test_budgets_by_what_workers_counted() -> None:
    metrics = Metrics()
    for status, seconds, times in ((200, 0.001, 90), (200, 0.2, 9), (500, 0.001, 1)):
        for _ in range(times):
            metrics.count("/models/{name}/predict", "churn", "1", status, "ok", seconds)
    metrics.count("/health", "", "", 500, "bad", 1.0)
    metrics.in_flight.set(255)
    metrics.feature_age.labels("usage").set(30.0)
    budgets = {each.name: each for each in measure(SLO, 256, read_samples(metrics.render().decode()))}
    assert (budgets["availability"].total, budgets["availability"].bad) == (100, 1)
    assert budgets["availability"].burn == pytest.approx(10.0)
    assert (budgets["latency"].total, budgets["latency"].bad) == (99, 9)
    assert (budgets["saturation"].bad, budgets["freshness"].bad) == (1, 0)
