"""The fault proxy does what it says, on connections that stand and on new ones."""

from __future__ import annotations

import socket
import socketserver
import threading
import time
from collections.abc import Iterator

import pytest

from ecluse.testing.faults import FAULTS, Fault, FaultProxy

MESSAGE = b"what was said"


class Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while data := self.request.recv(4_096):
            self.request.sendall(data)


@pytest.fixture(scope="module")
def echo() -> Iterator[int]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def say(connection: socket.socket, seconds: float = 0.2) -> bytes:
    """What comes back within a while."""
    heard, end = b"", time.monotonic() + seconds
    connection.sendall(MESSAGE)
    while len(heard) < len(MESSAGE) and (left := end - time.monotonic()) > 0:
        connection.settimeout(left)
        try:
            data = connection.recv(4_096)
        except TimeoutError:
            break
        if not data:
            break
        heard += data
    return heard


def what_comes(fault: Fault, connection: socket.socket) -> str:
    try:
        heard = say(connection)
    except ConnectionError:
        return "reset"
    if fault == "slow":
        return "late" if not heard and say(connection, 5)[: len(MESSAGE)] == MESSAGE else "in time"
    if fault == "drip":
        return "drips" if MESSAGE.startswith(heard) and 0 < len(heard) < len(MESSAGE) else "whole"
    if fault == "flip":
        wrong = [bin(a ^ b).count("1") for a, b in zip(heard, MESSAGE, strict=True)]
        return "one bit" if sum(wrong) == 1 else "other"
    return "nothing" if not heard else "right" if heard == MESSAGE else "noise"


MEANS = {
    "refuse": "reset",
    "reset": "reset",
    "blackhole": "nothing",
    "slow": "late",
    "garbage": "noise",
    "flip": "one bit",
    "drip": "drips",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_and_its_end(echo: int, fault: Fault) -> None:
    with FaultProxy("127.0.0.1", echo) as proxy:
        with socket.create_connection(("127.0.0.1", proxy.port)) as standing:
            assert say(standing) == MESSAGE
            proxy.fault = fault
            assert what_comes(fault, standing) == MEANS[fault]
        if fault == "refuse":
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", proxy.port))
        else:
            with socket.create_connection(("127.0.0.1", proxy.port)) as new:
                assert what_comes(fault, new) == MEANS[fault]
        proxy.fault = "pass"
        with socket.create_connection(("127.0.0.1", proxy.port)) as after:
            assert say(after) == MESSAGE
