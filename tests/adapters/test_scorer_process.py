"""The scorer process: the same answers as the compiled model, its own list of types, and what happens when it dies."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.serving.house import FEATURES, Worker, bundle, ready_house, rows, running, skops_bundle

from ecluse.adapters.scorer_onnx import OnnxScorer
from ecluse.adapters.scorer_process import UNSEEN, frame_of, score
from ecluse.adapters.scorer_skops import ProcessScorer
from ecluse.core.errors import Corrupt, InvalidInput, Unavailable
from ecluse.core.schema import Feature
from ecluse.testing.load import Traffic
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


def alive(pid: int | None) -> bool:
    assert pid is not None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def until(holds: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.005)


def wait_for_another(scorer: ProcessScorer, first: int) -> None:
    until(lambda: scorer.pid not in (None, first))


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
    assert first is not None
    os.kill(first, signal.SIGKILL)
    wait_for_another(scorer, first)
    assert np.array_equal(scorer.score(asked), before)
    second = scorer.pid
    assert second not in (None, first)
    del scorer
    until(lambda: not alive(second))  # nobody holds it, so it ended


def test_one_that_is_away_refuses_at_once_those_who_cannot_wait(scorer: ProcessScorer) -> None:
    asked = matrix(2)
    before, pid = scorer.score(asked), scorer.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until(lambda: scorer.pid is None)
    with pytest.raises(Unavailable, match="started anew"):
        scorer.submit(asked)
    assert np.array_equal(scorer.score(asked), before), "who can wait does"
    assert np.array_equal(scorer.submit(asked).result(10), before)


def test_rows_asked_together_are_answered_as_alone() -> None:
    """Bit by bit, where the model treats each row alone."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.pipeline import make_pipeline

    from ecluse.training.encoders import scaled_encoder
    from ecluse.training.skops_file import dump

    rng = np.random.default_rng(0)
    frame = rows(rng, 400)
    trees = HistGradientBoostingClassifier(max_iter=20, random_state=0)
    fitted = make_pipeline(scaled_encoder(), trees).fit(frame, frame["hours"].to_numpy() > 350)
    good = skops_bundle()
    scorer = ProcessScorer(replace(good, files={**good.files, "model.skops": dump(fitted)}))
    asked = matrix(300)
    alone = [scorer.score(asked[i : i + 1]) for i in range(300)]
    together = [scorer.submit(asked[i : i + 1]) for i in range(300)]
    assert np.array_equal(np.concatenate([each.result(20) for each in together]), np.concatenate(alone))
    scorer.close()


def test_memory_is_bounded() -> None:
    with pytest.raises((Corrupt, Unavailable)):
        ProcessScorer(skops_bundle(), megabytes=60)


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


def children(worker: Worker) -> list[int]:
    """The scorer processes a worker has started."""
    tasks = Path(f"/proc/{worker.process.pid}/task").iterdir()
    pids = [int(pid) for task in tasks for pid in (task / "children").read_text().split()]
    return [pid for pid in pids if b"scorer_process" in Path(f"/proc/{pid}/cmdline").read_bytes()]


@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGSTOP, marks=pytest.mark.nightly)])
def test_a_worker_outlives_a_scorer_that_dies_or_hangs(tmp_path: Path, number: int) -> None:
    house = ready_house(tmp_path)
    house.add(2, skops_bundle())
    house.publish(2)
    with running(house) as worker:
        (scoring,) = children(worker)
        codes: list[str] = []
        with Traffic(worker.url, [{"user_id": "u1", "gift": True}], connections=4) as traffic:
            assert traffic.wait_for(50)
            os.kill(scoring, number)
            until(lambda: traffic.counts.failed > 0)
            until(lambda: children(worker) not in ([], [scoring]), 20)
            until(lambda: worker.predict()[0] == 200, 20)
            codes = list(traffic.counts.codes)
        assert set(codes) - {"ok"} <= {"scorer_unavailable", "deadline_exceeded"}
        assert "scorer_unavailable" in codes
        assert worker.process.poll() is None
