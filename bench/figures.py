"""The figures: each function makes its measurement and yields what it found."""

import json
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from bench.lab import NODE_POD, Lab
from harness.lab.node import Node
from harness.verdict.feed import ContainerState, Happening, ShellAnswer
from harness.vm.machine import Channels

_ROOT = Path(__file__).parent.parent
_REPEATS = 5
_CLONES = 10
# Single boots differ by some seconds.
_PAIRS = 6
_GROWN = "resized filesystem to"
_GROWN_SECONDS = 300.0


@dataclass(frozen=True)
class Figure:
    """One measured value, in `unit`, that should be at most (or, where so named, at least) its goal; None: told only."""

    name: str
    value: float
    unit: str
    goal: float | None = None
    at_least: float | None = None

    @property
    def verdict(self) -> str:
        """`ok`, `MISS`, or nothing where there is no goal."""
        if self.goal is not None:
            return "ok" if self.value <= self.goal else "MISS"
        if self.at_least is not None:
            return "ok" if self.value >= self.at_least else "MISS"
        return ""

    def row(self) -> str:
        """A line of the table."""
        goal = f"<= {self.goal:g}" if self.goal is not None else f">= {self.at_least:g}" if self.at_least is not None else ""
        return f"{self.name:<58} {self.value:>10.3f} {self.unit:<6} {goal:>9}  {self.verdict}"


def commands(lab: Lab) -> Iterator[Figure]:
    """What a developer waits for before anything boots."""
    del lab
    yield Figure("import harness.plugin", _median_of("-c", "import harness.plugin") - _median_of("-c", "pass"), "s")
    yield Figure("import harness", _median_of("-c", "import harness") - _median_of("-c", "pass"), "s", goal=0.15)
    yield Figure(
        "pytest --collect-only scenarios", _median_of("-m", "pytest", "--collect-only", "-q", "scenarios"), "s", goal=1
    )
    yield Figure("kios-e2e check", _median_of("-m", "harness", "check", "scenarios/manifests/node.yaml"), "s", goal=0.15)


def preparation(lab: Lab) -> Iterator[Figure]:
    """Overlay, injection and variable store of a node."""
    times = []
    for _ in range(_REPEATS):
        with closing(lab.maker()) as maker:
            began = time.monotonic()
            maker.prepare(maker.order(lab.image, [NODE_POD]))
            times.append(time.monotonic() - began)
    yield Figure("overlay, injection and variables of a node", statistics.median(times), "s", goal=0.2)


def cold_and_warm(lab: Lab) -> Iterator[Figure]:
    """One cold boot with its milestones, the power-off, and clones beside it."""
    with closing(lab.maker()) as maker:
        node = maker.boot(maker.order(lab.image, [NODE_POD]))
        for passed in node.timeline():
            yield Figure(f"cold boot: {passed.name}", passed.after, "s")
        cold = node.timeline()[-1].after
        yield Figure("cold boot to grown disk and all pods running", cold, "s", goal=45)
        cold_memory = _pss(node)
    if not lab.host.qemu.can_freeze:
        return
    with closing(lab.maker()) as maker:
        maker.clone(lab.templates(), maker.order(lab.image, [NODE_POD]))
    shells, apis = [], []
    for _ in range(_REPEATS):
        with closing(lab.maker()) as maker:
            shell, api = _answers(maker.clone(lab.templates(), maker.order(lab.image, [NODE_POD])))
            shells.append(shell)
            apis.append(api)
    yield Figure("clone: first answer of the shell", statistics.median(shells), "s", goal=0.5)
    yield Figure("clone: first answer of the kubelet's API", statistics.median(apis), "s", goal=1)
    yield Figure("cold boot / clone's shell", cold / statistics.median(shells), "x", at_least=150)
    with closing(lab.maker()) as maker:
        clones = [maker.clone(lab.templates(), maker.order(lab.image, [NODE_POD])) for _ in range(_CLONES)]
        memory = sum(_pss(clone) for clone in clones)
    yield Figure("cold node's memory", cold_memory / (1 << 20), "MiB")
    yield Figure(f"{_CLONES} clones' memory / a cold node's", memory / cold_memory, "x", goal=3)


def overhead(lab: Lab) -> Iterator[Figure]:
    """The same boot through the harness and bare, in turn: to the line that says that the filesystem was resized."""
    through, bare = [], []
    for _ in range(_PAIRS):
        with closing(lab.maker()) as maker:
            node = maker.prepare(maker.order(lab.image, [NODE_POD]))
            node.start()
            node.wait(_GROWN, within=_GROWN_SECONDS)
            through.append(time.monotonic() - node.boot.started)
        with closing(lab.maker()) as maker:
            bare.append(_bare(lab, maker.prepare(maker.order(lab.image, [NODE_POD]))))
    yield Figure("boot to grown disk: through the harness", statistics.median(through), "s")
    yield Figure("boot to grown disk: bare QEMU and a loop on its serial port", statistics.median(bare), "s")
    yield Figure("through the harness / bare", statistics.median(through) / statistics.median(bare), "x", goal=1.05)


def _bare(lab: Lab, node: Node) -> float:
    """Seconds from QEMU's start to the line, with nothing around it but what starts it and reads its serial port.

    Raises TimeoutError when the line does not come, and EOFError when QEMU ends before.
    """
    with ExitStack() as open_ones:
        ours, theirs, qmp, qmp_theirs = map(open_ones.enter_context, (*socket.socketpair(), *socket.socketpair()))
        words = lab.command_line(node, Channels(qmp=qmp_theirs.fileno(), console=theirs.fileno()))
        began = time.monotonic()
        process = open_ones.enter_context(
            subprocess.Popen(words, pass_fds=[theirs.fileno(), qmp_theirs.fileno()], stderr=subprocess.DEVNULL)
        )
        open_ones.callback(process.kill)
        # What QEMU alone holds open says by its end that QEMU ended.
        theirs.close()
        qmp_theirs.close()
        for command in ("qmp_capabilities", "cont"):
            qmp.sendall(json.dumps({"execute": command}).encode())
        heard = b""
        while _GROWN.encode() not in heard:
            ours.settimeout(max(began + _GROWN_SECONDS - time.monotonic(), 0.001))
            if not (came := ours.recv(65536)):
                raise EOFError("QEMU ended before the filesystem was resized")
            heard += came
        return time.monotonic() - began


ALL: tuple[Callable[[Lab], Iterator[Figure]], ...] = (commands, preparation, cold_and_warm, overhead)


def _median_of(*arguments: str) -> float:
    times = []
    for _ in range(_REPEATS):
        began = time.monotonic()
        subprocess.run([sys.executable, *arguments], cwd=_ROOT, stdout=subprocess.DEVNULL, check=True)
        times.append(time.monotonic() - began)
    return statistics.median(times)


def _answers(node: Node) -> tuple[float, float]:
    """Seconds from the start of the clone's QEMU to its shell's first answer, and to the kubelet's."""
    node.wait(_kubelet_answers)
    heard = node.boot.feed.since(0)
    shell = next(happening.at for happening in heard if isinstance(happening, ShellAnswer))
    return shell - node.boot.started, next(filter(_kubelet_answers, heard)).at - node.boot.started


def _kubelet_answers(happening: Happening) -> bool:
    """the kubelet's first answer"""
    # The harness's agent tells of containers too, but not how often they were started.
    return isinstance(happening, ContainerState) and happening.restarts is not None


def _pss(node: Node) -> int:
    """Bytes of memory that are this QEMU's share: what it shares with others counts in part (proc(5), smaps_rollup)."""
    rollup = Path(f"/proc/{node.boot.process.pid}/smaps_rollup").read_text()
    return sum(int(line.split()[1]) << 10 for line in rollup.splitlines() if line.startswith("Pss:"))
