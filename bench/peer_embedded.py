"""pytest-embedded-qemu, run by `bench.peers` in the peers' environment: the program runs pytest on this same file.

QEMU's command line is given through the plugin's own options. Its Qemu class adds a flash image (`-drive ...,if=mtd`), at
which a PC ends at once ("machine type does not support if=mtd"); so the program that it is told to start is a script that
drops these last two words and becomes QEMU. All else is as it comes: serial port on QEMU's stdin and stdout, `dut.expect`.
"""

import os
import shlex
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pexpect
import pytest

from bench.task import ANSWERED, ASKED, PROMPT, BootTask, BootTimes, Seconds, WatchTask, read, serve, settle, timed

_TASK = "KIOS_BENCH_TASK"
_answers: list[Any] = []


def test_boot(request: pytest.FixtureRequest) -> None:
    """What is started beside QEMU (a manager, a listener) is up before the clock runs."""
    task = read(os.environ[_TASK])
    assert isinstance(task, BootTask)
    request.getfixturevalue("pexpect_proc")
    began = time.monotonic()
    dut = request.getfixturevalue("dut")
    dut.expect(PROMPT, timeout=task.within)

    def run(number: int) -> None:
        dut.write(ASKED.format(number))
        dut.expect(ANSWERED.format(number), timeout=task.within)

    run(0)
    seconds = time.monotonic() - began
    dut.expect(pexpect.TIMEOUT, timeout=max(0.0, began + task.quiet - time.monotonic()))
    commands = timed(task.commands, run)
    _answers.append(BootTimes({"pytest-embedded-qemu": seconds}, {"pytest-embedded-qemu": commands}))


def test_watch(dut: Any) -> None:
    """`expect_all` takes out what it has seen."""
    task = read(os.environ[_TASK])
    assert isinstance(task, WatchTask)
    settle()
    began = time.monotonic()
    dut.write("go")
    dut.expect(list(task.patterns), expect_all=True, timeout=task.within)
    _answers.append({"pytest-embedded-qemu": time.monotonic() - began})


def boot(task: BootTask) -> BootTimes:
    """Runs the first test."""
    answer: BootTimes = _tested("test_boot", [*task.argv, "-chardev", "stdio,id=console", "-serial", "chardev:console"])
    return answer


def watch(task: WatchTask) -> Seconds:
    """Runs the second."""
    answer: Seconds = _tested("test_watch", task.argv)
    return answer


def _tested(test: str, argv: list[str]) -> Any:
    # The same module object as pytest's: its import mode finds the one that is loaded.
    from bench import peer_embedded

    os.environ[_TASK] = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        program, image = Path(folder, "qemu"), Path(folder, "image")
        program.write_text(f'#!/bin/bash\nexec {shlex.quote(argv[0])} "${{@:1:$#-2}}"\n')
        program.chmod(0o755)
        image.touch()
        pytest.main(
            [
                f"{__file__}::{test}",
                *("-c", os.devnull, "--rootdir", folder, "--noconftest", "-p", "no:cacheprovider", "-p", "no:labgrid"),
                *("--embedded-services", "qemu", "--root-logdir", folder),
                f"--qemu-prog-path={program}",
                f"--qemu-image-path={image}",
                f"--qemu-cli-args={shlex.join(argv[1:])}",
            ]
        )
    return peer_embedded._answers.pop()


if __name__ == "__main__":
    serve(boot, watch)
