"""The listening socket, alone or shared by several workers, and whose turn it is to take the next connection.

Standard library only: the supervisor binds here and loads nothing of a worker.
"""

from __future__ import annotations

import mmap
import os
import socket
from dataclasses import dataclass

from ecluse.core.errors import Conflict, InvalidInput

OUT = 1 << 62
"""Said by a worker that is starting, draining or dead: nobody waits for it."""


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Raises Conflict when the port is in use, InvalidInput for an address that is not ours."""
    if not 0 <= port <= 65_535:  # getaddrinfo would take it modulo 65536
        raise InvalidInput(f"port {port}", where="[serving] port or --port", cure="choose one from 0 (any) to 65535")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise InvalidInput(
            f"{host!r} is not an address of this machine: {error.strerror}", cure="set [serving] host"
        ) from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(1024)
    except PermissionError:
        listener.close()
        raise InvalidInput(f"port {port} may not be bound by this user", cure="choose a port above 1023") from None
    except OSError as error:
        listener.close()
        raise Conflict(
            f"port {port} of {host} cannot be bound: {error.strerror}",
            where=f"{host}:{port}",
            cure="stop what listens there, or choose another with --port",
        ) from None
    listener.setblocking(False)
    return listener


def url_of(listener: socket.socket) -> str:
    """Where it listens."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Turns:
    """How many connections each worker has open, in memory they share: who has more than another lets it go first. And that each is alive.

    Connections kept alive are shared out by this to within one. SO_REUSEPORT deals by a hash (of 64 connections 25 to 39 fell to one of
    two workers), and a worker that dies takes the connections queued for it along; a shared socket alone favours who wakes first.

    >>> import tempfile
    >>> with tempfile.TemporaryFile() as file:
    ...     first, second = Turns.make(file.fileno(), 2)
    >>> first.say(3), second.say(2), first.lets_another_go_first(3), second.lets_another_go_first(2)
    (None, None, True, False)
    """

    def __init__(self, file: int, index: int) -> None:
        shared = memoryview(mmap.mmap(file, 0)).cast("q")
        workers = len(shared) // 2
        self._counts, self._beats, self._index = shared[:workers], shared[workers:], index

    @classmethod
    def make(cls, file: int, workers: int) -> list[Turns]:
        """Every worker's view of an empty file; all are out."""
        os.ftruncate(file, 2 * 8 * workers)
        turns = [cls(file, index) for index in range(workers)]
        for each in turns:
            each.say(OUT)
        return turns

    def say(self, connections: int) -> None:
        """Tell the others; ``OUT`` when they shall not wait."""
        self._counts[self._index] = connections
        self._beats[self._index] += 1

    @property
    def beats(self) -> int:
        """How often something was said of this worker: one that is well says something again and again."""
        return self._beats[self._index]

    @property
    def out(self) -> bool:
        """True while this worker takes no turns."""
        return self._counts[self._index] == OUT

    @property
    def alone(self) -> bool:
        """True while no other takes turns."""
        return all(count == OUT for index, count in enumerate(self._counts) if index != self._index)

    def lets_another_go_first(self, connections: int) -> bool:
        """True when some worker has fewer, or takes turns while this one does not."""
        return (OUT if self.out else connections) > min(self._counts)


@dataclass(frozen=True)
class Place:
    """What a supervised worker is given instead of an address. ``lifeline`` is a pipe that ends with the supervisor."""

    listener: socket.socket
    turns: Turns
    lifeline: int

    @classmethod
    def of(cls, text: str) -> Place:
        """From ``LISTENER,COUNTS,LIFELINE,INDEX``, three inherited descriptors and a number. Raises InvalidInput."""
        try:
            listener, counts, lifeline, index = (int(part) for part in text.split(","))
            place = cls(socket.socket(fileno=listener), Turns(counts, index), lifeline)
        except (ValueError, OSError) as error:
            raise InvalidInput(f"--place {text}: {error}", cure="leave it to the supervisor") from None
        place.listener.setblocking(False)
        return place
