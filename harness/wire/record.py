"""The capture of a run as it is kept: pcapng, with each frame's direction, and comments on what happened meanwhile.

QEMU writes plain pcap, by the machine's own clock, which on a clone continues from the frozen node's. What is kept has this
host's time (draft-ietf-opsawg-pcapng).
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from harness.wire import frame

_FILE_HEADER = 24
_RECORD = struct.Struct("<IIII")
# Of a longer capture, the first and the last half are kept.
MOST_BYTES = 64 << 20
_SECTION, _INTERFACE, _PACKET = 0x0A0D0D0A, 1, 6
_ETHERNET, _ALL = 1, 0
_END, _COMMENT, _IF_NAME, _FLAGS = 0, 1, 2, 2
_INBOUND, _OUTBOUND = 1, 2


@dataclass(frozen=True)
class Mark:
    """Something that happened, at a time in seconds of the epoch."""

    at: float
    text: str


@dataclass(frozen=True)
class _Record:
    at: float
    content: bytes
    length: int
    note: str = ""


def keep(capture: Path, kept: Path, mac: str, marks: Sequence[Mark], most: int = MOST_BYTES) -> None:
    """Writes what QEMU has captured of the NIC `mac` to `kept`, and removes the original; does nothing if there is none.

    Each mark is a comment on the first frame after it, or on the last frame. A torn last record is left out.
    """
    if not capture.exists():
        return
    left = sorted(marks, key=lambda mark: mark.at)
    with capture.open("rb") as source, kept.open("wb") as target:
        target.write(_section())
        target.write(_interface())
        ahead = _ahead(source, capture.stat().st_mtime)
        last: _Record | None = None
        for record in _bounded(source, most):
            if last:
                target.write(_packet(last, ahead, mac, _due(left, last.at - ahead)))
            last = record
        if last:
            target.write(_packet(last, ahead, mac, [mark.text for mark in left]))
    capture.unlink()


def _due(left: list[Mark], at: float) -> list[str]:
    due = []
    while left and left[0].at <= at:
        due.append(left.pop(0).text)
    return due


def _headers(source: BinaryIO) -> Iterator[tuple[int, float, int, int]]:
    """Yields for each whole record its position, its time, and its frame's length in the file and on the wire."""
    end = source.seek(0, 2)
    position = _FILE_HEADER
    while position + _RECORD.size <= end:
        source.seek(position)
        seconds, micros, captured, length = _RECORD.unpack(source.read(_RECORD.size))
        if position + _RECORD.size + captured > end:
            return
        yield position, seconds + micros / 1e6, captured, length
        position += _RECORD.size + captured


def _ahead(source: BinaryIO, written: float) -> float:
    """The seconds by which the machine's clock was ahead of this host's when the last record was written."""
    last = max((at for _, at, _, _ in _headers(source)), default=written)
    return last - written


def _bounded(source: BinaryIO, most: int) -> Iterator[_Record]:
    """Yields the records, without those in the middle of a capture that is too long."""
    end = source.seek(0, 2)
    skipped = 0
    for position, at, captured, length in _headers(source):
        if end > most and most // 2 < position < end - most // 2:
            skipped += 1
            continue
        source.seek(position + _RECORD.size)
        note = f"{skipped} frames before this one are left out" if skipped else ""
        skipped = 0
        yield _Record(at, source.read(captured), length, note)


def _section() -> bytes:
    # The magic of the byte order, the version, and an unspecified length.
    return _block(_SECTION, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))


def _interface() -> bytes:
    return _block(_INTERFACE, struct.pack("<HHI", _ETHERNET, 0, _ALL) + _option(_IF_NAME, b"eth0") + _option(_END, b""))


def _packet(record: _Record, ahead: float, mac: str, comments: Sequence[str]) -> bytes:
    micros = round((record.at - ahead) * 1e6)
    way = _OUTBOUND if frame.source_of(record.content) == mac.lower() else _INBOUND
    texts = [*([record.note] if record.note else []), *comments]
    options = b"".join(_option(_COMMENT, text.encode()[:1000]) for text in texts)
    head = struct.pack("<IIIII", 0, micros >> 32, micros & 0xFFFFFFFF, len(record.content), record.length)
    return _block(
        _PACKET, head + _padded(record.content) + options + _option(_FLAGS, struct.pack("<I", way)) + _option(_END, b"")
    )


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + _padded(value)


def _padded(value: bytes) -> bytes:
    return value + bytes(-len(value) % 4)


def _block(kind: int, body: bytes) -> bytes:
    length = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + length + body + length
