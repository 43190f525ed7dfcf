"""Trials: what a child that may die is told of, what is noted, who is believed, and that nobody is refused for another's sake."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from tests.serving.bad_models import crashing, endless, hungry, sociable, swollen, with_model
from tests.serving.house import bundle, skops_bundle

from ecluse.adapters import trials as module
from ecluse.adapters.scorer_onnx import OnnxScorer
from ecluse.adapters.trials import Trials, tried
from ecluse.core.bundle import Bundle
from ecluse.core.errors import Corrupt

MEGABYTES = 512


def trials(tmp_path: Path, seconds: int = 10) -> Trials:
    return Trials(tmp_path / "cache" / "trials", MEGABYTES, seconds)


def why(made: Trials, tried: Bundle) -> str:
    """Why it is refused; "" when it is not."""
    try:
        made(tried)
    except Corrupt as error:
        return error.what
    return ""


def pid(made: Trials) -> int | None:
    return made._child.pid if made._child else None


def test_one_that_survives_is_tried_once_on_a_machine(tmp_path: Path) -> None:
    first, second = trials(tmp_path), trials(tmp_path)
    first(bundle(1.0))
    second(bundle(1.0))
    assert (pid(first) is not None, pid(second)) == (True, None)
    notes = sorted((tmp_path / "cache" / "trials").iterdir())
    assert {path.stat().st_mode & 0o777 for path in notes} == {0o600}
    assert notes[0].parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (crashing, "ends the process that loads it (SIGSEGV)"),
        (lambda: hungry(10**12), "takes more memory than the 512 MB"),
        (lambda: hungry(10**8), "takes more memory than the 512 MB"),
        (lambda: swollen(10**8), "takes more memory than the 512 MB"),
        (sociable, "otherwise alone than among others"),
        (lambda: b"not a model", "not a model"),
    ],
)
def test_what_does_harm_is_refused_and_says_why(tmp_path: Path, model: object, reason: str) -> None:
    assert callable(model)
    made = trials(tmp_path)
    assert reason in why(made, with_model(model()))
    assert why(made, bundle(1.0)) == ""


def test_files_that_are_wrong_are_refused(tmp_path: Path) -> None:
    made = trials(tmp_path)
    assert "smoke rows otherwise" in why(made, bundle(1.0, smoke_error=0.01))
    good = bundle(0.5)
    files = {name: data for name, data in good.files.items() if name != "smoke.json"}
    assert "smoke.json" in why(made, Bundle(good.manifest, files))


def test_one_that_does_not_end_is_ended(tmp_path: Path) -> None:
    made, tried = trials(tmp_path, seconds=1), with_model(endless())
    made(bundle(1.0))
    begun = time.monotonic()
    assert "takes more than 1 seconds" in why(made, tried)
    took = time.monotonic() - begun
    assert "takes more than 1 seconds" in why(made, tried)
    assert took < 5
    assert time.monotonic() - begun - took < 0.5, "it is not tried again at once"
    assert why(made, bundle(0.5)) == ""


def test_a_child_that_is_killed_refuses_and_is_tried_again_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LEAST_SECONDS", 0.1)
    monkeypatch.setattr(module, "PATIENCE", 0)
    made, told = trials(tmp_path), list[str]()
    thread = threading.Thread(target=lambda: told.append(why(made, with_model(endless()))))
    thread.start()
    while (child := pid(made)) is None:
        time.sleep(0.01)
    time.sleep(0.5)
    os.kill(child, signal.SIGKILL)
    thread.join(10)
    assert "was killed" in told[0]
    time.sleep(0.2)
    made = trials(tmp_path, seconds=1)
    assert "takes more than" in why(made, with_model(endless()))


def test_none_is_refused_for_what_was_tried_before_it(tmp_path: Path) -> None:
    made = trials(tmp_path)
    made(bundle(1.0))
    kept = pid(made)
    made(bundle(0.5))
    assert pid(made) == kept, "one child for several"
    assert kept is not None
    os.kill(kept, signal.SIGKILL)
    made(bundle(0.25))
    assert pid(made) != kept, "that it had died was nobody's fault"
    assert "SIGSEGV" in why(made, with_model(crashing()))
    assert why(made, bundle(0.75)) == ""


def test_the_child_goes_when_nobody_needs_it(tmp_path: Path) -> None:
    made = trials(tmp_path)
    made(bundle(1.0))
    end = time.monotonic() + 10
    while pid(made) is not None and time.monotonic() < end:
        time.sleep(0.05)
    assert pid(made) is None


def test_those_scored_elsewhere_are_not_parsed_here(tmp_path: Path) -> None:
    made = trials(tmp_path)
    made(skops_bundle())
    assert pid(made) is None


def test_the_control_plane_opens_nothing_untried(tmp_path: Path) -> None:
    opened = list[str]()

    def open_scorer(made: Bundle) -> OnnxScorer:
        opened.append(made.digest)
        return OnnxScorer(made.model_bytes)

    good, bad, open_tried = bundle(1.0), with_model(crashing()), tried(trials(tmp_path), open_scorer)
    with pytest.raises(Corrupt, match="SIGSEGV"):
        open_tried(bad)
    assert open_tried(good).score(np.zeros((1, 5))).shape == (1, 1)
    sketch = Bundle(good.manifest, {name: data for name, data in good.files.items() if name != "smoke.json"})
    open_tried(sketch)
    assert opened == [good.digest, good.digest]


# -- notes --------------------------------------------------------------------------------------------------------------


def forge(tmp_path: Path) -> Path:
    """A note that says that the crashing model survived, as its trial would have written it."""
    made, bad = trials(tmp_path), with_model(crashing())
    folder = tmp_path / "cache" / "trials"
    folder.mkdir(parents=True, mode=0o700)
    made._note(bad, "", 0.1)
    return folder / f"{bad.digest}.json"


def test_a_note_that_others_could_have_written_is_not_believed(tmp_path: Path) -> None:
    bad, note = with_model(crashing()), forge(tmp_path)
    assert why(trials(tmp_path), bad) == "", "the forgery is a good one: whoever writes as the owner is believed"
    good = note.read_bytes()
    note.chmod(0o666)
    assert "SIGSEGV" in why(trials(tmp_path), bad)
    note.write_bytes(good)
    note.parent.chmod(0o777)
    assert "SIGSEGV" in why(trials(tmp_path), bad)
    note.parent.chmod(0o700)
    elsewhere = tmp_path / "elsewhere.json"
    elsewhere.write_bytes(good)
    note.unlink()
    note.symlink_to(elsewhere)
    assert "SIGSEGV" in why(trials(tmp_path), bad)


@pytest.mark.parametrize("changed", ["megabytes", "seconds", "machine", "libraries", "bundle"])
def test_a_note_of_other_circumstances_says_nothing(tmp_path: Path, changed: str) -> None:
    bad, note = with_model(crashing()), forge(tmp_path)
    told = json.loads(note.read_bytes())
    told["of"][changed] = "other"
    note.write_text(json.dumps(told))
    assert "SIGSEGV" in why(trials(tmp_path), bad)


def test_a_folder_that_cannot_be_written_costs_a_trial_and_no_more(tmp_path: Path) -> None:
    blocked = tmp_path / "cache"
    blocked.write_text("a file where a folder should be")
    made = Trials(blocked / "trials", MEGABYTES)
    assert why(made, bundle(1.0)) == ""
    assert "SIGSEGV" in why(made, with_model(crashing()))


def test_two_that_start_at_once_try_once(tmp_path: Path) -> None:
    both = [trials(tmp_path), trials(tmp_path)]
    threads = [threading.Thread(target=made, args=(bundle(1.0),)) for made in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(pid(made) is not None for made in both) == 1


def test_old_notes_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT_NOTES", 2)
    made = trials(tmp_path)
    for slope in (1.0, 0.5, 0.25):
        made(bundle(slope))
    assert len(list((tmp_path / "cache" / "trials").glob("*.json"))) == 2
