"""A reply as HTTP/1.1 has it: pure, for :mod:`ecluse.serving.connection` to write."""

from __future__ import annotations

from http import HTTPStatus

from ecluse.serving.call import Call, Reply

_STATUS = {each.value: f"HTTP/1.1 {each.value} {each.phrase}\r\n".encode() for each in HTTPStatus}


def reply_bytes(call: Call, reply: Reply) -> bytes:
    """What is written for a reply to a call, with ``connection: close`` unless the call's connection is kept."""
    parts = [
        b"%bcontent-type: %b\r\ncontent-length: %d\r\nx-request-id: %b\r\n"
        % (_STATUS[reply.status], reply.kind, len(reply.body), call.request_id.encode())
    ]
    parts += [b"%b: %b\r\n" % header for header in reply.headers]
    parts.append(b"\r\n" if call.keep_alive else b"connection: close\r\n\r\n")
    if call.method != "HEAD":
        parts.append(reply.body)
    return b"".join(parts)
