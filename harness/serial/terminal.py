"""A user at the node's serial console: what is typed goes there, what comes is shown, Ctrl-] leaves.

A serial port does not carry the size of the window, so `resize` has to tell the node in another way.
"""

import contextlib
import os
import select
import termios
import tty
from collections.abc import Callable, Iterator
from typing import Protocol

import pexpect

from harness.serial.console import Console


class Seat(Protocol):
    """A file that is a keyboard, a screen, or both."""

    def fileno(self) -> int: ...
    def isatty(self) -> bool: ...
    def write(self, data: bytes, /) -> int | None: ...
    def flush(self) -> None: ...


LEAVE = b"\x1d"
_LOOK_SECONDS = 0.05


def interact(
    console: Console,
    over: Callable[[], bool],
    keyboard: Seat,
    screen: Seat,
    resize: Callable[[os.terminal_size], bool] = lambda _: True,
) -> None:
    """Connects a keyboard and a screen to the console until Ctrl-] is typed, keyboard or console end, or `over` says so.

    `resize` is called with the window's size at first and after each change, until it returns that the node knows it.
    """
    told: os.terminal_size | None = None
    # The guest's side hangs up before `over` knows that QEMU has ended.
    with _raw(keyboard), console.attach() as attachment, contextlib.suppress(pexpect.EOF):
        console.send(b"\n")
        while not over():
            if (size := _size_of(keyboard)) != told and size and resize(size):
                told = size
            with contextlib.suppress(pexpect.TIMEOUT):
                screen.write(attachment.read_nonblocking(65536, _LOOK_SECONDS).encode())
                screen.flush()
            if not select.select([keyboard], [], [], 0)[0]:
                continue
            typed = os.read(keyboard.fileno(), 1024)
            before, left, _ = typed.partition(LEAVE)
            if before:
                console.send(before)
            if left or not typed:
                return


def _size_of(seat: Seat) -> os.terminal_size | None:
    try:
        return os.get_terminal_size(seat.fileno()) if seat.isatty() else None
    except OSError:  # The terminal may have been closed.
        return None


@contextlib.contextmanager
def _raw(keyboard: Seat) -> Iterator[None]:
    """Passes each key on as it is typed; restores the terminal afterwards."""
    if not keyboard.isatty():
        yield
        return
    before = termios.tcgetattr(keyboard.fileno())
    try:
        tty.setraw(keyboard.fileno())
        yield
    finally:
        with contextlib.suppress(termios.error):  # The terminal may have been closed.
            termios.tcsetattr(keyboard.fileno(), termios.TCSADRAIN, before)
