"""The one wait: it listens to everything at once and ends with exactly one outcome, the first that is true."""

import re
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.verdict.console_pod import state_in
from harness.verdict.feed import ConsoleLine, ContainerState, Feed, Happening, QemuExit, QmpEvent

_WORST_WAITING = frozenset(
    {
        "CrashLoopBackOff",
        "CreateContainerConfigError",
        "CreateContainerError",
        "ErrImageNeverPull",
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "RunContainerError",
    }
)
# Words after which a guest does not come back to what it was doing. Every line of a chatty node is held against these: an
# alternative that begins with a letter costs a fifth of one that begins with an assertion, so what must not stand before
# a word is asserted behind it.
_FATAL = re.compile(
    r"Kernel panic - not syncing|Oops: (?<!\wOops: )|BUG: (?:unable to handle|soft lockup)|Unable to mount root|"
    r"Out of memory: Killed process|kiOS: cannot mount the data partition"
)
_NO_SYSTEM = re.compile(
    r"UEFI Interactive Shell|Shell>(?<!.Shell>) ?$|BdsDxe: No bootable option|BdsDxe: failed to load Boot0000"
)
# What init says as it starts a daemon, and how often in how many seconds it does so of one that cannot run: it starts it
# again after a second, for ever. A scenario that restarts daemons does it far more seldom.
_STARTING = re.compile(r"kiOS: starting (\S+)")
_STARTS, _STARTS_WITHIN = 5, 60.0

# Most lines tell nothing of all this: one search says so. The last are the console pod's (harness.verdict.console_pod).
_TELLING = re.compile("|".join([_FATAL.pattern, _NO_SYSTEM.pattern, _STARTING.pattern, "kios-e2e: container "]))


@dataclass(frozen=True)
class Met:
    """What was waited for happened."""

    happening: Happening


@dataclass(frozen=True)
class Contradicted:
    """Something happened after which it cannot: a failed container, a line that says so."""

    by: str


@dataclass(frozen=True)
class GuestDied:
    """The guest panicked, reset, stopped or switched itself off."""

    how: str


@dataclass(frozen=True)
class QemuDied:
    """QEMU's process ended with nobody asking for it."""

    status: int
    words: str


@dataclass(frozen=True)
class Stalled:
    """Nothing was heard from the node for `silent` seconds."""

    silent: float


@dataclass(frozen=True)
class TooLate:
    """The time was over, with the node still talking."""

    within: float


Outcome = Met | Contradicted | GuestDied | QemuDied | Stalled | TooLate


@dataclass(frozen=True)
class Patience:
    """How long to wait: `within` seconds in all, and at most `silence` seconds without hearing anything."""

    within: float
    silence: float


def wait(
    feed: Feed, goal: Callable[[Happening], bool], patience: Patience, *, start: int = 0, doomed: Sequence[str] = ()
) -> Outcome:
    """Waits until the goal is met by a happening at or behind position `start`, or can no longer be.

    `doomed` are the names of pods on which the goal depends: a container of theirs that cannot run ends the wait. What
    happened before the wait and dooms it counts too.
    """
    began = heard = time.monotonic()
    deadline = began + patience.within
    position = start
    restarts = _Restarts()
    while True:
        for happening in feed.since(position):
            position += 1
            heard = max(heard, happening.at)
            if goal(happening):
                return Met(happening)
            if isinstance(happening, ConsoleLine) and not _TELLING.search(happening.text):
                continue
            verdict = _verdict_on(happening, doomed) or restarts.verdict_on(happening)
            if verdict is not None:
                return verdict
        now = time.monotonic()
        if now >= deadline:
            return TooLate(patience.within)
        if now - heard >= patience.silence:
            return Stalled(now - heard)
        feed.wait_beyond(position, min(deadline, heard + patience.silence) - now)


def explain(outcome: Outcome, what: str, feed: Feed, reached: Sequence[str]) -> str:
    """Puts an outcome that was not hoped for into words: what, why, how far the node got and its last words."""
    lines = [happening.text for happening in feed.since(0) if isinstance(happening, ConsoleLine) and happening.text.strip()]
    stage = f"reached: {', '.join(reached)}" if reached else "reached: nothing, not even the firmware's first words"
    return "\n".join(
        [f"{what}: {_cause(outcome)}", stage, "last words on the console:", *(f"  | {line}" for line in lines[-8:])]
    )


def _cause(outcome: Outcome) -> str:
    match outcome:
        case Met():
            return "it happened"
        case Contradicted(by):
            return f"it cannot happen any more: {by}"
        case GuestDied(how):
            return f"the guest died: {how}"
        case QemuDied(status, words):
            return f"QEMU died with status {status}: {words.strip() or 'without a word'}"
        case Stalled(silent):
            return f"nothing was heard from the node for {silent:.0f} s"
        case TooLate(within):
            return f"it did not happen within {within:.0f} s"


def _verdict_on(happening: Happening, doomed: Sequence[str]) -> Outcome | None:
    match happening:
        case ConsoleLine(text=text) if _FATAL.search(text):
            return GuestDied(text.strip())
        case ConsoleLine(text=text) if _NO_SYSTEM.search(text):
            return GuestDied(f"the firmware found nothing to boot: {text.strip()}")
        case QmpEvent(name="SHUTDOWN", data=data):
            return GuestDied(f"the machine was switched off ({data.get('reason', 'no reason given')})")
        case QmpEvent(name="RESET", data=data) if data.get("guest"):
            return GuestDied(f"the machine was reset ({data.get('reason', 'no reason given')})")
        case QmpEvent(name="GUEST_PANICKED"):
            return GuestDied("the guest reported a panic")
        case QmpEvent(name="STOP"):
            return GuestDied("its CPUs were stopped: an internal error of the accelerator, or somebody paused it")
        case QemuExit(status=status, words=words):
            return QemuDied(status, words)
    state = state_in(happening)
    return _verdict_on_container(state) if state and state.pod in doomed else None


class _Restarts:
    """The starts of each daemon, as far as one wait has heard of them."""

    def __init__(self) -> None:
        self._starts: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_STARTS))

    def verdict_on(self, happening: Happening) -> Outcome | None:
        """That a daemon ends as soon as init has started it, if this is the start that shows it."""
        starting = _STARTING.search(happening.text) if isinstance(happening, ConsoleLine) else None
        if starting is None:
            return None
        daemon, starts = starting[1], self._starts[starting[1]]
        starts.append(happening.at)
        if len(starts) < _STARTS or starts[-1] - starts[0] > _STARTS_WITHIN:
            return None
        return Contradicted(
            f"init started {daemon} {_STARTS} times within {starts[-1] - starts[0]:.0f} s: it ends at once, as with a "
            "configuration or an argument that it refuses"
        )


def _verdict_on_container(state: ContainerState) -> Outcome | None:
    if state.state == "terminated" and state.exit_code:
        return Contradicted(
            f"container {state.container} of pod {state.pod} ended with status {state.exit_code}: {state.reason}"
        )
    if state.state == "waiting" and state.reason.partition(":")[0] in _WORST_WAITING:
        return Contradicted(f"container {state.container} of pod {state.pod} cannot run: {state.reason}")
    return None
