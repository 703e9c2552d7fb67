"""Everything that is heard of one node, in the order in which it was heard.

The parts of a node publish here from threads of their own; whoever waits listens to this one place, so that no wait can
miss the end of QEMU while it looks at the console.
"""

import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice


@dataclass(frozen=True)
class ConsoleLine:
    """One line on the serial port, without its line end and escape sequences."""

    text: str
    at: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class QmpEvent:
    """An event of QEMU's machine protocol, as `SHUTDOWN` with `{"guest": True, "reason": "guest-shutdown"}`."""

    name: str
    data: dict[str, object] = field(default_factory=dict)
    at: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class QemuExit:
    """QEMU's process ended: its exit status (negative: the signal that killed it) and what it wrote to stderr."""

    status: int
    words: str
    at: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class ContainerState:
    """What the kubelet says of a container: `running`, `waiting` or `terminated`, with the reason it gives.

    `started` and `finished` are seconds of the epoch, by the node's clock; `restarts` is how often it was started again.
    """

    pod: str
    container: str
    state: str
    reason: str = ""
    exit_code: int | None = None
    started: float | None = None
    finished: float | None = None
    namespace: str = "default"
    restarts: int | None = None
    at: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class PodState:
    """What the kubelet says of a pod as a whole: its phase, and why it is so if it says; `Failed` with a reason is final."""

    pod: str
    phase: str
    reason: str = ""
    namespace: str = "default"
    at: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class Restored:
    """The node went on from a frozen one: the milestones that that one had passed."""

    milestones: tuple[str, ...]
    at: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class ConsolePodOpen:
    """The harness's console pod takes commands on a serial port: `ttyS1`, or `ttyS0` where there is no other."""

    port: str
    at: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class ShellAnswer:
    """A first command was answered."""

    at: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class DiskFull:
    """A disk of this host's that the node writes to has no space left: the folder on it."""

    folder: str
    at: float = field(default_factory=time.monotonic)


Happening = ConsoleLine | QmpEvent | QemuExit | ContainerState | PodState | Restored | ConsolePodOpen | ShellAnswer | DiskFull


# A console can write without end: of what tells nothing, only so many of the last happenings are kept.
_MOST = 100_000
_MOST_TOLD = 10_000
_MOST_CHARACTERS = 16 << 20


class Feed:
    """Happenings in order, published from any thread; they stay, so that a later look still finds an earlier one.

    Of a console that floods, lines go again, the oldest first, unless `tells` says that they tell something.
    """

    def __init__(self, tells: Callable[[str], bool] = lambda _: False) -> None:
        self._tells = tells
        self._told: list[tuple[int, Happening]] = []
        self._recent: list[Happening] = []
        self._first = 0
        self._characters = 0
        self._changed = threading.Condition()

    def publish(self, happening: Happening) -> None:
        """Adds a happening and wakes everybody who waits for one."""
        self.publish_all([happening])

    def publish_all(self, happenings: Iterable[Happening]) -> None:
        """Adds happenings in order under one lock, for those who have many at once, and wakes everybody who waits."""
        with self._changed:
            before = len(self._recent)
            self._recent.extend(happenings)
            self._characters += sum(len(new.text) for new in self._recent[before:] if isinstance(new, ConsoleLine))
            if len(self._recent) > _MOST or self._characters > _MOST_CHARACTERS:
                self._forget()
            self._changed.notify_all()

    def since(self, position: int) -> list[Happening]:
        """Returns the happenings from `position` on (0: all that are left); never blocks."""
        return self.read(position)[0]

    def read(self, position: int) -> tuple[list[Happening], int]:
        """Returns the happenings from `position` on, and the position behind them; never blocks."""
        with self._changed:
            end = self._first + len(self._recent)
            if position >= self._first:
                return self._recent[position - self._first :], end
            told = self._told[bisect_left(self._told, position, key=lambda entry: entry[0]) :]
            return [*(happening for _, happening in told), *self._recent], end

    def position(self) -> int:
        """Returns how many happenings there were, which is the position of the next."""
        with self._changed:
            return self._first + len(self._recent)

    def wait_beyond(self, position: int, timeout: float) -> bool:
        """Blocks until there is a happening at `position` or `timeout` seconds are over; says whether there is one."""
        with self._changed:
            return self._changed.wait_for(lambda: self._first + len(self._recent) > position, timeout=max(0.0, timeout))

    def last_lines(self, count: int) -> list[str]:
        """Returns the last lines on the console that are not empty."""
        with self._changed:
            lines = (entry.text for entry in reversed(self._recent) if isinstance(entry, ConsoleLine) and entry.text.strip())
            return list(islice(lines, count))[::-1]

    def _forget(self) -> None:
        """Lets the older half go, but for what tells something; a flood of that is cut in its middle."""
        half = len(self._recent) // 2
        for number, happening in enumerate(self._recent[:half]):
            if not isinstance(happening, ConsoleLine) or self._tells(happening.text):
                self._told.append((self._first + number, happening))
        if len(self._told) > _MOST_TOLD:
            del self._told[_MOST_TOLD // 2 : -_MOST_TOLD // 2]
        del self._recent[:half]
        self._first += half
        self._characters = sum(len(left.text) for left in self._recent if isinstance(left, ConsoleLine))
