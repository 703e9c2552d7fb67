"""The harness beside its peers: labgrid, pytest-embedded-qemu and plain pexpect, on one image, machine and set of commands.

Each peer is a program of its own (`peer_*.py`) in an environment of its own, made by `make bench-venv`.
"""

import contextlib
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from bench.figures import Figure
from bench.lab import NODE_POD, Lab
from bench.task import BootTask, BootTimes, WatchTask, settle, timed, written
from harness.lab.node import Node
from harness.serial.console import Console
from harness.verdict.feed import Feed
from harness.verdict.goal import LineMatching
from harness.verdict.judge import Judge, Patience
from harness.verdict.outcome import Met
from harness.vm.machine import Channels

_ROOT = Path(__file__).parent.parent
_PYTHON = _ROOT / ".venv-bench/bin/python"
_FLOOD = _ROOT / "bench/flood.py"
_PEERS = ("peer_labgrid", "peer_embedded", "peer_pexpect")
_HARNESS = "harness"
_CLONE = "harness, by a clone"
_TOLD_ONLY = (_CLONE,)
# A shell that edits lines is slower than a program that runs one; a window of text is hard to beat as a reader.
_GOALS = {"commands": 0.8, "patterns": 1.2}

# Boots differ by a second and more, so there are many; commands hardly do, and need a node that has come to rest.
_ROUNDS = 6
_ROUNDS_WITH_COMMANDS = 2
_COMMANDS = 200
# How much later than the harness's node, at the slowest, a peer's is taken to be quiet.
_QUIET_FACTOR = 1.3
_WAIT_SECONDS = 300.0
_PEER_SECONDS = 1200.0

_OUTPUT_BYTES = 20_000_000
_PATTERNS = 20


def boots(lab: Lab) -> Iterator[Figure]:
    """Cold nodes, in turn: from QEMU's start to the first command's result, on some then 200 commands when all pods run.

    What a scenario gets in place of a cold node, a clone, stands beside them: no peer has that.
    """
    if not _environment_is_there():
        return
    boot: defaultdict[str, list[float]] = defaultdict(list)
    commands: defaultdict[str, list[float]] = defaultdict(list)
    for number in range(_ROUNDS):
        asked = _COMMANDS if number < _ROUNDS_WITH_COMMANDS else 0
        with closing(lab.maker()) as maker:
            times, quiet = _harness_boots(maker.prepare(maker.order(lab.image, [NODE_POD])), asked)
            _add(times, boot, commands)
        for peer in _PEERS:
            with closing(lab.maker()) as maker:
                node = maker.prepare(maker.order(lab.image, [NODE_POD]))
                task = BootTask(_bare_machine(lab, node), asked, quiet, _WAIT_SECONDS)
                if answer := _ask(peer, task, lab.folder):
                    _add(BootTimes(answer["boot"], answer["commands"] if asked else {}), boot, commands)
    if lab.host.qemu.can_freeze:
        boot[_CLONE] = [_clone_answers(lab) for _ in range(_ROUNDS)]
    yield from _beside("boot to first command", {name: statistics.median(times) for name, times in boot.items()})
    yield from _beside(f"{_COMMANDS} commands", {name: statistics.median(times) for name, times in commands.items()})


def output(lab: Lab) -> Iterator[Figure]:
    """The reader's part of a chatty console: a plain program prints in QEMU's place, faster than an emulated serial port."""
    if not _environment_is_there():
        return
    log = lab.folder / "flood.log"
    patterns = _write_log(log)
    seconds = {_HARNESS: statistics.median(_harness_watches(log, patterns, lab.folder) for _ in range(1))}
    for peer in _PEERS:
        seconds |= _ask(peer, WatchTask([str(_FLOOD), "-flood", str(log)], patterns, _WAIT_SECONDS), lab.folder)
    yield from _beside(f"{_OUTPUT_BYTES / 1e6:.0f} MB from a writer, {_PATTERNS} patterns", seconds)


ALL: tuple[Callable[[Lab], Iterator[Figure]], ...] = (boots, output)


def _environment_is_there() -> bool:
    if not _PYTHON.exists():
        print("bench: the peers are not measured: `make bench-venv` installs them", file=sys.stderr)
    return _PYTHON.exists()


def _beside(what: str, seconds: Mapping[str, float]) -> Iterator[Figure]:
    for name, value in seconds.items():
        yield Figure(f"{what}: {name}", value, "s")
    for name in seconds.keys() - {_HARNESS}:
        goal = None if name in _TOLD_ONLY else next((goal for word, goal in _GOALS.items() if word in what), 1.0)
        yield Figure(f"{what}: harness / {name}", seconds[_HARNESS] / seconds[name], "x", goal=goal)


def _add(times: BootTimes, boot: Mapping[str, list[float]], commands: Mapping[str, list[float]]) -> None:
    for kept, measured in ((boot, times.boot), (commands, times.commands)):
        for name, seconds in measured.items():
            kept[name].append(seconds)


def _harness_boots(node: Node, commands: int) -> tuple[BootTimes, float]:
    """Its times, and the seconds from the start after which a node has come to rest; 0 where no commands are asked for."""

    def run(number: int) -> None:
        result = node.run(f"echo {number}")
        if (result.status, result.text) != (0, f"{number}\n"):
            raise ValueError(f"echo {number} came back as {result}")

    began = time.monotonic()
    node.start()
    run(0)
    boot = {_HARNESS: time.monotonic() - began}
    if not commands:
        return BootTimes(boot, {}), 0.0
    node.wait_until_ready()
    ready = time.monotonic() - began
    time.sleep(ready * (_QUIET_FACTOR - 1))
    return BootTimes(boot, {_HARNESS: timed(commands, run)}), ready * _QUIET_FACTOR


def _clone_answers(lab: Lab) -> float:
    with closing(lab.maker()) as maker:
        node = maker.clone(lab.templates(), maker.order(lab.image, [NODE_POD]))
        # A clone's clock is set by a command, so the shell has answered when there is one; counted from QEMU's start.
        node.run("echo 0")
        return time.monotonic() - node.boot.started


def _bare_machine(lab: Lab, node: Node) -> list[str]:
    """The node's own command line, without what each peer does its own way: channels, and the start from a stop."""
    words = lab.command_line(node, Channels(qmp=0, console=0))
    words.remove("-S")
    return words[: words.index("-chardev")]


def _harness_watches(log: Path, patterns: Sequence[str], folder: Path) -> float:
    """Seconds that a scenario's waits take, one for each pattern, as `Node.wait` does them."""
    ours, theirs = socket.socketpair()
    words = [str(_FLOOD), "-flood", str(log), "-chardev", f"socket,id=console,fd={theirs.fileno()}"]
    with theirs, subprocess.Popen(words, pass_fds=[theirs.fileno()]) as process:
        feed = Feed()
        with closing(Console(ours, feed, folder / "flood-console.log")) as console:
            settle()
            judge, heard = Judge(feed), 0
            began = time.monotonic()
            console.send(b"go\n")
            for pattern in patterns:
                outcome = judge.wait(LineMatching(pattern), Patience(_WAIT_SECONDS, _WAIT_SECONDS), since=heard)
                if not isinstance(outcome, Met):
                    raise ValueError(f"{pattern} was not seen: {outcome}")
                heard = outcome.position
            seconds = time.monotonic() - began
        process.kill()
    return seconds


def _write_log(log: Path) -> list[str]:
    """Writes what a chatty node says; returns patterns of which each matches once, the last in the last line."""
    chance = random.Random(_PATTERNS)
    lines: list[str] = []
    size = 0
    while size < _OUTPUT_BYTES:
        pod, revision = chance.randrange(10**6), chance.randrange(10**9)
        lines.append(f'[{len(lines) / 500:12.3f}] kubelet[312]: "Syncing pod" pod="default/app-{pod:06}" revision={revision}')
        size += len(lines[-1]) + 2
    for number in range(_PATTERNS):
        share = 1 if number == _PATTERNS - 1 else (number + chance.random()) / _PATTERNS
        at = int((len(lines) - 1) * share)
        lines[at] = f"[{at / 500:12.3f}] init: unit-{number:02} is up after {chance.randrange(10**4)} ms"
    log.write_bytes("".join(f"{line}\r\n" for line in lines).encode())
    return [rf"unit-{number:02} is \w+ after \d+ ms" for number in range(_PATTERNS)]


def _ask(peer: str, task: BootTask | WatchTask, folder: Path) -> Any:
    """A peer's answer; empty if it failed, which is told: it is a figure of its own, not the end of all others."""
    report, words = folder / f"{peer}.json", folder / f"{peer}.log"
    report.unlink(missing_ok=True)
    with words.open("wb") as log:
        process = subprocess.Popen(
            [str(_PYTHON), "-m", f"bench.{peer}", written(task), str(report)],
            cwd=_ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            process.wait(_PEER_SECONDS)
        except subprocess.TimeoutExpired:
            print(f"bench: {peer} did not end within {_PEER_SECONDS:.0f} s", file=sys.stderr)
        finally:
            # Peers leave QEMU and helpers behind when they fail.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if not report.exists():
        tail = words.read_text(errors="replace")[-2000:]
        print(f"bench: {peer} has no figure for this; its last words:\n{tail}", file=sys.stderr)
        return {}
    return json.loads(report.read_text())
