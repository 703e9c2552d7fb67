"""A capture as it is kept: read back by scapy, with times, ways and comments."""

import os
import struct
from pathlib import Path
from typing import Any

import pytest
from scapy.utils import RawPcapNgReader

from harness.wire.capture import frames
from harness.wire.record import Mark, keep

_MAC = "52:54:00:6b:69:6f"
_OURS, _THEIRS = bytes(6) + bytes.fromhex("5254006b696f") + bytes(48), bytes(60)
# The machine's clock, which a clone has from its template, and this host's.
_MACHINE, _HOST = 1_600_000_000, 1_700_000_000


@pytest.fixture
def pcap(tmp_path: Path) -> Path:
    return tmp_path / "wire.pcap"


def write(pcap: Path, contents: list[bytes], tail: bytes = b"") -> None:
    """A frame a second, the last of them now."""
    records = (
        struct.pack("<IIII", _MACHINE + at, 250_000, len(content), len(content)) + content
        for at, content in enumerate(contents)
    )
    pcap.write_bytes(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1) + b"".join(records) + tail)
    os.utime(pcap, (_HOST + len(contents) - 1, _HOST + len(contents) - 1))


def kept(pcap: Path, marks: list[Mark] | None = None, most: int = 1 << 20) -> list[tuple[bytes, Any]]:
    target = pcap.with_suffix(".pcapng")
    keep(pcap, target, _MAC, marks or [], most)
    with RawPcapNgReader(str(target)) as reader:
        return list(reader)


def comments(read: list[tuple[bytes, Any]]) -> list[list[str]]:
    return [[text.decode() for text in about.comments or []] for _, about in read]


def test_frames_have_their_ways_and_this_hosts_time(pcap: Path) -> None:
    write(pcap, [_OURS, _THEIRS, _OURS])
    read = kept(pcap)
    assert [content for content, _ in read] == [_OURS, _THEIRS, _OURS]
    # 1 is inbound and 2 outbound (pcapng, 4.3.1).
    assert [about.direction for _, about in read] == [2, 1, 2]
    times = [((about.tshigh << 32) + about.tslow) / about.tsresol for _, about in read]
    assert times == pytest.approx([_HOST, _HOST + 1, _HOST + 2], abs=0.001)
    assert not pcap.exists()


def test_a_mark_is_on_the_first_frame_behind_it(pcap: Path) -> None:
    write(pcap, [_OURS] * 4)
    marks = [Mark(_HOST + 9, "after all"), Mark(_HOST - 9, "kernel"), Mark(_HOST + 1.5, "init"), Mark(_HOST + 1.6, "console")]
    assert comments(kept(pcap, marks)) == [["kernel"], [], ["init", "console"], ["after all"]]


def test_the_middle_of_a_long_capture_is_left_out(pcap: Path) -> None:
    contents = [bytes(12) + number.to_bytes(2) * 30 for number in range(1000)]
    write(pcap, contents)
    read = kept(pcap, [Mark(_HOST + 500, "half way")], most=20_000)
    left = [content for content, _ in read]
    assert 200 < len(left) < 300
    half = len([each for each in left if each[12:14] < (500).to_bytes(2)])
    assert left == [*contents[:half], *contents[half - len(left) :]]
    assert comments(read)[half] == [f"{1000 - len(left)} frames before this one are left out", "half way"]


@pytest.mark.parametrize("tail", [b"\1", bytes(16)[:15], struct.pack("<IIII", 0, 0, 60, 60) + bytes(59)])
def test_a_torn_last_record_is_left_out(pcap: Path, tail: bytes) -> None:
    write(pcap, [_OURS, _THEIRS], tail)
    assert len(kept(pcap)) == 2


def test_what_is_kept_is_read_like_a_capture(pcap: Path) -> None:
    write(pcap, [_OURS, b"odd", b"", _THEIRS])
    kept(pcap, [Mark(_HOST, "kernel")])
    assert list(frames(pcap.with_suffix(".pcapng"))) == [_OURS, b"odd", b"", _THEIRS]


def test_a_capture_of_nothing_and_none_at_all(pcap: Path) -> None:
    target = pcap.with_suffix(".pcapng")
    keep(pcap, target, _MAC, [])
    assert not target.exists()
    write(pcap, [])
    keep(pcap, target, _MAC, [Mark(_HOST, "kernel")])
    assert list(frames(target)) == []
