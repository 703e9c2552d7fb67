"""The milestones of a node's boot, and when each was passed."""

import math
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from harness.verdict.feed import (
    ConsoleLine,
    ConsolePodOpen,
    ConsoleText,
    ContainerState,
    Entry,
    Feed,
    Happening,
    PodState,
    ShellAnswer,
)
from harness.verdict.goal import AnyOf, Goal, LineMatching, Unspoken, may_meet

# printk's stamp on a line: seconds of the guest's own clock.
_STAMP = re.compile(r"^\[ *(\d+\.\d{6})\]")


@dataclass(frozen=True)
class Milestone:
    """A point that every good boot passes: its name, the goal that shows it, and its budget.

    `within` is in seconds from QEMU's start on the reference host (2 cores, TCG); on other hosts it is multiplied by their
    slowness. `told_by_kubelet`: only the kubelet can show it.
    """

    name: str
    passed: Goal
    within: float
    told_by_kubelet: bool = False


@dataclass(frozen=True)
class Passed:
    """A milestone that was passed `after` seconds after QEMU's start.

    `frozen`: it was passed by the node from which this one was cloned, so many seconds after that node's start.
    """

    name: str
    after: float
    frozen: bool = False


def container_done(namespace: str, pod: str, container: str) -> Goal:
    """Recognises a container that has done its work: the kubelet or the console pod says that it ended with status 0."""
    whose = (namespace, pod, container)

    def done(happening: Happening) -> bool:
        return (
            isinstance(happening, ContainerState)
            and (happening.namespace, happening.pod, happening.container) == whose
            and happening.exit_code == 0
        )

    return Unspoken(done)


def container_running(namespace: str, pod: str, container: str) -> Goal:
    """Recognises a container that the kubelet says is running."""
    whose = (namespace, pod, container)
    return Unspoken(
        lambda happening: (
            isinstance(happening, ContainerState)
            and (happening.namespace, happening.pod, happening.container) == whose
            and happening.state == "running"
        )
    )


def container_started(namespace: str, pod: str, container: str) -> Goal:
    """Recognises a container that runs or has already done its work."""
    return AnyOf([container_running(namespace, pod, container), container_done(namespace, pod, container)])


FIRMWARE = Milestone("firmware", LineMatching(r"BdsDxe: (loading|starting) Boot"), 60)
KERNEL = Milestone("kernel", LineMatching(r"^\[ +0\.000000\]"), 90)
INIT = Milestone("init", LineMatching(r"Run /init as init process"), 120)
# The first answer of the kubelet's API: from then on the node is on the network.
API = Milestone("kubelet-api", Unspoken(lambda happening: isinstance(happening, ContainerState | PodState)), 240, True)
# These two are passed only if somebody asks, so `BOOT` does not include them.
SHELL = Milestone("shell", Unspoken(lambda happening: isinstance(happening, ShellAnswer)), 180)
CONSOLE = Milestone("console", Unspoken(lambda happening: isinstance(happening, ConsolePodOpen)), 180)
# What a real node shows of its boot; no line of kiOS's init says that a daemon has started.
BOOT = (FIRMWARE, KERNEL, INIT)


class Timeline:
    """The milestones that a node has passed, each once; it reads each happening once, unless it is asked for new milestones.

    A kernel line counts from its stamp, because a line written without its end is printed only with the next one. A container's
    state counts from when it was heard.
    """

    def __init__(self, feed: Feed, start: float) -> None:
        """`start` is when QEMU was started, as `time.monotonic`."""
        self._feed, self._start = feed, start
        self._reading = threading.Lock()
        self._position = 0
        self._forget([])

    def passed(self, milestones: Sequence[Milestone]) -> list[Passed]:
        """Returns those of the milestones that were passed so far, in order of time, in seconds from the start."""
        with self._reading:
            if [milestone.name for milestone in milestones] != self._names:
                self._forget(milestones)
            entries, self._position = self._feed.entries(self._position)
            for _, entry in entries:
                self._read_entry(entry)
            found = [Passed(name, self._time_of(at, stamp) - self._start) for name, at, stamp in self._passed]
            return sorted(found, key=lambda entry: entry.after)

    def _forget(self, milestones: Sequence[Milestone]) -> None:
        self._names = [milestone.name for milestone in milestones]
        self._open = list(milestones)
        self._passed: list[tuple[str, float, float | None]] = []
        # The time of the kernel's clock zero. No line is heard before its stamp, so the line that was heard soonest tells it.
        self._booted = math.inf
        # Clock zero is not before the firmware's last line either: on a starved host a guest's clock may run ahead.
        self._loaded = self._start
        self._position = 0

    def _read_entry(self, entry: Entry) -> None:
        if not isinstance(entry, ConsoleText):
            self._read(entry)
        elif any(may_meet(milestone.passed, entry.text) for milestone in self._open):
            for line in entry.lines():
                self._read(line)
        else:
            self._read(ConsoleLine(entry.text.partition("\n")[0], entry.at))

    def _read(self, happening: Happening) -> None:
        stamp = _stamp_of(happening)
        if stamp is not None:
            self._booted = min(self._booted, happening.at - stamp)
        elif self._booted == math.inf and isinstance(happening, ConsoleLine):
            self._loaded = happening.at
        for milestone in [open_one for open_one in self._open if open_one.passed(happening)]:
            self._open.remove(milestone)
            self._passed.append((milestone.name, happening.at, stamp))

    def _time_of(self, at: float, stamp: float | None) -> float:
        return at if stamp is None else min(at, max(self._booted, self._loaded) + stamp)


def _stamp_of(happening: Happening) -> float | None:
    match = _STAMP.match(happening.text) if isinstance(happening, ConsoleLine) else None
    return float(match[1]) if match else None
