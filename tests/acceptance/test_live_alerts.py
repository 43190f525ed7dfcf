"""A real Alertmanager tells a real receiver, a real Prometheus scrapes a worker: under the files that are written for them."""

import json
import subprocess
import time
import urllib.request
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.adapters.receiver import receiving
from tests.monitoring.promtool import program
from tests.serving.house import ready_house, running

from ecluse.core.loop_settings import Slo
from ecluse.demo.server import free_port
from ecluse.monitoring.alert_rules import make_alertmanager, make_rules, to_yaml

ALERT = [{"labels": {"alertname": "EcluseAvailabilityBurn14_4x", "severity": "page", "project": "shop"}}]


@pytest.mark.nightly
def test_an_alert_reaches_the_receiver(tmp_path: Path) -> None:
    server, port = program("prometheus-alertmanager", "prometheus-alertmanager"), free_port()
    with receiving() as receiver:
        (tmp_path / "alertmanager.yml").write_text(to_yaml(make_alertmanager(receiver.url, "shop")))
        command = [server, f"--config.file={tmp_path}/alertmanager.yml", f"--storage.path={tmp_path}/data"]
        command += [f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address="]
        with (tmp_path / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            end, taken = time.monotonic() + 60, False
            while time.monotonic() < end and not receiver.got:
                if not taken:
                    asked = urllib.request.Request(
                        f"http://127.0.0.1:{port}/api/v2/alerts",
                        json.dumps(ALERT).encode(),
                        {"Content-Type": "application/json"},
                    )
                    with suppress(OSError), urllib.request.urlopen(asked, timeout=5) as answer:
                        taken = answer.status == 200
                time.sleep(0.2)
            assert process.poll() is None, (tmp_path / "log").read_text()
        finally:
            process.terminate()
            process.wait(10)
    assert receiver.got, (tmp_path / "log").read_text()
    told = json.loads(receiver.got[0][1])
    assert [each["labels"]["alertname"] for each in told["alerts"]] == ["EcluseAvailabilityBurn14_4x"]


def _asked(port: int, path: str) -> Any:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/{path}", timeout=5) as answer:
        return json.load(answer)["data"]


@pytest.mark.nightly
def test_a_live_prometheus_scrapes_a_worker_and_evaluates_every_rule(tmp_path: Path) -> None:
    server, port = program("prometheus", "prometheus"), free_port()
    (tmp_path / "rules.yml").write_text(to_yaml(make_rules(Slo(freshness=timedelta(days=9_000)), "shop", 256)))
    with running(ready_house(tmp_path)) as worker:
        scrape = {"job_name": "shop", "static_configs": [{"targets": [worker.url.removeprefix("http://")]}]}
        settings = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(tmp_path / "rules.yml")],
            "scrape_configs": [scrape],
        }
        (tmp_path / "prometheus.yml").write_text(to_yaml(settings))
        command = [server, f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/tsdb"]
        with (tmp_path / "log").open("wb") as log:
            process = subprocess.Popen(
                [*command, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=subprocess.STDOUT
            )
        try:
            rules, value = [], None
            end = time.monotonic() + 60
            while time.monotonic() < end and (value is None or any(rule["health"] != "ok" for rule in rules)):
                worker.predict()
                time.sleep(0.5)
                with suppress(OSError, IndexError):
                    value = _asked(port, "query?query=ecluse:availability_bad:share_5m")["result"][0]["value"][1]
                    rules = [rule for group in _asked(port, "rules")["groups"] for rule in group["rules"]]
        finally:
            process.terminate()
            process.wait(10)
    assert value == "0", (tmp_path / "log").read_text()
    assert {rule["health"] for rule in rules} == {"ok"}
    assert {rule["state"] for rule in rules if rule["type"] == "alerting"} == {"inactive"}
