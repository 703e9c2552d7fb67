"""The ways in which a wait can end, and who is at fault for each."""

import signal
from collections.abc import Sequence
from dataclasses import dataclass, field

from harness.errors import HarnessError, NodeFailure, Party
from harness.escape import shown
from harness.verdict.exit_status import in_words
from harness.verdict.feed import Happening

TOO_BUSY = "the host was too busy"
"""What each failure says of which the host is to blame, because it let QEMU wait."""


@dataclass(frozen=True)
class Met:
    """What was awaited happened; `happening` is what showed it, None for a condition.

    `position` is the next position in the feed.
    """

    happening: Happening | None = None
    position: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Contradicted:
    """What was awaited can no longer happen, because of a failed container, or a line that says so.

    `container` is the namespace, pod and name of the failed container, if any; `daemon` is the one that does not stay up.
    """

    by: str
    container: tuple[str, str, str] | None = None
    daemon: str = ""


@dataclass(frozen=True)
class GuestDied:
    """The guest panicked, reset or switched itself off."""

    how: str


@dataclass(frozen=True)
class HostStopped:
    """Something on the host stopped or ended the machine: a signal, QMP, a full disk, the accelerator.

    `asks_why`: QEMU knows more, and can be asked.
    """

    how: str
    asks_why: bool = False


@dataclass(frozen=True)
class NoSpace:
    """A disk of this host is full, after which nothing that the node does proves anything."""

    folder: str


@dataclass(frozen=True)
class QemuDied:
    """QEMU's process ended without being told to."""

    status: int
    words: str


@dataclass(frozen=True)
class Stalled:
    """Nothing was heard from the node for `silent` seconds, and for `lost` more in which the host kept QEMU from running.

    The node's disk took `disk` seconds per request.
    """

    silent: float
    lost: float = 0.0
    disk: float = 0.0


@dataclass(frozen=True)
class TooLate:
    """`within` seconds were over while the node was still heard; the host kept QEMU from running for `lost` more.

    The node's disk took `disk` seconds per request.
    """

    within: float
    lost: float = 0.0
    disk: float = 0.0


Outcome = Met | Contradicted | GuestDied | HostStopped | NoSpace | QemuDied | Stalled | TooLate

# If the host kept QEMU waiting for a larger share of a wait, the wait proves nothing about the node.
_STARVED = 0.4
# Nor if a request of the disk takes longer than this: QEMU's NVMe is only as fast as the host.
_SLOW_SECONDS = 0.5


def party(outcome: Outcome) -> Party:
    """Who is at fault for an outcome other than `Met`."""
    match outcome:
        case HostStopped() | NoSpace() | QemuDied():
            return Party.HOST
        case Stalled(silent, lost, disk) if _starved(silent, lost) or disk > _SLOW_SECONDS:
            return Party.HOST
        case TooLate(within, lost, disk) if _starved(within, lost) or disk > _SLOW_SECONDS:
            return Party.HOST
        case _:
            return Party.NODE


def error(outcome: Outcome, words: str) -> HarnessError | NodeFailure:
    """The exception for an outcome, in these words; its class says who is at fault."""
    return NodeFailure(words) if party(outcome) is Party.NODE else HarnessError(words)


def cause(outcome: Outcome) -> str:
    """An outcome in words."""
    match outcome:
        case Met():
            return "it happened"
        case Contradicted(by):
            return f"it cannot happen any more: {by}"
        case GuestDied(how):
            return f"the guest died: {how}"
        case HostStopped(how):
            return f"the host ended it: {how}"
        case NoSpace(folder):
            return f"no space is left in {folder}, where the node's disk, memory or logs are written: make room there"
        case QemuDied(status, words) if status == -signal.SIGBUS:
            return f"QEMU died of SIGBUS: the file of the guest's memory has no space, or was cut off: {words.strip()}"
        case QemuDied(status, words):
            return f"QEMU died with {in_words(status)}: {words.strip() or 'without a word'}"
        case Stalled(silent):
            return f"nothing was heard from the node for {silent:.0f} s{delay(outcome)}"
        case TooLate(within):
            return f"it did not happen within {within:.0f} s{delay(outcome)}"


def delay(outcome: Outcome) -> str:
    """What the host did to a wait that failed, in words to append to others; empty if it did nothing."""
    match outcome:
        case Stalled(seconds, lost, disk) | TooLate(seconds, lost, disk):
            return f"{_busy(seconds, lost)}{_slow(disk)}"
        case _:
            return ""


def explain(
    outcome: Outcome,
    what: str,
    last_lines: Sequence[str],
    reached: Sequence[str],
    signs: Sequence[str] = (),
    before: Sequence[str] = (),
) -> str:
    """Puts an outcome other than `Met` into words: what failed, why, how far the node got, and its last words.

    `signs` describe the node at that time; `before` is what had gone wrong by then and may be the reason.
    """
    stage = f"reached: {', '.join(reached)}" if reached else "reached: nothing, not even the firmware's first words"
    words = [f"  | {shown(line)}" for line in last_lines]
    said = "; ".join([f"{what}: {cause(outcome)}", *signs, *([f"before that: {', '.join(before)}"] if before else [])])
    return "\n".join([shown(said), stage, "last words on the console:", *words])


def _starved(seconds: float, lost: float) -> bool:
    return lost > _STARVED * (seconds + lost)


def _busy(seconds: float, lost: float) -> str:
    if not _starved(seconds, lost):
        return ""
    return f", and {TOO_BUSY}: QEMU waited {lost:.0f} s more for a CPU, or the run was stopped"


def _slow(disk: float) -> str:
    return f", and the host's disk is too slow: a request takes {disk:.1f} s" if disk > _SLOW_SECONDS else ""
