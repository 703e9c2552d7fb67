"""Framed commands against a real shell on a real terminal, with a line that is as noisy as a kernel makes it."""

import fcntl
import os
import pty
import random
import select
import shutil
import socket
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from harness.errors import HarnessError, NodeFailure
from harness.serial.console import Console
from harness.serial.shell import Abort, Shell
from harness.verdict.feed import Feed

Line = Callable[[bytes], bytes]

SHELLS = [["sh"], ["busybox", "sh"]]


def clean(chunk: bytes) -> bytes:
    return chunk


class KernelNoise:
    """A line on which the kernel speaks in between, anywhere."""

    def __init__(self) -> None:
        self._random = random.Random(7)

    def __call__(self, chunk: bytes) -> bytes:
        cut = self._random.randrange(len(chunk) + 1)
        noise = b"[   12.345678] eth0: link up [x]\r\n[   12.345901][    T1] audit: a=b\r\n"
        return chunk[:cut] + noise + chunk[cut:]


class Damage:
    """A line on which one byte arrives as another, in the first `chunks` chunks that have it."""

    def __init__(self, sent: bytes, received: bytes, chunks: int) -> None:
        self._sent = sent
        self._received = received
        self._chunks = chunks

    def __call__(self, chunk: bytes) -> bytes:
        if self._chunks and self._sent in chunk:
            self._chunks -= 1
            return chunk.replace(self._sent, self._received)
        return chunk


def others_words(chunk: bytes) -> bytes:
    """A line to which somebody else writes words that a result could be made of."""
    return chunk.replace(b"\n", b"\ny\r\nAAAA\r\n")


def relay(terminal: int, guest: socket.socket, line: Line) -> None:
    """Carries bytes between a terminal and the guest's end of the console until either ends."""
    with guest:
        while True:
            readable, _, _ = select.select([terminal, guest.fileno()], [], [], 20)
            try:
                if terminal in readable:
                    guest.sendall(line(os.read(terminal, 200)))
                if guest.fileno() in readable:
                    data = guest.recv(4096)
                    if not data:
                        return
                    os.write(terminal, data)
            except OSError:
                return
            if not readable:
                return


@contextmanager
def guest(
    folder: Path,
    line: Line = clean,
    abort: Abort = lambda: None,
    argv: list[str] = SHELLS[0],
    greeting: str | None = None,
    lost: Callable[[], float] = lambda: 0.0,
) -> Iterator[Shell]:
    with ExitStack() as stack:
        terminal, slave = pty.openpty()
        stack.callback(os.close, terminal)
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        environment = {**os.environ, "PS1": "[guest] # \x1b[6n", "TERM": "vt102", "HOME": str(folder)}
        process = subprocess.Popen(
            ["setsid", "--ctty", *argv], stdin=slave, stdout=slave, stderr=slave, env=environment, cwd=folder
        )
        os.close(slave)
        stack.callback(process.wait, 5)
        stack.callback(process.kill)
        ours, theirs = socket.socketpair()
        carrier = threading.Thread(target=relay, args=(terminal, theirs, line), daemon=True)
        carrier.start()
        stack.callback(carrier.join, 5)
        console = Console(ours, Feed(), folder / "console.log")
        stack.callback(console.close)
        yield Shell(console, abort, folder=".", greeting=greeting, lost=lost)


@pytest.fixture(params=SHELLS, ids=" ".join)
def argv(request: pytest.FixtureRequest) -> list[str]:
    program: list[str] = request.param
    if shutil.which(program[0]) is None:
        pytest.skip(f"{program[0]} is not installed")
    return program


@pytest.mark.parametrize("line", [clean, KernelNoise(), others_words], ids=["clean", "noisy", "others' words"])
def test_commands_come_back_whole(tmp_path: Path, line: Line, argv: list[str]) -> None:
    with guest(tmp_path, line, argv=argv) as shell:
        shell.wait_ready(5)
        assert shell.run("true", 5).output == b""
        result = shell.run("echo out; echo err >&2; exit 7", 5)
        assert (result.status, result.text) == (7, "out\nerr\n")
        assert shell.run("printf '\\001\\377\\n\\033[1m'; echo \"it's $((6 * 7))\"", 5).output == b"\x01\xff\n\x1b[1mit's 42\n"
        assert shell.run("seq 20000", 5).output == "".join(f"{n}\n" for n in range(1, 20001)).encode()
        assert shell.run("cat", 5).output == b""
        assert shell.run("echo 'unbalanced", 5).status == 2
        assert shell.run("exit 3", 5).status == 3


@pytest.mark.parametrize("line", [clean, KernelNoise(), others_words], ids=["clean", "noisy", "others' words"])
def test_long_and_many_lined_commands(tmp_path: Path, line: Line, argv: list[str]) -> None:
    with guest(tmp_path, line, argv=argv) as shell:
        shell.wait_ready(5)
        words = [f"word-{n}" for n in range(600)]
        assert shell.run(f"echo {' '.join(words)}", 5).text.split() == words
        script = "if true\nthen\n\techo gr\u00fcn\nfi\nexit 4"
        result = shell.run(script, 5)
        assert (result.status, result.text) == (4, "gr\u00fcn\n")
        assert all(shell.run(f"echo {'x' * length}", 5).status == 0 for length in range(300, 900, 150))


def test_a_damaged_result_is_shown_again_and_the_command_not_run_again(tmp_path: Path) -> None:
    with guest(tmp_path, Damage(b"=", b"A", 2)) as shell:
        shell.wait_ready(5)
        assert shell.run("echo once >>count; echo ABCABCABC", 5).text == "ABCABCABC\n"
        assert (tmp_path / "count").read_text() == "once\n"


def test_a_result_that_is_damaged_each_time_is_an_error(tmp_path: Path) -> None:
    with guest(tmp_path, Damage(b"=", b"A", 1000)) as shell:
        shell.wait_ready(5)
        with pytest.raises(HarnessError, match="damaged 4 times"):
            shell.run("echo ABCABCABC", 5)
        assert shell.run("echo ok", 5).text == "ok\n"


def test_a_result_whose_end_is_lost_is_no_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.serial.shell._TORN_SECONDS", 0.1)
    with guest(tmp_path, Damage(b">", b"?", 1000)) as shell:
        shell.wait_ready(5)
        with pytest.raises(HarnessError, match="damaged 4 times"):
            shell.run("echo once >>count", 5)
        assert (tmp_path / "count").read_text() == "once\n"


def test_a_shell_that_comes_late_is_waited_for(tmp_path: Path) -> None:
    late = ["sh", "-c", "sleep 1.3; exec sh"]
    with guest(tmp_path, argv=late) as shell:
        shell.wait_ready(5)
        assert shell.run("echo $((40 + 2))", 5).text == "42\n"


def test_a_shell_that_loses_what_was_typed_before_it_is_asked_at_its_greeting(tmp_path: Path) -> None:
    # As a serial port's driver does.
    losing = ["sh", "-c", "stty raw -echo; sleep 0.5; timeout 0.2 cat >/dev/null; stty sane; echo I am here; exec sh"]
    with guest(tmp_path, argv=losing, greeting="I am here") as shell:
        started = time.monotonic()
        shell.wait_ready(10)
        assert time.monotonic() - started < 3


def test_a_ready_shell_has_read_all_that_was_typed(tmp_path: Path) -> None:
    def slow(chunk: bytes) -> bytes:
        time.sleep(0.02)
        return chunk

    with guest(tmp_path, slow) as shell:
        shell.wait_ready(10)
        assert "while read" in (tmp_path / "console.log").read_text(), "a machine frozen now would never read the rest"


def test_no_shell_is_a_failure_of_the_node(tmp_path: Path) -> None:
    with guest(tmp_path, argv=["sleep", "60"]) as shell, pytest.raises(NodeFailure, match="no shell answered"):
        shell.wait_ready(0.3)


def test_a_command_that_does_not_end_is_interrupted(tmp_path: Path) -> None:
    with guest(tmp_path) as shell:
        shell.wait_ready(5)
        with pytest.raises(NodeFailure, match=r"sleep 60.*did not end"):
            shell.run("sleep 60", 0.3)
        assert shell.run("echo next", 5).text == "next\n"


def _starved() -> float:
    """Of each second the host takes 0.8."""
    return 0.8 * time.monotonic()


def test_a_host_that_takes_the_cpu_makes_a_command_last_longer_and_proves_nothing(tmp_path: Path) -> None:
    with guest(tmp_path, lost=_starved) as shell:
        shell.wait_ready(5)
        assert shell.run("sleep 0.8; echo done", 0.4).text == "done\n"
        with pytest.raises(HarnessError, match=r"sleep 60.* did not end within 0 s, and the host was too busy: QEMU waited"):
            shell.run("sleep 60", 0.4)


def test_a_shell_that_a_busy_host_holds_up_is_waited_for(tmp_path: Path) -> None:
    late = ["sh", "-c", "sleep 1; exec sh"]
    with guest(tmp_path, argv=late, lost=_starved) as shell:
        shell.wait_ready(0.8)
    with (
        guest(tmp_path, argv=["sleep", "60"], lost=_starved) as shell,
        pytest.raises(HarnessError, match="no shell answered on the console within 0 s, and the host was too busy"),
    ):
        shell.wait_ready(0.3)


def test_a_frame_that_a_busy_host_holds_up_is_not_torn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.serial.shell._TORN_SECONDS", 0.3)
    shown: list[bytes] = []

    def held_up(chunk: bytes) -> bytes:
        if b"<\r\n" in chunk:
            shown.append(chunk)
        if b">" in chunk:
            time.sleep(1.3)
        return chunk

    with guest(tmp_path, held_up, lost=_starved) as shell:
        shell.wait_ready(5)
        shown.clear()
        assert shell.run("echo once", 5).text == "once\n"
        assert len(shown) == 1


def test_a_shell_in_anothers_place_is_taught_anew_and_the_command_run_once(tmp_path: Path) -> None:
    with guest(tmp_path, argv=["sh", "-c", "sh -i; exec sh -i"]) as shell:
        shell.wait_ready(5)
        assert shell.run("echo first", 5).text == "first\n"
        shell._console.send(b"break 99\nexit\n")
        assert shell.run("echo once >>count; echo second", 5).text == "second\n"
        assert (tmp_path / "count").read_text() == "once\n"


def test_a_shell_that_is_left_prompts_and_takes_commands_again(tmp_path: Path, argv: list[str]) -> None:
    with guest(tmp_path, argv=argv) as shell:
        # As on a clone: the shell listens to somebody who is gone.
        Shell(shell._console, folder=".").wait_ready(5)
        shell.wait_ready(5)
        assert shell.run("echo 1", 5).text == "1\n"
        with shell._console.attach() as attachment:
            shell.leave()
            assert not shell._ready
            attachment.expect_exact("[guest] # ", timeout=5)
            attachment.sendline("echo $((6 * 7))")
            attachment.expect(r"\n42\r+\n\[guest\] # ", timeout=5)
        assert shell.run("echo 2", 5).text == "2\n"


def test_each_commands_output_goes_with_the_next(tmp_path: Path) -> None:
    with guest(tmp_path) as shell:
        shell.wait_ready(5)
        for number in range(3):
            assert shell.run(f"seq {1000 + number}", 5).status == 0
        sizes = sorted(kept.stat().st_size for kept in tmp_path.glob("shell-*"))
        assert sizes[:-1] == [0, 0]
        assert sizes[-1] > 0


def test_the_end_of_the_console_ends_the_wait(tmp_path: Path) -> None:
    with guest(tmp_path) as shell:
        shell.wait_ready(5)
        started = time.monotonic()
        with pytest.raises(HarnessError, match="console ended"):
            shell.run("trap '' HUP; kill -9 $PPID", 10)
        assert time.monotonic() - started < 3
        with pytest.raises(HarnessError, match="console ended"):
            shell.wait_ready(10)


def test_a_reason_to_abort_ends_the_wait(tmp_path: Path) -> None:
    panicked = threading.Event()

    def abort() -> None:
        if panicked.is_set():
            raise NodeFailure("the kernel panicked")

    with guest(tmp_path, abort=abort) as shell:
        shell.wait_ready(5)
        threading.Timer(0.2, panicked.set).start()
        started = time.monotonic()
        with pytest.raises(NodeFailure, match="the kernel panicked"):
            shell.run("sleep 60", 10)
        assert time.monotonic() - started < 2
