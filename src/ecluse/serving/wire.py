"""A target and a reply as HTTP/1.1 has them: pure, for :mod:`ecluse.serving.connection` to read and write."""

from __future__ import annotations

from http import HTTPStatus
from urllib.parse import unquote

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


def path_of(target: bytes) -> str:
    """The path of a request's target, decoded; a target in absolute form is a proxy's way to write it. What has none gives "".

    >>> (
    ...     path_of(b"/models/a%20b/predict?x=1"),
    ...     path_of(b"http://localhost:8400/ready"),
    ...     path_of(b"http://localhost"),
    ...     path_of(b"*"),
    ... )
    ('/models/a b/predict', '/ready', '/', '')
    """
    path = target.partition(b"?")[0].decode("latin-1")
    if not path.startswith("/"):
        _, absolute, rest = path.partition("://")
        path = "/" + rest.partition("/")[2] if absolute else ""
    return unquote(path) if "%" in path else path
