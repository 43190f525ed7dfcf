"""One HTTP/1.1 connection: bytes -> calls, answered one after another -> bytes; the only importer of ``httptools`` (llhttp).

Between the socket and the application there is no more than this file (docs/decisions/0007-own-connection.md). Every wait is bounded: a
head, a body, an idle connection, a caller that reads its answers slowly. What comes while an answer is under way waits its turn.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Coroutine
from functools import partial
from typing import Any

import httptools

from ecluse.serving.call import Call, Reply
from ecluse.serving.http import Application, body_too_large
from ecluse.serving.problems import Refused
from ecluse.serving.turn import Seat
from ecluse.serving.wire import path_of, reply_bytes

_log = logging.getLogger("ecluse.serving")
HEAD_BYTES, PIECE_BYTES = 65_536, 8_192
"""So much may come without becoming a request or a piece of a body, and so much is parsed at once (a head may be two pieces longer): a small
request takes fifty times its bytes once it is parsed, so that the rest of a pipeline waits as it came."""

DISCARD_BYTES = 32 * 1024 * 1024
"""The body of a refused request is read to its end and thrown away up to here, so that its sender gets the answer and not a reset."""

KEEP_ALIVE_SECONDS, LINGER_SECONDS = 75.0, 2.0
MOST_TURNS = 4


class Connection(asyncio.Protocol):
    """A caller's connection. ``open_ones`` are all there are; this one is among them while it lives.

    A connection on which no request is under way must have sent the whole head of one within ``header_seconds`` of its first byte (or of
    its beginning), and its body by the call's deadline. One timer serves all of a connection's deadlines: ``_due`` is moved freely, the
    timer looks at it when it fires.
    """

    def __init__(self, application: Application, open_ones: set[Connection]) -> None:
        self._application, self._open_ones = application, open_ones
        self._limits = application.plane.serving
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._url, self._headers = b"", dict[bytes, bytes]()
        self._in_head = False  # one has begun
        self._arriving: Call | None = None  # its head is read, its body is not complete
        self._expects = False  # to be told to go on
        self._replied = False  # to the arriving one, which was refused
        self._thrown_away = 0
        self._unused = 0  # bytes since any of them became a request or a piece of its body
        self._offers = False  # another protocol
        self._plain_left = 0  # and so many bytes of the body that the parser then leaves to us
        self._queue = deque[Call]()
        self._unread, self._paused = b"", False  # what came behind the queue
        self._busy = False  # an answer is under way
        self._turns = 0  # answers given since bytes came
        self._task: asyncio.Task[None] | None = None  # what goes on with it, when it waits
        self._last = False  # no request behind those that wait
        self._deaf, self._broken = False, ""  # nothing is parsed any more, and why
        self._due, self._late = math.inf, "header_timeout"
        self._timer: asyncio.Handle | None = None
        self._fires = math.inf
        self._readable: asyncio.Event | None = None  # there while the caller reads too slowly

    # -- the transport's side

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """One connection too many gets an answer to its first request, one far too many none."""
        self._transport = transport
        self._open_ones.add(self)
        self._surplus = len(self._open_ones) > self._limits.max_connections
        if len(self._open_ones) > 2 * self._limits.max_connections:
            transport.abort()
        else:
            self._await("header_timeout", self._limits.header_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it; a request under way is finished, its answer goes nowhere."""
        self._open_ones.discard(self)
        self._queue.clear()
        if self._timer is not None:
            self._timer.cancel()
        self.resume_writing()

    def pause_writing(self) -> None:
        """The caller does not read: no further answer is written until it does."""
        self._readable = asyncio.Event()

    def resume_writing(self) -> None:
        """It reads again."""
        if self._readable is not None:
            self._readable.set()
            self._readable = None

    def eof_received(self) -> bool:
        """The caller sends no more. It may still listen: what it has sent whole is answered before the connection is closed."""
        self._last = True
        return self._busy

    def data_received(self, data: bytes) -> None:
        """Parse, and see to it that what is not complete is awaited for so long only."""
        self._turns = 0
        self._read(self._unread + data if self._unread else data)

    def _read(self, data: bytes) -> None:
        """Parse by pieces until a request must wait for its turn; the rest waits unparsed."""
        begin, self._unread = 0, b""
        while begin < len(data) and not (self._queue or self._deaf or self._transport.is_closing()):
            piece = data if len(data) <= PIECE_BYTES else data[begin : begin + PIECE_BYTES]
            begin += PIECE_BYTES
            self._parse(piece)
        if self._deaf or self._transport.is_closing():
            return
        self._unread = data[begin:]
        if not self._busy and (self._in_head or self._arriving is not None):
            self._attend()

    def _parse(self, piece: bytes) -> None:
        self._unused += len(piece)
        try:
            if self._plain_left:
                self._take_plain(piece)
            else:
                self._parser.feed_data(piece)
            if self._unused > HEAD_BYTES:
                self._turn_down("headers_too_large")
        except httptools.HttpParserUpgrade as upgrade:
            if self._plain_left:
                self._take_plain(piece[upgrade.args[0] :])
        except httptools.HttpParserCallbackError:  # an error of ours
            _log.exception("connection given up")
            self._transport.abort()
        except httptools.HttpParserError:
            self._turn_down("invalid_request")

    def _take_plain(self, data: bytes) -> None:
        self._plain_left -= len(data)
        self.on_body(data if self._plain_left >= 0 else data[: self._plain_left])
        if self._plain_left <= 0:
            self._plain_left = 0
            self.on_message_complete()

    def finish(self) -> None:
        """Close when what is under way is answered."""
        self._last = True
        if not (self._busy or self._in_head or self._arriving):
            self._close()

    def abort(self) -> None:
        """Close now."""
        self._transport.abort()

    # -- the parser's side

    def on_message_begin(self) -> None:
        """A request begins."""
        self._url, self._headers = b"", {}
        self._in_head, self._unused = True, 0

    def on_url(self, url: bytes) -> None:
        """A piece of its target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; one that comes twice is the list of both, as RFC 9110 has it."""
        if self._arriving is None:  # else a trailer, which nobody asked for
            name = name.lower()
            if name in self._headers:
                value = b"%b, %b" % (self._headers[name], value)
                self._unused += len(value)  # a thousand times the same is work that grows with its square
            self._headers[name] = value

    def on_headers_complete(self) -> None:
        """Open a call, and let the application say what it can before the body."""
        self._in_head, self._unused, self._thrown_away, self._replied = False, 0, 0, False
        if self._deaf or self._transport.is_closing():
            return
        headers, parser = self._headers, self._parser
        # callers of 1.0 want to be told that a connection is kept, and few are left
        keep_alive = parser.should_keep_alive() and (b"connection" not in headers or parser.get_http_version() != "1.0")
        call = self._application.open(parser.get_method().decode(), path_of(self._url), headers, keep_alive=keep_alive)
        self._arriving = call
        if self._surplus:
            call.refused, call.keep_alive = Refused("overloaded", "too many connections are open"), False
        else:
            self._application.enter(call)
        self._expects, self._offers = b"expect" in headers, parser.should_upgrade()
        if self._offers:  # Java's client offers HTTP/2 so; llhttp then leaves the body to whoever takes the offer
            self._plain_left = int(headers.get(b"content-length", b"0"))
            if b"transfer-encoding" in headers:
                call.refused = Refused("invalid_request", "who offers another protocol must say how long the body is")

    def on_body(self, data: bytes) -> None:
        """A piece of its body, kept within bounds."""
        self._unused = 0
        if (call := self._arriving) is None:
            return
        if call.refused is None and len(call.body) + len(data) > self._limits.max_body_bytes:
            call.refused = body_too_large(self._limits.max_body_bytes)
        if call.refused is not None:
            call.body = b""
            self._thrown_away += len(data)
            if self._thrown_away > DISCARD_BYTES:
                self._close()
        elif call.body:
            call.body = bytearray(call.body) if isinstance(call.body, bytes) else call.body
            call.body += data
        else:
            call.body = data

    def on_message_complete(self) -> None:
        """Answer it, or let it wait its turn."""
        if self._plain_left:
            return
        self._unused = 0
        call, self._arriving = self._arriving, None
        if call is None:
            return
        if self._offers:  # the request itself is answered as HTTP/1.1, and nothing behind it
            self._last = self._deaf = True
        if self._replied:
            self._rest(call)
        elif not self._busy:
            self._begin(call)
        else:
            self._queue.append(call)
            if not self._paused:
                self._paused = True
                self._transport.pause_reading()

    # -- answering

    def _begin(self, call: Call) -> None:
        """Most answers wait for nothing but the end of the turn, hence need no task (4 us): the work is begun here, and becomes one where it waits.

        Work that asks asyncio about its task (a timeout does) must have waited before: ``await asyncio.sleep(0)``.
        """
        self._due, self._late, self._busy = math.inf, "", True
        self._turns += 1
        work = self._serve(call)
        if self._turns > MOST_TURNS:  # a caller that sends many at once lets others in between
            self._go_on(work)
        else:
            self._step(work)

    def _step(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            waits_for = work.send(None)
        except StopIteration:
            return
        if type(waits_for) is Seat:
            waits_for.resume = partial(self._step, work)
        elif waits_for is None:
            self._go_on(work)
        else:
            waits_for._asyncio_future_blocking = False  # what a task would do with a future it is handed
            waits_for.add_done_callback(lambda _: self._go_on(work))

    def _go_on(self, work: Coroutine[Any, Any, None]) -> None:
        self._task = self._loop.create_task(work)

    async def _serve(self, call: Call) -> None:
        try:
            reply = await self._application.answer(call)
            if self._readable is not None:
                self._await("slow_reader", KEEP_ALIVE_SECONDS)
                await self._readable.wait()
            self._write(call, reply)
            self._busy, self._task = False, None
            if call.keep_alive and not self._transport.is_closing():
                self._next(call)
        except BaseException as error:  # an error of ours, or the end: no caller waits for what will not come
            if not self._transport.is_closing():
                _log.exception("an answer failed", extra={"facts": {"request_id": call.request_id}})
            self._transport.abort()
            if isinstance(error, Exception):
                return
            raise

    def _next(self, call: Call) -> None:
        if self._queue:
            self._begin(self._queue.popleft())
        elif self._broken:
            self._turn_down(self._broken)
        else:
            self._rest(call)

    def _rest(self, call: Call) -> None:
        """Between requests: end, or read on."""
        if not call.keep_alive or self._last:
            self._close()
            return
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
            self._read(self._unread)
        if not (self._busy or self._deaf or self._transport.is_closing()):
            self._attend()

    def _attend(self) -> None:
        """What the caller owes next, and by when."""
        if self._arriving is not None:
            self._await("body_timeout", self._arriving.deadline - time.perf_counter())
            self._answer_early(self._arriving)
        elif not self._in_head:
            self._await("idle", KEEP_ALIVE_SECONDS)
        elif self._late != "header_timeout":
            self._await("header_timeout", self._limits.header_seconds)

    def _answer_early(self, call: Call) -> None:
        """The answer to what is refused need not wait for the rest of its body, which is thrown away as it comes."""
        if self._replied or self._readable is not None:
            return
        if call.refused is not None:
            self._replied = True
            call.keep_alive &= not self._expects  # who was not told to go on may send the body or the next request
            self._write(call, self._application.refuse(call, call.refused), closing=False)
        elif self._expects:
            self._expects = False
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _write(self, call: Call, reply: Reply, *, closing: bool = True) -> None:
        last = self._last or self._application.plane.closing
        call.keep_alive &= not (reply.close or (last and not self._queue))
        if self._transport.is_closing():
            return
        self._transport.write(reply_bytes(call, reply))
        if closing and not call.keep_alive:
            self._close()

    def _close(self) -> None:
        """Close when what is written is read; what was sent and is not looked at is read a while, or answers on their way would be lost."""
        if self._deaf or self._paused:
            self._deaf = True
            self._transport.write_eof()
            self._transport.resume_reading()
            self._await("slow_reader", LINGER_SECONDS)
        else:
            self._transport.close()
            self._await("slow_reader", KEEP_ALIVE_SECONDS)

    # -- deadlines

    def _await(self, late: str, seconds: float) -> None:
        """``late`` is what it will have been when nothing has come ``seconds`` from now."""
        self._late, self._due = late, self._loop.time() + seconds
        if self._fires > self._due:
            self._arm(self._due)

    def _arm(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._fires, self._timer = when, self._loop.call_at(when, self._look)

    def _look(self) -> None:
        self._fires, self._timer = math.inf, None
        now = self._loop.time()
        if now < self._due:
            self._arm(min(self._due, now + KEEP_ALIVE_SECONDS))
        elif self._late == "slow_reader":
            self._transport.abort()
        elif self._arriving is not None:
            self._expire(self._arriving)
        elif self._late == "header_timeout":
            self._turn_down("header_timeout")
        else:
            self._close()

    def _expire(self, call: Call) -> None:
        if not self._replied:
            late = Refused("body_timeout", "the body did not arrive before the deadline of the request")
            self._write(call, self._application.refuse(call, call.refused or late))
        self._close()

    def _turn_down(self, code: str) -> None:
        """Answer what is no request, and close; what came before gets its answer first. One that sent nothing at all is closed without a word."""
        self._deaf = True
        if self._transport.is_closing():
            return
        if self._busy:
            self._broken = code
            return
        call, self._arriving = self._arriving, None
        if call is None and (self._in_head or self._unused or code == "invalid_request"):
            call, self._replied = self._application.open("", "", {}), False
        if call is not None and not self._replied:
            call.keep_alive = False
            self._write(call, self._application.refuse(call, Refused(code)))
        self._close()
