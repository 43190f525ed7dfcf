"""Prometheus's own judge of rules: series, minutes and what must be called then, run by ``promtool test rules``."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ecluse.monitoring.alert_rules import to_yaml


def program(name: str, package: str) -> str:
    """The program; skipped without it, and failed where all programs must be there."""
    found = shutil.which(name)
    if found is None:
        assert not os.environ.get("CI"), f"{name} is missing: install {package}"
        pytest.skip(f"no {name} on this machine")
    return found


@dataclass(frozen=True)
class Traffic:
    """Minutes of one kind: requests a minute, of which some fail, some are slow; the share of places taken."""

    minutes: int
    requests: int = 1_000
    failed: int = 0
    slow: int = 0
    taken: int = 10
    age: int = 60


def series(parts: Sequence[Traffic]) -> list[dict[str, str]]:
    """The counters of one worker over these parts, a sample a minute."""
    rows: dict[str, list[str]] = {}
    levels: dict[str, int] = {}
    for part in parts:
        good = part.requests - part.failed
        steps = {
            'ecluse_requests_total{route="/predict",model="churn",version="1",status="200",code="ok"}': good,
            'ecluse_requests_total{route="/predict",model="churn",version="1",status="500",code="bad"}': part.failed,
            'ecluse_request_seconds_count{route="/predict",outcome="ok"}': good,
            'ecluse_request_seconds_bucket{route="/predict",outcome="ok",le="0.05"}': good - part.slow,
        }
        for name, step in steps.items():
            level = levels.get(name, 0)
            rows.setdefault(name, []).append(f"{level + step}+{step}x{part.minutes - 1}")
            levels[name] = level + step * part.minutes
        for name, value in (("ecluse_requests_in_flight", part.taken), ("ecluse_feature_age_seconds", part.age)):
            rows.setdefault(name, []).append(f"{value}x{part.minutes - 1}")
        for name in ("ecluse_ready", "ecluse_journal_writable"):
            rows.setdefault(name, []).append(f"1x{part.minutes - 1}")
    return [{"series": name, "values": " ".join(values)} for name, values in rows.items()]


def check(
    folder: Path,
    rules: Mapping[str, Any],
    input_series: Sequence[Mapping[str, str]],
    called: Mapping[str, Sequence[tuple[int, bool]]],
    every: str = "1m",
) -> str:
    """What promtool objects to, empty when every alert was called, or not, at each minute. ``called``: by alert, (minute, whether)."""
    (folder / "rules.yml").write_text(to_yaml(rules))
    alerts = {r["alert"]: r for group in rules["groups"] for r in group["rules"] if "alert" in r}
    tests = []
    for name, moments in called.items():
        rule = alerts[name]
        told = {"exp_labels": rule["labels"], "exp_annotations": rule["annotations"]}
        tests += [
            {"eval_time": f"{minute}m", "alertname": name, "exp_alerts": [told] if on else []} for minute, on in moments
        ]
    plan = {
        "rule_files": ["rules.yml"],
        "evaluation_interval": every,
        "tests": [{"interval": "1m", "input_series": list(input_series), "alert_rule_test": tests}],
    }
    (folder / "tests.yml").write_text(json.dumps(plan))
    command = [program("promtool", "prometheus"), "test", "rules", str(folder / "tests.yml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    return "" if done.returncode == 0 else done.stdout + done.stderr
