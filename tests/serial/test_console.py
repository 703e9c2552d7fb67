"""The console's reader: nothing is lost, lines come out clean, and pexpect sees all of it."""

import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pexpect
import pytest

from harness.errors import HarnessError
from harness.serial.console import Console
from harness.verdict.feed import ConsoleLine, Feed


@dataclass(frozen=True)
class Rig:
    console: Console
    feed: Feed
    guest: socket.socket
    log: Path

    def lines(self, count: int) -> list[str]:
        """Returns the texts of the lines once there are `count`, all there are otherwise after 5 seconds."""
        self.feed.wait_beyond(count - 1, 5)
        return [happening.text for happening in self.feed.since(0) if isinstance(happening, ConsoleLine)]


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    ours, guest = socket.socketpair()
    feed = Feed()
    console = Console(ours, feed, tmp_path / "console.log")
    guest.settimeout(5)
    try:
        yield Rig(console, feed, guest, tmp_path / "console.log")
    finally:
        guest.close()
        console.close()


def test_lines_are_published_and_the_log_is_what_came(rig: Rig) -> None:
    rig.guest.sendall(b"SeaBIOS\r\none\ntwo\r\n\r\nthree")
    assert rig.lines(4) == ["SeaBIOS", "one", "two", ""]
    rig.guest.close()
    assert rig.lines(5)[4:] == ["three"]
    rig.console.close()
    with rig.console.attach() as attachment, pytest.raises(pexpect.EOF):
        attachment.read_nonblocking(timeout=0)
    assert rig.log.read_bytes() == b"SeaBIOS\r\none\ntwo\r\n\r\nthree"


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"\x1b[0;32mok\x1b[m", "ok"),
        (b"\x1bc\x1b[?7l\x1b[2J~ # \x1b[6n", "~ # "),
        (b"\x1b]0;title\x07a\x1b]2;x\x1b\\b", "ab"),
        (b"\x1b(Ba\x1b7b\x1b", "ab"),
        (b"\x1b]no end", "no end"),
        (b"10%\r20%\r", "10%20%"),
        ("grün\udcff".encode("utf-8", "surrogateescape"), "gr\u00fcn\ufffd"),
    ],
)
def test_a_line_is_without_escapes_and_decoded(rig: Rig, raw: bytes, text: str) -> None:
    for byte in raw + b"\n":
        rig.guest.sendall(bytes([byte]))
    assert rig.lines(1) == [text]


def test_a_line_without_an_end_comes_in_pieces(rig: Rig) -> None:
    rig.guest.sendall(b"x" * 200_000 + b"\nshort\n")
    lines = rig.lines(5)
    while lines[-1] != "short":
        lines = rig.lines(len(lines) + 1)
    assert "".join(lines[:-1]) == "x" * 200_000
    assert max(map(len, lines)) <= 65536


def test_a_flood_is_neither_lost_nor_reordered(rig: Rig) -> None:
    expected = [f"[{number:12.6f}] flood" for number in range(100_000)]
    rig.guest.sendall("".join(f"{line}\r\n" for line in expected).encode())
    assert rig.lines(len(expected)) == expected


def test_send_types(rig: Rig) -> None:
    rig.console.send(b"uname -a\n")
    assert rig.guest.recv(100) == b"uname -a\n"


def test_send_is_not_held_up_by_a_guest_that_reads_late(rig: Rig) -> None:
    data = bytes(range(256)) * 4096
    received = bytearray()

    def read() -> None:
        while len(received) < len(data):
            received.extend(rig.guest.recv(65536))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    rig.console.send(data)
    reader.join(5)
    assert received == data


def test_send_to_an_ended_console_is_an_error(rig: Rig) -> None:
    rig.guest.close()
    with pytest.raises(HarnessError, match="console ended"):
        rig.console.send(b"x")
    rig.console.close()
    with pytest.raises(HarnessError, match="console ended"):
        rig.console.send(b"x")


def test_pexpect_sees_what_comes_after_attach_and_the_feed_sees_it_too(rig: Rig) -> None:
    rig.guest.sendall(b"before\n")
    rig.lines(1)
    with rig.console.attach() as first, rig.console.attach() as second:
        rig.guest.sendall(b"login: ")
        assert first.expect(["before", "log(in|out): "], timeout=5) == 1
        assert first.sendline("root") == 5
        assert rig.guest.recv(100) == b"root\n"
        rig.guest.sendall("Gr\u00fc\u00dfe\n# ".encode())
        first.expect_exact("\u00fc", timeout=5)
        assert first.before == "Gr"
        second.expect(r"in: (\w+)\n# ", timeout=5)
        assert isinstance(second.match, re.Match)
        assert second.match[1] == "Gr\u00fc\u00dfe"
    assert rig.lines(2) == ["before", "login: Gr\u00fc\u00dfe"]


def test_pexpect_finds_a_word_in_a_flood(rig: Rig) -> None:
    with rig.console.attach() as attachment:
        flood = b"0123456789abcde\n" * 65536
        writer = threading.Thread(target=rig.guest.sendall, args=(flood + b"needle" + flood + b"end",), daemon=True)
        writer.start()
        attachment.expect_exact("needle", timeout=5)
        attachment.expect("end", timeout=5)
        assert attachment.before is not None
        assert len(attachment.before) == len(flood)
        writer.join(5)


def test_pexpect_times_out_and_ends(rig: Rig) -> None:
    with rig.console.attach() as attachment:
        started = time.monotonic()
        with pytest.raises(pexpect.TIMEOUT):
            attachment.expect("never", timeout=0.1)
        assert time.monotonic() - started < 2
        rig.guest.sendall(b"last words")
        rig.guest.close()
        assert attachment.expect(["never", pexpect.EOF], timeout=5) == 1
        assert attachment.before == "last words"
        with pytest.raises(pexpect.EOF):
            attachment.expect("more", timeout=5)
    with pytest.raises(pexpect.EOF):
        rig.console.attach().expect("late", timeout=5)


def test_a_log_ends_where_it_is_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.serial.console._LOG_BYTES", 1000)
    ours, guest = socket.socketpair()
    feed = Feed()
    with closing(Console(ours, feed, tmp_path / "console.log")), guest:
        guest.sendall(b"y\n" * 700)
        feed.wait_beyond(699, 5)
        guest.sendall(b"z\n" * 700)
        feed.wait_beyond(1399, 5)
    log = (tmp_path / "console.log").read_bytes()
    assert log.startswith(b"y\n" * 500)
    assert log.endswith(b"this log ends here; the console went on\r\n")
    assert len(log) < 1200


def test_what_nobody_reads_is_let_go_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.serial.console._UNREAD_BYTES", 1000)
    ours, guest = socket.socketpair()
    feed = Feed()
    with closing(Console(ours, feed, tmp_path / "console.log")) as console, guest, console.attach() as attachment:
        guest.sendall(b"first\n")
        feed.wait_beyond(0, 5)
        guest.sendall(b"y\n" * 2000)
        feed.wait_beyond(2000, 5)
        attachment.expect("first")
        with pytest.raises(HarnessError, match="that nobody read"):
            attachment.expect("never", timeout=2)


def test_a_log_without_space_ends_no_console(tmp_path: Path) -> None:
    ours, guest = socket.socketpair()
    log = tmp_path / "console.log"
    log.symlink_to("/dev/full")
    with closing(Console(ours, Feed(), log)) as console, guest:
        rig = Rig(console, console._feed, guest, log)
        guest.sendall(b"one\n")
        assert rig.lines(1) == ["one"]
        guest.sendall(b"two\n")
        assert rig.lines(2) == ["one", "two"]
