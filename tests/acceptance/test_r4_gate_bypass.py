"""R4: six ways around the gates, tried over the control API and by writing into the databases, MLflow's included. None releases anything, and
the server keeps the version it had; each is told as a fact. Each way works once the rule that closes it is taken out.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.plane_house import version
from tests.adapters.tracked import tracker_in
from tests.loop.worlds import fact, report_of, run_of
from tests.serving.house import JANUARY, make_house, running
from tests.serving.house import House as Plane
from tests.web.house import House

from ecluse.adapters.mlflow_names import names_of
from ecluse.adapters.mlflow_tracker import MlflowTracker
from ecluse.adapters.sealing import load_sealer
from ecluse.core import rollout as rules
from ecluse.core.codec import canonical, digest
from ecluse.core.document import ServedModel, ServedVersion, read_document
from ecluse.core.errors import Corrupt
from ecluse.core.loop_settings import Approval, Policy
from ecluse.core.ports import World
from ecluse.core.settings import Settings, Time
from ecluse.core.version import ModelVersion
from ecluse.loop import approve as approving
from ecluse.loop import attest, promote, publish
from ecluse.loop.mirror import mirror
from ecluse.loop.mirror_names import look_at_names
from ecluse.loop.publish import converge
from ecluse.loop.register import register

MODEL = "churn"
SETTINGS = Settings(
    project="water",
    time=Time("data"),
    policy=Policy(promotion="approval"),
    approval=Approval(expires=timedelta(days=30)),
)
WHY = {"why": "let it through"}


@dataclass(frozen=True)
class Place:
    """A project whose version 1 is released; 2 passed its gates, 3 was never judged; both made by ana."""

    api: House
    tracker: MlflowTracker

    @property
    def world(self) -> World:
        return self.api.world

    def post(self, number: int, what: str, key: str) -> int:
        return self.api.ask("POST", f"/v1/models/{MODEL}/versions/{number}/{what}", key, WHY).status

    def sql(self, *statements: tuple[str, tuple[Any, ...]]) -> None:
        with contextlib.closing(sqlite3.connect(self.api.app.home / "state.db")) as connection, connection:
            for statement, values in statements:
                connection.execute(statement, values)

    def published(self) -> int | None:
        """What the workers follow."""
        signed = self.world.publisher.current()
        assert signed is not None
        return read_document(signed.payload).models[MODEL].champion

    def told(self, since: int) -> list[str]:
        return [row.event.kind for row in self.world.state.ledger(after=since)]

    def newest(self) -> int:
        return max(row.sequence for row in self.world.state.ledger())


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """The keys, bundles and online features are a worker's; the state and the API are the control plane's."""
    house = make_house(tmp_path)
    house.fill([f"u{i}" for i in range(10)])
    api = House(tmp_path, SETTINGS)
    api.world.clock.advance(JANUARY)
    for number in (1, 2, 3):
        made = version(number)
        api.world.bundles.put(made, api.world.sealer.sign(made.digest))
        api.world.state.add_run(run_of(f"run{number}", made.digest), fact("run.finished", run=f"run{number}"))
        register(api.world, SETTINGS, f"run{number}", reason="trained", actor="ana")
    api.keys |= {"bob": api.key("bob", "approve", "operate"), "ana": api.key("ana", "approve", "operate")}
    place = Place(api, tracker_in(api.app.home))
    judge(place, 1)
    assert (place.post(1, "approve", "bob"), place.post(1, "promote", "bob")) == (200, 200)
    judge(place, 2)
    yield place
    api.world.state.close()  # type: ignore[attr-defined]


def judge(place: Place, number: int) -> None:
    state = place.world.state
    report = report_of(state.version(MODEL, number), state.rollout(MODEL).champion, made=place.world.clock.now())
    state.add_report(report, fact("version.gated", report=digest(report)))


# ---------------------------------------------------------------- six ways, each with what the API answers and the fact that tells of it


def no_report(place: Place) -> int:
    return place.post(3, "promote", "bob")


def report_of_another_digest(place: Place) -> int:
    """Version 3 was never judged: somebody writes version 2's report into its row; bob did approve, of another report."""
    judged = place.world.state.report(MODEL, 2)
    assert judged is not None
    forged = replace(judged, version=3, bundle=place.world.state.version(MODEL, 3).bundle)
    place.sql(
        ("INSERT INTO report (model, version, dry, value) VALUES (?, 3, 0, ?)", (MODEL, canonical(forged).decode())),
        ("UPDATE version SET stage = 'Staging' WHERE model = ? AND number = 3", (MODEL,)),
    )
    place.post(3, "approve", "bob")
    return place.post(3, "promote", "bob")


def expired_report(place: Place) -> int:
    assert place.post(2, "approve", "bob") == 200
    place.world.clock.advance(JANUARY + timedelta(days=7, seconds=1))
    return place.post(2, "promote", "bob")


def author_approves(place: Place) -> int:
    place.post(2, "approve", "ana")
    return place.post(2, "promote", "ana")


def alias_moved(place: Place) -> int:
    mirror(replace(place.world, tracker=lambda: place.tracker), SETTINGS)
    with place.tracker._asking() as client:
        assert client.get_model_version_by_alias(MODEL, "production").tags["ecluse.version"] == "1"
        client.set_registered_model_alias(MODEL, "production", mirrored_as(client, 2))
    return follow(place)


def mirrored_as(client: Any, number: int) -> str:
    """MLflow's own number of a version of ours."""
    there = {each.tags["ecluse.version"]: each.version for each in client.search_model_versions(f"name='{MODEL}'")}
    return str(there[str(number)])


def row_by_hand(place: Place) -> int:
    before = place.world.state.rollout(MODEL)
    after = replace(before, revision=before.revision + 1, champion=2, previous=(1,))
    place.sql(
        ("UPDATE version SET stage = 'Archived' WHERE model = ? AND number = 1", (MODEL,)),
        ("UPDATE version SET stage = 'Production' WHERE model = ? AND number = 2", (MODEL,)),
        ("UPDATE rollout SET champion = 2, revision = revision + 1, value = ?", (canonical(after).decode(),)),
        ("UPDATE generation SET value = value + 1", ()),
    )
    return follow(place)


def follow(place: Place) -> int:
    """What the loop that stays up does, beside its turns and in them: look at the mirror's names, publish what the state says."""
    named = names_of(place.api.app.home, SETTINGS.mlflow)
    assert named is not None
    look_at_names(place.world, named)
    try:
        converge(place.world, SETTINGS)
    except Corrupt:
        return 500
    return 200


Way = Callable[[Place], int]
WAYS: tuple[tuple[Way, int, str], ...] = (
    (no_report, 403, "release.refused"),
    (report_of_another_digest, 403, "release.refused"),
    (author_approves, 403, "release.refused"),
    (alias_moved, 200, "mirror.altered"),
    (expired_report, 403, "release.refused"),
    (row_by_hand, 500, "state.doubted"),
)


def test_six_of_six_are_refused_and_the_server_keeps_its_version(place: Place) -> None:
    with running(plane_of(place), "--trusted-key", place.world.sealer.public_key) as worker:

        def serving() -> object:
            key = {"Authorization": f"Bearer {place.api.keys['predict']}"}
            return worker.call("POST", "/predict", {"user_id": "u1", "gift": True}, key)[2].get("version")

        worker.wait("version 1 serves", lambda _: serving() == 1)
        for way, status, told in WAYS:
            since = place.newest()
            assert way(place) == status, way.__name__
            assert told in place.told(since), way.__name__
            follow(place)
            assert place.published() == 1, way.__name__
            assert serving() == 1, way.__name__
        since = place.newest()
        assert follow(place) == 500
        assert place.told(since) == [], "a doubt is told once"


def plane_of(place: Place) -> Plane:
    """The same home as its workers know it."""
    return Plane(place.api.app.home, load_sealer(place.api.app.home / "keys", create=False))


def test_a_version_that_never_served_is_not_rolled_back_to(place: Place) -> None:
    before = place.world.state.rollout(MODEL)
    forged = replace(before, previous=(2,))
    place.sql(("UPDATE rollout SET value = ?", (canonical(forged).decode(),)))
    answer = place.api.ask("POST", f"/v1/models/{MODEL}/rollback", "bob", {**WHY, "to": 2})
    assert (answer.status, answer.facts["code"]) == (403, "not_allowed")
    assert place.published() == 1


def test_a_bundle_changed_by_hand_is_not_promoted(place: Place) -> None:
    """Version 2's row and report are made to name version 3's bundle."""
    assert place.post(2, "approve", "bob") == 200
    other = place.world.state.version(MODEL, 3).bundle
    judged = place.world.state.report(MODEL, 2)
    assert judged is not None
    place.sql(
        ("UPDATE version SET bundle = ? WHERE model = ? AND number = 2", (other, MODEL)),
        ("UPDATE report SET value = ? WHERE version = 2", (canonical(replace(judged, bundle=other)).decode(),)),
    )
    assert place.post(2, "promote", "bob") == 403
    assert place.published() == 1


def test_a_threshold_set_by_hand_is_not_published(place: Place) -> None:
    place.sql(
        ("UPDATE version SET threshold = 0.01 WHERE model = ? AND number = 1", (MODEL,)),
        ("UPDATE generation SET value = value + 1", ()),
    )
    since = place.newest()
    assert follow(place) == 500
    assert place.told(since) == ["state.doubted"]


# ------------------------------------------------------------------------------------------------------ each way with its rule taken out


def careless_report(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rules, "_require_report", lambda *_: None)


def careless_ledger(patch: pytest.MonkeyPatch) -> None:
    for module in (promote, approving):
        patch.setattr(module, "check_report", lambda *_: None)


def careless_author(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(approving, "authors_of", lambda *_: frozenset())


def careless_hand(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(attest, "_doubt", lambda *_: "")


def careless_approval(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(promote, "_ask_rules", lambda *_: ("", []))


DEFECTS: dict[Way, tuple[Callable[[pytest.MonkeyPatch], None], ...]] = {
    no_report: (careless_report, careless_approval),
    report_of_another_digest: (careless_ledger,),
    expired_report: (careless_report,),
    author_approves: (careless_author,),
    row_by_hand: (careless_hand,),
}


def test_nobody_tells_of_the_alias_without_the_look(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted defect of the fifth way: it never released anything, and was told by the next mirror only."""
    monkeypatch.setitem(globals(), "look_at_names", lambda *_: False)
    since = place.newest()
    assert alias_moved(place) == 200
    assert place.told(since) == []


@pytest.mark.parametrize("way", DEFECTS, ids=lambda way: way.__name__)
def test_each_way_is_open_without_its_rule(place: Place, monkeypatch: pytest.MonkeyPatch, way: Way) -> None:
    for defect in DEFECTS[way]:
        defect(monkeypatch)
    assert way(place) == 200
    assert place.published() in (2, 3)


def test_who_trusts_the_alias_releases_what_it_names(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The defect of a server that follows the registry instead of the published document."""

    def trusting(world: World, settings: Settings, model: str) -> Any:
        with place.tracker._asking() as client:
            number = int(client.get_model_version_by_alias(model, "production").tags["ecluse.version"])
        found: ModelVersion = world.state.version(model, number)
        return ServedModel(number, {str(number): ServedVersion(found.bundle, found.threshold)})

    monkeypatch.setattr(publish, "served_model", trusting)
    careless_hand(monkeypatch)
    assert alias_moved(place) == 200
    place.world.state.bump()
    converge(place.world, SETTINGS)
    assert place.published() == 2
