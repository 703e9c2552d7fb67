"""Plain pexpect, run by `bench.peers` in the peers' environment.

As most do it: `pexpect.spawn` of QEMU with the serial port on its terminal and every setting at its default (maxread 2000,
searchwindowsize None: the whole buffer is searched at each read; delaybeforesend 50 ms). Tuned: no delay, reads of 64 KiB,
a search window of 128 KiB (a smaller one than what is read loses matches) and, to read only, a socket for a terminal.
"""

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pexpect
from pexpect import fdpexpect

from bench.task import ANSWERED, ASKED, PROMPT, BootTask, BootTimes, Seconds, WatchTask, serve, settle, timed

_READ_BYTES = 65536


def boot(task: BootTask) -> BootTimes:
    """The serial port is on a terminal."""
    began = time.monotonic()
    child = pexpect.spawn(
        task.argv[0],
        [*task.argv[1:], "-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"],
        timeout=task.within,
    )
    child.expect_exact(PROMPT)

    def run(number: int) -> None:
        child.sendline(ASKED.format(number))
        child.expect(ANSWERED.format(number))

    run(0)
    seconds = time.monotonic() - began
    child.expect(pexpect.TIMEOUT, timeout=max(0.0, began + task.quiet - time.monotonic()))
    plain = timed(task.commands, run)
    child.delaybeforesend = None
    child.maxread, child.searchwindowsize = _READ_BYTES, 2 * _READ_BYTES
    tuned = timed(task.commands, run)
    child.close(force=True)
    return BootTimes({"pexpect": seconds}, {"pexpect": plain, "pexpect, tuned": tuned})


def watch(task: WatchTask) -> Seconds:
    """A list of patterns, each taken out when it was seen."""
    child = pexpect.spawn(task.argv[0], task.argv[1:], timeout=task.within)
    plain = _seen(child, task.patterns)
    child.close(force=True)
    with _on_socket(task) as tuned:
        return {"pexpect": plain, "pexpect, tuned": _seen(tuned, task.patterns)}


def _seen(child: Any, patterns: list[str]) -> float:
    settle()
    left = [pattern.encode() for pattern in patterns]
    began = time.monotonic()
    child.sendline(b"go")
    while left:
        del left[child.expect(left)]
    return time.monotonic() - began


@contextlib.contextmanager
def _on_socket(task: WatchTask) -> Iterator[Any]:
    ours, theirs = socket.socketpair()
    argv = [*task.argv, "-chardev", f"socket,id=console,fd={theirs.fileno()}"]
    with ours, theirs, subprocess.Popen(argv, pass_fds=[theirs.fileno()]) as process:
        yield fdpexpect.fdspawn(ours, timeout=task.within, maxread=_READ_BYTES, searchwindowsize=2 * _READ_BYTES)
        process.kill()


if __name__ == "__main__":
    serve(boot, watch)
