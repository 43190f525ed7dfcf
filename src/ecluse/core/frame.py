r"""The journal's frame: how one record is laid out in bytes, chained to the one before, and found again behind damage.

A frame is a header of 84 bytes (little-endian) and a payload. The chain runs over headers only, so a payload blanked to
zero bytes (an erasure) leaves it intact; the salt keeps the hash left behind from being guessed back into a record.

    header  = magic "EJ1\n" | length u32 | crc32 u32 of the rest | sequence u64 | previous_hash 32 | payload_hash 32
    payload = 16 random bytes | record (JSON, UTF-8)
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from mmap import mmap
from typing import BinaryIO

from ecluse.core.errors import Corrupt, InvalidInput

MAGIC = b"EJ1\n"
SALT_BYTES = 16
MAX_RECORD_BYTES = 16 * 1024 * 1024
"""Longest record accepted: a damaged length must not make a reader allocate gigabytes."""

_PREFIX = struct.Struct("<4sII")
_COVERED = struct.Struct("<Q32s32s")
_BELIEVED = struct.Struct("<4sII40x32s")
HEADER_BYTES = _PREFIX.size + _COVERED.size
_WINDOW = 1 << 20


@dataclass(frozen=True, slots=True)
class Head:
    """The last link of a chain: sequence and SHA-256 of its header; an empty hash when that could not be read."""

    sequence: int
    hash: bytes


START = Head(0, bytes(32))
"""What the first frame of a worker points back to."""


@dataclass(frozen=True, slots=True)
class Header:
    """The fields of one header, its own hash included."""

    length: int
    sequence: int
    previous_hash: bytes
    payload_hash: bytes
    hash: bytes


@dataclass(frozen=True, slots=True)
class Frame:
    """One whole frame found at ``offset``; ``record`` is None when its payload was erased."""

    offset: int
    header: Header
    record: bytes | None

    @property
    def end(self) -> int:
        """First byte after the frame."""
        return self.offset + HEADER_BYTES + self.header.length


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes ``[offset, end)`` that are no frame. ``header`` where it could still be read.

    ``tail``: nothing readable follows in the segment. ``torn``: it stops short, as a write cut off does.
    """

    offset: int
    end: int
    what: str
    header: Header | None = None
    tail: bool = False
    torn: bool = False


def encode(head: Head, record: bytes, salt: bytes) -> tuple[bytes, Head]:
    r"""The frame that follows ``head``, and the new head. Raises InvalidInput on an empty or oversized record.

    >>> frame, head = encode(START, b'{"kind":"prediction"}', bytes(range(16)))
    >>> len(frame), head.sequence, frame[:4]
    (121, 1, b'EJ1\n')
    """
    if not 0 < len(record) <= MAX_RECORD_BYTES:
        raise InvalidInput(
            f"a record of {len(record)} bytes", where="journal", cure=f"a record has 1 to {MAX_RECORD_BYTES} bytes"
        )
    payload = salt + record
    covered = _COVERED.pack(head.sequence + 1, head.hash, sha256(payload).digest())
    header = _PREFIX.pack(MAGIC, len(payload), zlib.crc32(covered)) + covered
    return header + payload, Head(head.sequence + 1, sha256(header).digest())


def decode_header(data: bytes) -> Header | None:
    """The header in exactly ``HEADER_BYTES`` bytes, or None when they are not one (magic, bounds, CRC-32)."""
    if len(data) != HEADER_BYTES:
        return None
    magic, length, crc = _PREFIX.unpack_from(data)
    if magic != MAGIC or not SALT_BYTES < length <= SALT_BYTES + MAX_RECORD_BYTES:
        return None
    covered = data[_PREFIX.size :]
    if zlib.crc32(covered) != crc:
        return None
    sequence, previous_hash, payload_hash = _COVERED.unpack(covered)
    return Header(length, sequence, previous_hash, payload_hash, sha256(data).digest())


def records(data: bytes | mmap, *, growing: bool = False) -> Iterator[memoryview]:
    r"""The records of a whole segment, each payload's hash checked, the erased left out. Raises Corrupt when anything in it is not as written.

    Views of ``data``, nothing is copied, and each is hashed when it is asked for. Of a segment still ``growing``, a frame that stops short at its
    very end is left out: its writer has not finished it. What :func:`walk` finds where all is well, some five times as fast; where it is not,
    ``walk`` says what. Headers are believed as far as the hash they hold fits: this finds damage, not forgery.

    >>> [bytes(each) for each in records(encode(START, b'{"kind":"prediction"}', bytes(16))[0])]
    [b'{"kind":"prediction"}']
    """
    offset, size, view = 0, len(data), memoryview(data)
    unpack = _BELIEVED.unpack_from
    while offset + HEADER_BYTES <= size:
        magic, length, _, payload_hash = unpack(data, offset)
        start = offset + HEADER_BYTES
        if magic != MAGIC or length <= SALT_BYTES:
            raise _damaged(offset)
        if start + length > size:
            break
        payload = view[start : start + length]
        if sha256(payload).digest() == payload_hash:
            yield payload[SALT_BYTES:]
        elif any(payload):
            raise _damaged(offset)
        offset = start + length
    if offset < size and not growing:
        raise _damaged(offset)


def _damaged(offset: int) -> Corrupt:
    return Corrupt("bytes that are no frame", where=f"journal, byte {offset}", cure="`ecluse journal verify` says what")


def walk(stream: BinaryIO, start: int = 0) -> Iterator[Frame | Damage]:
    """Every frame of one segment from byte ``start`` on, and every stretch that is none, in order of offset.

    Never raises on damage: it goes on at the next readable header. Linear in the bytes read; holds one frame at a time.
    """
    size = stream.seek(0, os.SEEK_END)
    offset = stream.seek(start)
    while offset < size:
        item = _read_frame(stream, offset, size)
        if isinstance(item, Damage):
            item = _delimit(stream, item, size)
            offset = stream.seek(item.end)
        else:
            offset = item.end
        yield item


def _read_frame(stream: BinaryIO, offset: int, size: int) -> Frame | Damage:
    left = size - offset
    header = decode_header(stream.read(HEADER_BYTES))
    if header is None:
        torn = left < HEADER_BYTES
        return Damage(offset, size, "torn: the header stops short" if torn else "the header is damaged", torn=torn)
    payload = stream.read(header.length) if header.length <= left - HEADER_BYTES else b""
    if len(payload) != header.length:
        return Damage(offset, size, "torn: the payload stops short", header, torn=True)
    if sha256(payload).digest() == header.payload_hash:
        return Frame(offset, header, payload[SALT_BYTES:])
    if not any(payload):
        return Frame(offset, header, None)
    return Damage(offset, size, "the payload does not match its hash", header)


def _delimit(stream: BinaryIO, damage: Damage, size: int) -> Damage:
    """The same damage, ended at the next readable header, or marked as the segment's tail."""
    end = _find_header(stream, damage.offset + 1, size)
    if end is None:
        return Damage(damage.offset, size, damage.what, damage.header, tail=True, torn=damage.torn)
    what = "the length runs past the next header" if damage.torn else damage.what
    return Damage(damage.offset, end, what, damage.header)


def _find_header(stream: BinaryIO, start: int, size: int) -> int | None:
    """Offset of the first readable header at or after ``start``; windows overlap so that none is missed on an edge."""
    while start + HEADER_BYTES <= size:
        stream.seek(start)
        window = stream.read(_WINDOW)
        at = window.find(MAGIC)
        while 0 <= at <= len(window) - HEADER_BYTES:
            if decode_header(window[at : at + HEADER_BYTES]) is not None:
                return start + at
            at = window.find(MAGIC, at + 1)
        if len(window) < _WINDOW:
            return None
        start += _WINDOW - HEADER_BYTES + 1
    return None


def link(head: Head | None, item: Frame | Damage) -> tuple[Head | None, str]:
    """Hold ``item`` against the chain up to ``head``: the new head, and what is wrong ("" when nothing is).

    ``head`` None means the predecessor is unknown: whatever comes first is taken. After an unreadable header the next
    frame's previous hash cannot be checked, its sequence can.
    """
    header = item.header
    if header is None:
        return head and Head(head.sequence + 1, b""), item.what if isinstance(item, Damage) else ""
    found = Head(header.sequence, header.hash)
    if head is not None and header.sequence > head.sequence + 1:
        return found, f"records {head.sequence + 1} to {header.sequence - 1} are missing"
    if head is not None and header.sequence <= head.sequence:
        return found, f"record {header.sequence} comes after record {head.sequence}"
    if head is not None and head.hash and header.previous_hash != head.hash:
        return found, "the chain is broken: it does not follow from the record before it"
    return found, item.what if isinstance(item, Damage) else ""
