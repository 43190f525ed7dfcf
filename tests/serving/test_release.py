"""Releases at a running server: promotion and rollback under load, bad releases, the first one; nothing restarts, nothing fails."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.serving.bad_models import endless, with_model
from tests.serving.house import House, Worker, bundle, other_sealer, ready_house, running

from ecluse.core.access import KeyGrant, hash_key
from ecluse.testing.load import Traffic

BODIES = [{"user_id": f"u{i}", "gift": bool(i % 2)} for i in range(10)]


@pytest.fixture
def house(tmp_path: Path) -> House:
    return ready_house(tmp_path)


def serves(worker: Worker, number: int | None) -> None:
    worker.wait(f"version {number} serves", lambda health: health["models"]["churn"]["serving"] == number)


def test_swaps_under_load_fail_nothing_and_mix_nothing(house: House) -> None:
    """Two versions with opposite weights: an answer must be the one its own version gives."""
    expected: dict[tuple[int, str, bool], float] = {}
    house.add(2, bundle(-1.0))
    wrong: list[Mapping[str, Any]] = []

    def check(body: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
        if (
            answer["user_id"] != body["user_id"]
            or answer["proba"] != expected[answer["version"], body["user_id"], body["gift"]]
        ):
            wrong.append(answer)

    with running(house) as worker:
        for number in (1, 2):
            house.publish(number)
            serves(worker, number)
            for body in BODIES:
                expected[number, str(body["user_id"]), bool(body["gift"])] = worker.predict(**body)[1]["proba"]  # type: ignore[arg-type]
        with Traffic(worker.url, BODIES, connections=4, check=check) as traffic:
            for i in range(10):
                house.publish(1 + i % 2)
                serves(worker, 1 + i % 2)
                assert worker.predict()[1]["version"] == 1 + i % 2, "after the swap no old version on a new request"
            assert traffic.wait_for(1_000)
        counts = traffic.counts
        assert (counts.failed, wrong) == (0, []), counts.codes
        assert set(counts.versions) == {1, 2}
        assert worker.stop() == 0
    kept = [record for record in house.records() if record["kind"] == "prediction"]
    assert len(kept) == counts.sent + 2 * len(BODIES) + 10
    assert len({record["id"] for record in kept}) == len(kept)


def test_a_new_threshold_needs_no_new_version(house: House) -> None:
    with running(house) as worker:
        proba = worker.predict("u9")[1]["proba"]
        house.publish(1, threshold=proba / 2)
        worker.wait("generation 2", lambda health: health["generation"] == 2)
        answer = worker.predict("u9")[1]
        assert (answer["version"], answer["decision"], answer["threshold"]) == (1, True, proba / 2)


def test_bad_releases_leave_the_old_one_serving(house: House) -> None:
    house.add(2, bundle(-1.0), sealer=other_sealer())
    digest = house.add(3, bundle(0.3))
    path = house.home / "bundles" / digest / "model.onnx"
    path.write_bytes(path.read_bytes()[:-1])
    house.add(4, bundle(0.4, smoke_error=0.01))
    with running(house) as worker, Traffic(worker.url, BODIES, connections=2) as traffic:
        for number, reason in ((2, "not trusted"), (3, "does not match"), (4, "smoke rows")):
            house.publish(number)
            worker.wait(
                f"version {number} is refused",
                lambda h, n=number: str(n) in h["models"]["churn"]["not_loaded"] and h["generation"] == n,
            )
            found = worker.health()
            assert reason in found["models"]["churn"]["not_loaded"][str(number)]
            assert found["last_load_failure"] is not None
            assert found["status"] == "degraded"
            assert worker.call("GET", "/ready")[0] == 200
            assert worker.predict()[1]["version"] == 1
        traffic.wait_for(200)
        assert traffic.stop().failed == 0, traffic.counts.codes


def test_lower_generations_and_forged_documents_are_refused(house: House) -> None:
    old = house.publish(1)
    house.add(2, bundle(-1.0))
    house.publish(2)
    with running(house) as worker:
        serves(worker, 2)
        house.put(old)
        worker.wait("the old document is refused", lambda health: "older" in (health["document"]["refused"] or ""))
        assert worker.predict()[1]["version"] == 2
        house.put(replace(house.document(1), generation=99), other_sealer())
        worker.wait("the forged document is refused", lambda health: "trusted" in (health["document"]["refused"] or ""))
        assert worker.predict()[1]["version"] == 2
        assert "ecluse_document_refused 1.0" in worker.call("GET", "/metrics")[2]
    house.put(old)
    with running(house) as worker:
        assert worker.predict()[1]["version"] == 2, "also after a restart: the copy kept is newer"


def test_the_first_release_is_picked_up(tmp_path: Path) -> None:
    house = ready_house(tmp_path, champion=None)
    with running(house) as worker:
        status, headers, answer = worker.call("GET", "/ready")
        assert (status, answer["code"], headers["retry-after"]) == (503, "no_production_version", "5")
        assert worker.call("GET", "/health")[0] == 200
        assert worker.predict()[0] == 503
        house.publish(1)
        worker.wait("ready", lambda health: health["status"] == "ok")
        assert worker.call("GET", "/ready")[0] == 200
        assert worker.predict()[1]["version"] == 1


def test_several_models_have_to_be_named(house: House) -> None:
    from tests.serving.house import with_schema

    house.add(1, bundle(1.0, schema=with_schema(model="other")), model="other")
    house.publish(1)
    with running(house) as worker:
        body = {"user_id": "u1", "gift": True}
        status, _, answer = worker.call("POST", "/predict", body)
        assert (status, answer["code"]) == (422, "model_required")
        assert worker.call("POST", "/models/other/predict", body)[2]["model"] == "other"
        assert set(worker.call("GET", "/models")[2]["models"]) == {"churn", "other"}
        assert worker.call("POST", "/outcomes", {"request_id": "a", "value": True})[2]["code"] == "model_required"
        assert worker.call("POST", "/outcomes", {"request_id": "a", "value": True, "model": "other"})[0] == 202


def test_the_clock_of_the_data_judges_staleness(house: House) -> None:
    from datetime import timedelta

    with running(house) as worker:
        assert worker.predict()[0] == 200
        assert house.now is not None
        house.now += timedelta(days=60)
        house.publish(1)
        worker.wait("generation 2", lambda health: health["generation"] == 2)
        assert worker.predict()[1]["code"] == "feature_stale"
        house.fill(["u1"], house.now)
        status, answer = worker.predict()
        assert (status, answer["timestamp"]) == (200, "2024-03-31T00:00:00.000000Z")


def test_a_key_ends_while_a_version_is_being_loaded(house: House) -> None:
    house.keys = tuple(KeyGrant(name, hash_key(name), ("read",)) for name in ("stays", "goes"))
    house.publish(1)
    with running(house) as worker:

        def status(key: str) -> int:
            return worker.call("GET", "/models", headers={"Authorization": f"Bearer {key}"})[0]

        assert (status("stays"), status("goes")) == (200, 200)
        house.add(2, with_model(endless()))
        house.publish(2)
        time.sleep(0.5)
        house.keys = house.keys[:1]
        house.publish(2)
        end = time.monotonic() + 5
        while status("goes") != 401:
            assert time.monotonic() < end, "revoked, and taken for as long as the version is loaded"
            time.sleep(0.05)
        assert status("stays") == 200
        health = worker.health()
        assert health["generation"] == 2, "the version is still being loaded"


def test_a_version_that_is_being_loaded_does_not_delay_the_end(house: House) -> None:
    with running(house) as worker:
        house.add(2, with_model(endless()))
        house.publish(2)
        time.sleep(0.5)
        begun = time.monotonic()
        assert worker.stop() == 0
        assert time.monotonic() - begun < 5
