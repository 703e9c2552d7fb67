"""Milestones of a node's way up, and when each was passed."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from harness.verdict.console_pod import state_in
from harness.verdict.feed import ConsoleLine, ContainerState, Happening, ShellAnswer

# How printk stamps a line: seconds of the guest's own clock.
_STAMP = re.compile(r"^\[ *(\d+\.\d{6})\] ")


@dataclass(frozen=True)
class Milestone:
    """A point that every good boot passes: its name, what shows that it was passed, and its budget.

    `within` is in seconds from QEMU's start on the reference host (2 cores, TCG); other hosts' slowness scales it.
    """

    name: str
    passed: Callable[[Happening], bool]
    within: float


@dataclass(frozen=True)
class Passed:
    """A milestone that was passed, `after` seconds after QEMU's start.

    `frozen`: it was passed by the node that this one was cloned from, in seconds from that one's start.
    """

    name: str
    after: float
    frozen: bool = False


def line_matching(pattern: str) -> Callable[[Happening], bool]:
    """Recognises a line on the serial port."""
    compiled = re.compile(pattern)
    return lambda happening: isinstance(happening, ConsoleLine) and bool(compiled.search(happening.text))


def container_done(pod: str, container: str) -> Callable[[Happening], bool]:
    """Recognises a container that did its work: it ended with status 0, as the kubelet or the console pod says."""

    def done(happening: Happening) -> bool:
        state = state_in(happening)
        return state is not None and (state.pod, state.container, state.exit_code) == (pod, container, 0)

    return done


def container_running(pod: str, container: str) -> Callable[[Happening], bool]:
    """Recognises a container that runs, as the kubelet says."""
    return lambda happening: (
        isinstance(happening, ContainerState)
        and (happening.pod, happening.container, happening.state) == (pod, container, "running")
    )


def container_started(pod: str, container: str) -> Callable[[Happening], bool]:
    """Recognises a container that runs or has done its work already."""
    runs, did = container_running(pod, container), container_done(pod, container)
    return lambda happening: runs(happening) or did(happening)


FIRMWARE = Milestone("firmware", line_matching(r"BdsDxe: (loading|starting) Boot"), 60)
KERNEL = Milestone("kernel", line_matching(r"^\[ +0\.000000\] "), 90)
INIT = Milestone("init", line_matching(r"Run /init as init process"), 120)
CRIO = Milestone("crio", line_matching(r"kiOS: .*crio answers"), 180)
KUBELET = Milestone("kubelet", line_matching(r"kiOS: starting kubelet"), 180)
# The first that is heard of the kubelet's API: from then on the node is on the network.
API = Milestone("kubelet-api", lambda happening: isinstance(happening, ContainerState), 240)
# Passed when somebody first asks: no part of what every boot is waited for.
SHELL = Milestone("shell", lambda happening: isinstance(happening, ShellAnswer), 180)
# Told by the harness's console pod as it starts.
CONSOLE_GREETING = "kios-e2e: the console is open"
CONSOLE = Milestone("console", line_matching(f"^{CONSOLE_GREETING}"), 180)
BOOT = (FIRMWARE, KERNEL, INIT, CRIO, KUBELET)


def passed(milestones: Iterable[Milestone], happenings: Sequence[Happening], start: float) -> list[Passed]:
    """Returns the milestones passed so far in the order of time, each once, in seconds from `start`.

    A line of the kernel's counts from when the kernel stamped it: one written without a line end is printed with the next.
    A container's state counts from when it was heard of.
    """
    booted = _guest_clock_started(happenings)
    open_ones = list(milestones)
    found = []
    for happening in happenings:
        for milestone in [m for m in open_ones if m.passed(happening)]:
            open_ones.remove(milestone)
            stamp = _stamp_of(happening)
            at = happening.at if stamp is None else min(happening.at, booted + stamp)
            found.append(Passed(milestone.name, at - start))
    return sorted(found, key=lambda entry: entry.after)


def _guest_clock_started(happenings: Iterable[Happening]) -> float:
    """When the kernel's clock was zero: no line can be heard before its stamp, and the least late one tells."""
    differences = [happening.at - stamp for happening in happenings if (stamp := _stamp_of(happening)) is not None]
    return min(differences, default=0.0)


def _stamp_of(happening: Happening) -> float | None:
    match = _STAMP.match(happening.text) if isinstance(happening, ConsoleLine) else None
    return float(match[1]) if match else None
