"""A person at the console: every key arrives, everything is shown, and the terminal is theirs again afterwards."""

import os
import select
import socket
import termios
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO, cast

import pytest

from harness import by_hand
from harness.errors import HarnessError
from harness.guest.credentials import Credentials
from harness.lab.node import Node
from harness.serial import terminal
from harness.serial.console import Console
from harness.serial.shell import Shell
from harness.verdict.feed import Feed

_SECONDS = 5.0
# What is typed of itself, for a prompt to show.
_NUDGE = b"\n"


class Screen:
    """Keeps what is shown; a keyboard it is not."""

    def __init__(self) -> None:
        self.shown = b""
        self.flushed = b""

    def fileno(self) -> int:
        raise AssertionError("a screen is only written to")

    def isatty(self) -> bool:
        return False

    def write(self, data: bytes, /) -> int:
        self.shown += data
        return len(data)

    def flush(self) -> None:
        self.flushed = self.shown


@dataclass
class Desk:
    """A console, a screen and a keyboard: `fingers` is the other end of the keyboard's cable, `ended` is QEMU's end."""

    console: Console
    guest: socket.socket
    keyboard: BinaryIO
    fingers: BinaryIO
    screen: Screen = field(default_factory=Screen)
    ended: bool = False

    def over(self) -> bool:
        return self.ended

    def sit_down(self, pool: ThreadPoolExecutor) -> "Future[None]":
        """Starts to interact; what is typed from its return on is typed at the node."""
        session = pool.submit(terminal.interact, self.console, self.over, self.keyboard, self.screen)
        assert self.guest.recv(1) == _NUDGE
        return session

    def type(self, keys: bytes) -> None:
        self.fingers.write(keys)

    def sees(self, words: bytes) -> bool:
        return _becomes_true(lambda: words in self.screen.flushed)

    def arrived(self) -> bytes:
        """All that the guest has got since the nudge, once the console is closed."""
        self.console.close()
        return b"".join(iter(lambda: self.guest.recv(4096), b""))


def _becomes_true(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + _SECONDS
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as threads:
        yield threads


@pytest.fixture
def line(tmp_path: Path) -> Iterator[tuple[Console, socket.socket]]:
    ours, guest = socket.socketpair()
    guest.settimeout(_SECONDS)
    console = Console(ours, Feed(), tmp_path / "console.log")
    with guest:
        yield console, guest
    console.close()


def seated(line: tuple[Console, socket.socket], pool: ThreadPoolExecutor, keyboard: int, fingers: int) -> Iterator[Desk]:
    mode = "r+b" if os.isatty(keyboard) else "rb"
    with os.fdopen(keyboard, mode, buffering=0) as seat, os.fdopen(fingers, "wb", buffering=0) as cable:
        desk = Desk(*line, cast("BinaryIO", seat), cast("BinaryIO", cable))
        yield desk
        desk.ended = True
        pool.shutdown()


@pytest.fixture
def at_a_terminal(line: tuple[Console, socket.socket], pool: ThreadPoolExecutor) -> Iterator[Desk]:
    fingers, keyboard = os.openpty()
    yield from seated(line, pool, keyboard, fingers)


@pytest.fixture
def at_a_pipe(line: tuple[Console, socket.socket], pool: ThreadPoolExecutor) -> Iterator[Desk]:
    yield from seated(line, pool, *os.pipe())


@pytest.fixture(params=["at_a_terminal", "at_a_pipe"])
def desk(request: pytest.FixtureRequest) -> Desk:
    found: Desk = request.getfixturevalue(request.param)
    return found


def settings(desk: Desk) -> list[Any]:
    return termios.tcgetattr(desk.keyboard.fileno())


def test_keys_arrive_and_what_the_guest_writes_is_shown(desk: Desk, pool: ThreadPoolExecutor) -> None:
    session = desk.sit_down(pool)
    desk.type(b"uname\r")
    assert desk.guest.recv(100) == b"uname\r"
    desk.guest.sendall("Linux grün\r\n~ # ".encode())
    assert desk.sees("Linux grün\r\n~ # ".encode())
    desk.type(terminal.LEAVE)
    session.result(_SECONDS)


def test_a_character_in_two_pieces_is_shown_whole(desk: Desk, pool: ThreadPoolExecutor) -> None:
    desk.sit_down(pool)
    desk.guest.sendall(b"gr\xc3")
    assert desk.sees(b"gr")
    desk.guest.sendall(b"\xbcn")
    assert desk.sees("grün".encode())


@pytest.mark.parametrize(
    "keys",
    [
        pytest.param(b"\x03\x04\x1a\x11\x13\r\x7f", id="keys that a terminal keeps to itself"),
        pytest.param(b"x", id="no line end"),
    ],
)
def test_every_key_of_a_terminal_comes_as_it_is_typed(at_a_terminal: Desk, pool: ThreadPoolExecutor, keys: bytes) -> None:
    session = at_a_terminal.sit_down(pool)
    at_a_terminal.type(keys)
    assert at_a_terminal.guest.recv(100) == keys
    at_a_terminal.type(terminal.LEAVE)
    session.result(_SECONDS)


def test_a_terminal_shows_no_key_by_itself(at_a_terminal: Desk, pool: ThreadPoolExecutor) -> None:
    session = at_a_terminal.sit_down(pool)
    at_a_terminal.type(b"secret" + terminal.LEAVE)
    session.result(_SECONDS)
    assert select.select([at_a_terminal.fingers], [], [], 0) == ([], [], [])


@pytest.mark.parametrize(
    ("keys", "sent"),
    [
        pytest.param(terminal.LEAVE, b"", id="alone"),
        pytest.param(b"poweroff\r" + terminal.LEAVE, b"poweroff\r", id="what was typed before it is sent"),
        pytest.param(b"a" + terminal.LEAVE + b"b", b"a", id="what was typed after it is not"),
    ],
)
def test_the_key_to_leave_leaves_and_is_not_sent(desk: Desk, pool: ThreadPoolExecutor, keys: bytes, sent: bytes) -> None:
    session = desk.sit_down(pool)
    desk.type(keys)
    session.result(_SECONDS)
    assert desk.arrived() == sent


def test_the_end_of_qemu_ends_it(desk: Desk, pool: ThreadPoolExecutor) -> None:
    session = desk.sit_down(pool)
    desk.ended = True
    session.result(_SECONDS)


def test_a_guest_that_hangs_up_ends_it_after_its_last_words(desk: Desk, pool: ThreadPoolExecutor) -> None:
    session = desk.sit_down(pool)
    desk.guest.sendall(b"reboot: Power down\r\n")
    desk.guest.shutdown(socket.SHUT_WR)
    session.result(_SECONDS)
    assert desk.screen.flushed == b"reboot: Power down\r\n"


def test_the_end_of_the_keyboard_ends_it(at_a_pipe: Desk, pool: ThreadPoolExecutor) -> None:
    session = at_a_pipe.sit_down(pool)
    at_a_pipe.type(b"last")
    at_a_pipe.fingers.close()
    session.result(_SECONDS)
    assert at_a_pipe.arrived() == b"last"


def test_a_terminal_that_is_closed_ends_it(at_a_terminal: Desk, pool: ThreadPoolExecutor) -> None:
    session = at_a_terminal.sit_down(pool)
    at_a_terminal.fingers.close()
    session.result(_SECONDS)


def test_a_terminal_is_as_before_when_it_is_left(at_a_terminal: Desk, pool: ThreadPoolExecutor) -> None:
    before = settings(at_a_terminal)
    session = at_a_terminal.sit_down(pool)
    assert settings(at_a_terminal) != before
    at_a_terminal.type(terminal.LEAVE)
    session.result(_SECONDS)
    assert settings(at_a_terminal) == before


def test_a_terminal_is_as_before_after_an_error(at_a_terminal: Desk) -> None:
    before = settings(at_a_terminal)
    seen = []

    def broken() -> bool:
        seen.append(settings(at_a_terminal))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        terminal.interact(at_a_terminal.console, broken, at_a_terminal.keyboard, at_a_terminal.screen)
    assert seen != [before]
    assert settings(at_a_terminal) == before


def test_a_terminal_is_as_before_when_the_node_is_gone_already(at_a_terminal: Desk) -> None:
    before = settings(at_a_terminal)
    at_a_terminal.guest.close()
    with pytest.raises(HarnessError, match="the console ended"):
        terminal.interact(at_a_terminal.console, lambda: False, at_a_terminal.keyboard, at_a_terminal.screen)
    assert settings(at_a_terminal) == before


def test_the_window_is_told_until_it_is_taken_and_when_it_changes(at_a_terminal: Desk, pool: ThreadPoolExecutor) -> None:
    told: list[tuple[int, int]] = []

    def resize(window: os.terminal_size) -> bool:
        told.append((window.columns, window.lines))
        return len(told) > 1

    termios.tcsetwinsize(at_a_terminal.keyboard.fileno(), (40, 132))
    desk = at_a_terminal
    session = pool.submit(terminal.interact, desk.console, desk.over, desk.keyboard, desk.screen, resize)
    assert _becomes_true(lambda: len(told) == 2)
    termios.tcsetwinsize(at_a_terminal.keyboard.fileno(), (50, 200))
    assert _becomes_true(lambda: len(told) == 3)
    # As long as some more looks take.
    time.sleep(0.3)
    at_a_terminal.type(terminal.LEAVE)
    session.result(_SECONDS)
    assert told == [(132, 40), (132, 40), (200, 50)]


def test_a_console_that_was_left_is_not_listened_to_any_more(
    desk: Desk, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    lent = desk.console.attach()
    monkeypatch.setattr(desk.console, "attach", lambda: lent)
    session = desk.sit_down(pool)
    assert not lent.closed
    desk.type(terminal.LEAVE)
    session.result(_SECONDS)
    assert lent.closed


def test_a_visitor_is_told_the_ways_in_before_the_console(desk: Desk, pool: ThreadPoolExecutor, tmp_path: Path) -> None:
    process = SimpleNamespace(running=lambda: not desk.over())
    ways_in = {
        "kubelet": SimpleNamespace(port=40250),
        "ssh_port": 40022,
        "shell": Shell(desk.console),
        "agent": SimpleNamespace(answers=False),
    }
    boot = SimpleNamespace(console=desk.console, process=process, **ways_in)
    node = cast("Node", SimpleNamespace(credentials=Credentials(tmp_path), boot=boot))
    visit = pool.submit(by_hand.visit, node, desk.keyboard, desk.screen)
    assert desk.guest.recv(1) == _NUDGE
    api, ssh, console, rest = desk.screen.flushed.decode().split("\r\n")
    assert f"curl -k --cert {tmp_path / 'kubelet-client.pem'} https://127.0.0.1:40250/pods" in api
    assert f"ssh -i {tmp_path / 'ssh-user'} -p 40022 " in ssh
    assert ssh.endswith(" root@127.0.0.1")
    assert "Ctrl-]" in console
    assert rest == ""
    assert not visit.done()
    desk.ended = True
    visit.result(_SECONDS)
