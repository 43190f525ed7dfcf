"""The load client counts what a server answers, and fails nothing it did not see fail."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from ecluse.testing.load import Traffic


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        status = asked.get("status", 200)
        if status == 0:
            self.close_connection = True
            return
        body = json.dumps(
            {"version": 3, "key": self.headers["authorization"]} if status == 200 else {"code": "no"}
        ).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_answers_are_counted_by_code_and_version(url: str) -> None:
    with Traffic(url, [{}, {"status": 503}], connections=2, key="k") as traffic:
        assert traffic.wait_for(20)
    counts = traffic.counts
    assert counts.sent == counts.codes["ok"] + counts.codes["no"] == len(counts.seconds)
    assert counts.failed == counts.codes["no"] > 0
    assert counts.versions == {3: counts.codes["ok"]}


def test_lost_connections_and_wrong_answers_are_failures(url: str) -> None:
    def check(body: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
        if answer["key"] != "Bearer k":
            raise LookupError

    with Traffic(url, [{}, {"status": 0}], connections=1, check=check) as traffic:
        assert traffic.wait_for(4)
    assert {"RemoteDisconnected", "LookupError"} == set(traffic.counts.codes)


def test_a_rate_is_kept(url: str) -> None:
    with Traffic(url, [{}], connections=2, rate=20) as traffic:
        assert not traffic.wait_for(1_000, seconds=0.3)
    assert traffic.counts.sent <= 20
