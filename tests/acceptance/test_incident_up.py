"""The whole of it under ``ecluse up``: another system reports harm, the version before serves again, a receiver is told; nobody types."""

import json
import os
from pathlib import Path

import pytest
from tests.acceptance.standing import standing
from tests.acceptance.test_reaction import JANUARY, PROJECT, SETTINGS, month
from tests.adapters.receiver import receiving

from ecluse.adapters.webhook import sign as sign_message
from ecluse.app import open_app
from ecluse.loop.asking import sign
from ecluse.loop.incident_reports import report_incident
from ecluse.testing.load import Traffic

SECRET = "a secret of thirty-two characters"


@pytest.mark.nightly
def test_a_report_takes_a_release_back_and_the_pager_is_told(tmp_path: Path) -> None:
    root = tmp_path / "water"
    root.mkdir()
    with receiving() as pager:
        (root / "project.py").write_text(PROJECT)
        more = f'[notify.pager]\nurl = "{pager.url}"\nprivate = true\n[loop]\nwarm = false\n'
        (root / "ecluse.toml").write_text(SETTINGS.format(floor=0.7) + more)
        month(root / "data", flipped=False, seed=1)
        app = open_app(root)
        app.ingest(root / "data", JANUARY)
        app.materialize()
        for number, strength in ((1, 1.0), (2, 0.01)):
            trained = app.train("churn", parameters={"strength": strength})
            assert trained.run is not None
            assert app.register(trained.run.id).number == number
            app.promote("churn", number, reason="released", override="drill")
        environment = {"ECLUSE_NOTIFY_SECRET": SECRET}
        with standing(root, environment) as up:
            up.wait("version 2 serves", lambda: up.serving("churn") == 2)
            with Traffic(up.url, [{"user_id": f"u{i}"} for i in range(50)], connections=2, rate=50) as traffic:
                assert traffic.wait_for(50)
                up.wait("the receiver's mark is set", lambda: app.world.state.meta("notify.pager"))
                body = json.dumps({"id": "1", "model": "churn", "why": "orders fell", "version": 2}).encode()
                report_incident(app.world, body, sign(body, SECRET), secret=SECRET)
                up.wait("version 1 serves again", lambda: up.serving("churn") == 1)
                counts = traffic.stop()
            up.wait("the pager was told", lambda: len(pager.got) >= 2)
        assert counts.failed == 0, counts.codes
        [opened] = up.rows("incident.opened")
        [back] = up.rows("version.rolled_back")
        assert (opened.event.version, back.event.version) == (2, 1)
        assert opened.event.recorded is not None
        assert back.event.recorded is not None
        told = [(json.loads(text)["kind"], headers, text) for headers, text in pager.got]
        assert [kind for kind, _, _ in told] == ["incident.opened", "version.rolled_back"]
        for _, headers, text in told:
            assert headers["ecluse-signature"] == sign_message(text, headers["ecluse-timestamp"], SECRET)
        assert os.environ.get("ECLUSE_NOTIFY_SECRET") is None
        print(f"taken back {(back.event.recorded - opened.event.recorded).total_seconds():.3f} s after it was opened")
