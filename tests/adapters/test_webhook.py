"""Webhooks over a real receiver: signed, led nowhere else, bounded in time, never into one's own network unasked."""

import socket
import threading
import time
from typing import Any

import pytest
from tests.adapters.receiver import dripping, receiving

from ecluse.adapters.webhook import is_open, post, sign
from ecluse.core.errors import InvalidInput, NotAllowed, Unavailable

SECRET = "a secret of thirty-two characters"


def send(url: str, **more: Any) -> int:
    return post(url, b'{"kind":"alert.raised"}', **{"secret": SECRET, "event": "7-ab12", "private": True, **more})


def test_a_message_is_signed_with_its_time() -> None:
    with receiving() as receiver:
        assert send(receiver.url) == 200
    [(headers, body)] = receiver.got
    assert body == b'{"kind":"alert.raised"}'
    assert headers["ecluse-event"] == "7-ab12"
    assert headers["ecluse-signature"] == sign(body, headers["ecluse-timestamp"], SECRET)
    assert abs(time.time() - int(headers["ecluse-timestamp"])) < 60
    assert headers["ecluse-signature"] != sign(body, str(int(headers["ecluse-timestamp"]) + 1), SECRET)


def test_one_s_own_network_is_not_called_unasked() -> None:
    with receiving() as receiver, pytest.raises(NotAllowed, match="open internet"):
        send(receiver.url, private=False)
    assert not receiver.got


CLOSED = "127.0.0.1 0.0.0.0 10.1.2.3 172.16.0.1 192.168.1.1 169.254.169.254 100.64.0.1 224.0.0.1"
CLOSED_6 = "::1 :: fe80::1%eth0 fc00::1 ::ffff:127.0.0.1 64:ff9b::7f00:1 2002:7f00:1:: ff02::1"


@pytest.mark.parametrize("address", [*CLOSED.split(), *CLOSED_6.split()])
def test_addresses_that_are_not_of_the_open_internet(address: str) -> None:
    assert not is_open(address)


def test_the_connection_goes_to_the_address_that_was_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that answers otherwise a moment later is not asked a second time."""
    asked = []

    def rebinding(host: str, port: int, **more: Any) -> list[Any]:
        asked.append(host)
        address = "93.184.215.14" if len(asked) == 1 else "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    reached = []

    def connect(address: tuple[str, int], *_: Any, **__: Any) -> Any:
        reached.append(address[0])
        raise OSError("stop here")

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(Unavailable):
        send("http://rebinding.example/hook", private=False)
    assert (asked, reached) == (["rebinding.example"], ["93.184.215.14"])


def test_one_bad_address_among_several_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, 80)) for each in ("93.184.215.14", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with pytest.raises(NotAllowed):
        send("http://mixed.example/hook", private=False)


def test_a_redirect_is_not_followed() -> None:
    with receiving() as elsewhere, receiving() as receiver:
        receiver.answers, receiver.location = [302], elsewhere.url
        with pytest.raises(NotAllowed, match="redirect"):
            send(receiver.url)
    assert not elsewhere.got


def test_a_receiver_that_fails_or_is_slow_or_away() -> None:
    with receiving() as receiver:
        receiver.answers = [500]
        with pytest.raises(Unavailable, match="500"):
            send(receiver.url)
        receiver.answers, receiver.delay = [200], 2.0
        with pytest.raises(Unavailable, match="no answer"):
            send(receiver.url, timeout=0.2)
    with pytest.raises(Unavailable):
        send(receiver.url)


def test_a_receiver_that_drips_is_not_waited_for_longer_than_declared() -> None:
    """A byte now and then passes every wait for the next one."""
    with dripping() as url:
        began = time.monotonic()
        with pytest.raises(Unavailable, match="not within the time"):
            send(url, timeout=0.5)
        assert time.monotonic() - began < 2.0


def test_a_name_that_is_never_resolved_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answer.wait(10))
    began = time.monotonic()
    with pytest.raises(Unavailable, match="not resolved in time"):
        send("http://slow.example/hook", timeout=0.2)
    answer.set()
    assert time.monotonic() - began < 2.0


NO_ADDRESS = ["ftp://example.com", "http://", "https://user:key@example.com/", "http://h:99999/", "http://h/für"]


@pytest.mark.parametrize("url", [*NO_ADDRESS, "http://h/a b", "http://h/a\nb"])
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(InvalidInput):
        send(url)


def test_an_error_names_the_host_and_not_the_path() -> None:
    with pytest.raises(Unavailable) as said:
        send("http://127.0.0.1:1/a-secret-path")
    assert "a-secret-path" not in str(said.value)
