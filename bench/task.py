"""What a peer is asked and answers, as JSON: it runs in an environment of its own, where there is no harness."""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

# Each contender's seconds; a peer may be used in more than one way.
Seconds = dict[str, float]

# How a user reads output and status where only text comes back. What is typed comes back too, but has no digits there; a
# terminal in between doubles carriage returns.
ASKED = "echo {0}; echo status=$?"
ANSWERED = r"\n{0}\r+\nstatus=0\r+\n"
# The console container's shell (console.c in images/).
PROMPT = "kios# "
# Until a program that stands in for QEMU is up: no figure of a reader.
_SETTLE_SECONDS = 1.0


@dataclass(frozen=True)
class BootTask:
    """Boot the machine `argv` to its first command; `quiet` seconds after its start or later, run commands on it.

    `argv` has neither console nor machine protocol: each peer attaches its own. `within` is in seconds for any one wait.
    """

    argv: list[str]
    commands: int
    quiet: float
    within: float


@dataclass(frozen=True)
class WatchTask:
    """Notice every pattern that the program `argv`, which takes QEMU's place, prints once a line is typed."""

    argv: list[str]
    patterns: list[str]
    within: float


@dataclass(frozen=True)
class BootTimes:
    """From the machine's start to the first command's result, and all commands behind it."""

    boot: Seconds
    commands: Seconds


def written(task: BootTask | WatchTask) -> str:
    """A task as a peer's command line has it."""
    return json.dumps({"kind": type(task).__name__} | asdict(task))


def read(words: str) -> BootTask | WatchTask:
    """The task that was written."""
    told = json.loads(words)
    kind = told.pop("kind")
    return BootTask(**told) if kind == BootTask.__name__ else WatchTask(**told)


def serve(boot: Callable[[BootTask], BootTimes], watch: Callable[[WatchTask], Seconds]) -> None:
    """A peer's program: TASK REPORT, where the report is a file that gets the answer."""
    task = read(sys.argv[1])
    answer = asdict(boot(task)) if isinstance(task, BootTask) else watch(task)
    Path(sys.argv[2]).write_text(json.dumps(answer) + "\n")


def timed(commands: int, run: Callable[[int], object]) -> float:
    """Seconds that so many commands take, one after another."""
    began = time.monotonic()
    for number in range(commands):
        run(number)
    return time.monotonic() - began


def settle() -> None:
    """Waits until the program that prints is there."""
    time.sleep(_SETTLE_SECONDS)
