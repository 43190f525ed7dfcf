"""The scorer process: the same answers as the compiled model, its own list of types, and what happens when it dies."""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.serving.house import FEATURES, bundle, ready_house, rows, running, skops_bundle

from ecluse.adapters.scorer_onnx import OnnxScorer
from ecluse.adapters.scorer_process import UNSEEN, frame_of, score
from ecluse.adapters.scorer_skops import ProcessScorer
from ecluse.core.errors import Corrupt, InvalidInput
from ecluse.core.schema import Feature
from ecluse.training.encode import encode


@pytest.fixture(scope="module")
def scorer() -> Any:
    made = ProcessScorer(skops_bundle())
    yield made
    made.close()


def matrix(n: int) -> Any:
    made = encode(rows(np.random.default_rng(5), n), FEATURES)
    made[0, 4] = -1.0
    made[1, 1] = made[1, 4] = np.nan
    return made


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_it_answers_what_the_compiled_model_answers(scorer: ProcessScorer) -> None:
    asked = matrix(3_000)
    expected = OnnxScorer(bundle(1.0).model_bytes).score(asked)
    assert np.abs(scorer.score(asked) - expected).max() < 1e-12
    assert scorer.score(asked[:0]).shape == (0, 1)
    with pytest.raises(InvalidInput):
        scorer.score(asked[:, :3])


def test_several_threads_get_their_own_answers(scorer: ProcessScorer) -> None:
    asked = matrix(40)
    expected = scorer.score(asked)
    found: dict[int, Any] = {}
    threads = [
        threading.Thread(target=lambda i=i: found.update({i: scorer.score(asked[i : i + 1])})) for i in range(40)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert np.abs(np.concatenate([found[i] for i in range(40)]) - expected).max() < 1e-12


def test_a_child_that_died_is_started_anew() -> None:
    scorer = ProcessScorer(skops_bundle())
    first, asked = scorer.pid, matrix(3)
    before = scorer.score(asked)
    os.kill(first, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while scorer._child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert np.array_equal(scorer.score(asked), before)
    assert scorer.pid != first
    second = scorer.pid
    del scorer
    assert not alive(second), "nobody holds it, so it ended"


def test_bytes_that_are_no_model_and_types_that_are_not_ours() -> None:
    good = skops_bundle()
    for data, word in ((b"not a model", "File is not a zip"), (_with_a_type_of_its_own(), "os.system")):
        bad = replace(good, files={**good.files, "model.skops": data})
        with pytest.raises(Corrupt) as caught:
            ProcessScorer(bad)
        assert word in str(caught.value) or "Untrusted" in str(caught.value)


def _with_a_type_of_its_own() -> bytes:
    import skops.io

    data: bytes = skops.io.dumps({"run": os.system})
    return data


def test_a_row_the_model_refuses_answers_nan() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    plan = (Feature("plan", "category", ("Basic", "Gold")),)
    asked = np.array([[0.0], [-1.0], [1.0]])
    strict = make_pipeline(OneHotEncoder(), LogisticRegression()).fit(
        frame_of(np.array([[0.0], [1.0]]), plan), [False, True]
    )
    found = score(strict, asked, plan, "binary", 1)
    assert np.isnan(found[:, 0]).tolist() == [False, True, False]
    assert frame_of(asked, plan)["plan"].to_list() == ["Basic", UNSEEN, "Gold"]


def test_a_worker_serves_it(tmp_path: Path) -> None:
    house = ready_house(tmp_path)
    house.add(2, skops_bundle())
    with running(house) as worker:
        compiled = worker.predict("u7")[1]
        house.publish(2)
        worker.wait("version 2", lambda health: health["models"]["churn"]["serving"] == 2)
        status, answer = worker.predict("u7")
        assert (status, answer["version"]) == (200, 2)
        assert abs(answer["proba"] - compiled["proba"]) < 1e-12
    assert [record["version"] for record in house.records()] == [1, 2]
