"""labgrid's QEMUDriver and ShellDriver, run by `bench.peers` in the peers' environment.

Configured by an environment file, as its documentation has it; every setting that is not of this machine is the default.
"""

import json
import shlex
import tempfile
import time
from pathlib import Path
from typing import Any

import pexpect
from labgrid import Environment  # type: ignore[import-not-found]

from bench.task import PROMPT, BootTask, BootTimes, Seconds, WatchTask, serve, settle, timed

# The driver wants these by name, and gives the rest to QEMU as it is.
_OWN = {"-machine": "machine", "-cpu": "cpu", "-m": "memory"}


def boot(task: BootTask) -> BootTimes:
    """`run_check` gives the output's lines, and fails on a status that is not 0."""
    target = _target(task)
    qemu = target.get_driver("QEMUDriver")
    began = time.monotonic()
    qemu.on()
    shell = target.get_driver("ShellDriver")

    def run(number: int) -> None:
        lines = shell.run_check(f"echo {number}", timeout=task.within)
        if lines != [str(number)]:
            raise ValueError(f"echo {number} came back as {lines}")

    run(0)
    seconds = time.monotonic() - began
    qemu.expect(pexpect.TIMEOUT, timeout=max(0.0, began + task.quiet - time.monotonic()))
    commands = timed(task.commands, run)
    qemu.off()
    return BootTimes({"labgrid": seconds}, {"labgrid": commands})


def watch(task: WatchTask) -> Seconds:
    """The driver's own `expect`, with a list of patterns, each taken out when it was seen."""
    qemu = _target(task).get_driver("QEMUDriver")
    qemu.on()
    settle()
    left = list(task.patterns)
    began = time.monotonic()
    qemu.sendline("go")
    while left:
        index, _, _, _ = qemu.expect(left, timeout=task.within)
        del left[index]
    seconds = time.monotonic() - began
    qemu.off()
    return {"labgrid": seconds}


def _target(task: BootTask | WatchTask) -> Any:
    words = list(task.argv[1:])
    own = dict.fromkeys(_OWN.values(), "none")
    for option in _OWN.keys() & words:
        at = words.index(option)
        own[_OWN[option]] = words[at + 1]
        del words[at : at + 2]
    drivers = [
        # Our own words say `-display none`; the driver's default, -nographic, would say the same with more to it.
        {"QEMUDriver": {"qemu_bin": "qemu", "display": "qemu-default", "extra_args": shlex.join(words), **own}},
        # There is no login: the prompt comes by itself, and so the login prompt, which must be named, never does.
        {
            "ShellDriver": {
                "prompt": PROMPT,
                "login_prompt": "kios login: ",
                "username": "root",
                "login_timeout": int(task.within),
            }
        },
    ]
    configuration = {"tools": {"qemu": task.argv[0]}, "targets": {"main": {"drivers": drivers}}}
    file = Path(tempfile.mkdtemp()) / "environment.yaml"
    # JSON is YAML too.
    file.write_text(json.dumps(configuration))
    return Environment(str(file)).get_target("main")


if __name__ == "__main__":
    serve(boot, watch)
