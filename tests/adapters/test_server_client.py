"""The client of a running server, and what answers in its place."""

from __future__ import annotations

import socket
import threading

import pytest

from ecluse.adapters.server_client import call, describe
from ecluse.core.errors import InvalidInput, NotAllowed, Unavailable


@pytest.mark.parametrize(
    "url", ["", "localhost:8400", "ftp://localhost", "http://", "http://localhost:99999", "http://[::1"]
)
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(InvalidInput, match="is no address"):
        call(url, "/health")
    assert describe(url).startswith("none answers")


def test_a_path_that_is_none() -> None:
    with pytest.raises(InvalidInput, match="model's name"):
        call("http://127.0.0.1:9", "/models/a b/predict", {})


def test_something_else_answers_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        speaker = threading.Thread(target=_speak, args=(server,))
        speaker.start()
        with pytest.raises(Unavailable, match="no server answers"):
            call(url, "/health")
        speaker.join()


def test_a_key_is_asked_for() -> None:
    body = b'{"detail": "A valid API key is needed", "cure": "send the header"}'
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        reply = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        speaker = threading.Thread(target=_speak, args=(server, reply))
        speaker.start()
        with pytest.raises(NotAllowed) as caught:
            call(url, "/predict", {})
        speaker.join()
    assert "ECLUSE_API_KEY" in caught.value.cure


def _speak(server: socket.socket, said: bytes = b"220 mail.example ready\r\n\r\n") -> None:
    connection, _ = server.accept()
    with connection:
        connection.recv(1_000)
        connection.sendall(said)
