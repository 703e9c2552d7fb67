"""Everything that is heard of one node, in the order in which it was heard.

The parts of a node publish here from threads of their own; whoever waits listens to this one place, so that no wait can
miss the end of QEMU while it looks at the console.
"""

import sys
import threading
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field


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
class QemuStopped:
    """QEMU's process was stopped by a signal, as by a debugger or SIGSTOP: neither the guest nor QMP answers."""

    at: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class QemuContinued:
    """A QEMU that was stopped by a signal goes on."""

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

    `started` and `finished` are seconds of the epoch, by the node's clock; `restarts` is how often it was started again, None
    where it is not the kubelet who says all this; `last_end` is the exit status of the run before, with its reason.
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
    last_end: tuple[int, str] | None = None
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
class KubeletRefusal:
    """The kubelet has answered the harness with nothing but a refusal, for so long that it will not answer otherwise."""

    words: str
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


Happening = (
    ConsoleLine
    | QmpEvent
    | QemuStopped
    | QemuContinued
    | QemuExit
    | ContainerState
    | PodState
    | KubeletRefusal
    | Restored
    | ConsolePodOpen
    | ShellAnswer
    | DiskFull
)


# A console can write without end: of what tells nothing, only so much of the last is kept.
_MOST_ENTRIES = 100_000
_MOST_BYTES = 32 << 20
_MOST_TOLD = 10_000


@dataclass(frozen=True)
class ConsoleText:
    """`count` whole lines that the serial port brought at once, without the last one's line end.

    Most of what a node says is of no interest to anybody: it is searched as one text, and made into lines where it is.
    """

    text: str
    count: int
    at: float

    def lines(self) -> list[ConsoleLine]:
        """Each line by itself."""
        return [ConsoleLine(line, self.at) for line in self.text.split("\n")]

    def behind(self, count: int) -> "ConsoleText":
        """What is left without the first lines."""
        return ConsoleText(self.text.split("\n", count)[count], self.count - count, self.at)


Entry = Happening | ConsoleText


class Feed:
    """Happenings in order, published from any thread; they stay, so that a later look still finds an earlier one.

    Of a console that floods, lines go again, the oldest first, unless `tells` says that they tell something; it is asked of
    one line or of many at once.
    """

    def __init__(self, tells: Callable[[str], bool] = lambda _: False) -> None:
        self._tells = tells
        self._told: list[tuple[int, Happening]] = []
        # The position of each entry, which for a text is that of its first line.
        self._positions: list[int] = []
        self._entries: list[Entry] = []
        self._end = 0
        self._bytes = 0
        self._changed = threading.Condition()

    def publish(self, happening: Happening) -> None:
        """Adds a happening and wakes everybody who waits for one."""
        self.publish_all([happening])

    def publish_all(self, happenings: Iterable[Happening]) -> None:
        """Adds happenings in order under one lock, for those who have many at once, and wakes everybody who waits."""
        with self._changed:
            for happening in happenings:
                self._add(happening, 1)
            self._changed.notify_all()

    def publish_text(self, text: str, at: float) -> None:
        """Adds whole lines of the console's, without the last one's line end, and wakes everybody who waits."""
        count = text.count("\n") + 1
        with self._changed:
            self._add(ConsoleText(text, count, at), count)
            self._changed.notify_all()

    def since(self, position: int) -> list[Happening]:
        """Returns the happenings from `position` on (0: all that are left); never blocks."""
        return self.read(position)[0]

    def read(self, position: int) -> tuple[list[Happening], int]:
        """Returns the happenings from `position` on, each line by itself, and the position behind them; never blocks."""
        entries, end = self.entries(position)
        happenings: list[Happening] = []
        for _, entry in entries:
            happenings += entry.lines() if isinstance(entry, ConsoleText) else [entry]
        return happenings, end

    def entries(self, position: int) -> tuple[list[tuple[int, Entry]], int]:
        """Returns what `read` does, with the position of each, and the lines that came at once as one text."""
        with self._changed:
            told = self._told[bisect_left(self._told, position, key=lambda entry: entry[0]) :]
            first = max(0, bisect_right(self._positions, position) - 1)
            found: list[tuple[int, Entry]] = [*told, *zip(self._positions[first:], self._entries[first:], strict=True)]
            if found and found[0][0] < position:
                at, entry = found.pop(0)
                if isinstance(entry, ConsoleText) and at + entry.count > position:
                    found.insert(0, (position, entry.behind(position - at)))
            return found, self._end

    def position(self) -> int:
        """Returns how many happenings there were, which is the position of the next."""
        with self._changed:
            return self._end

    def wait_beyond(self, position: int, timeout: float) -> bool:
        """Blocks until there is a happening at `position` or `timeout` seconds are over; says whether there is one."""
        with self._changed:
            return self._changed.wait_for(lambda: self._end > position, timeout=max(0.0, timeout))

    def last_lines(self, count: int) -> list[str]:
        """Returns the last lines on the console that are not empty."""
        found: list[str] = []
        with self._changed:
            for entry in reversed(self._entries):
                if isinstance(entry, ConsoleText | ConsoleLine):
                    found += [line for line in reversed(entry.text.split("\n")) if line.strip()]
                if len(found) >= count:
                    break
        return found[:count][::-1]

    def last_spoken(self) -> float | None:
        """When the console said something last, as `time.monotonic`; None if it never did."""
        with self._changed:
            return next((each.at for each in reversed(self._entries) if isinstance(each, ConsoleText | ConsoleLine)), None)

    def _add(self, entry: Entry, count: int) -> None:
        self._positions.append(self._end)
        self._entries.append(entry)
        self._end += count
        self._bytes += _size_of(entry)
        if len(self._entries) > _MOST_ENTRIES or self._bytes > _MOST_BYTES:
            self._forget()

    def _forget(self) -> None:
        """Lets the older half go, but for what tells something; a flood of that is cut in its middle."""
        half = 0
        left, entries = self._bytes, len(self._entries)
        while half < entries - 1 and (left > _MOST_BYTES // 2 or entries - half > _MOST_ENTRIES // 2):
            entry, position = self._entries[half], self._positions[half]
            left -= _size_of(entry)
            half += 1
            if not isinstance(entry, ConsoleText | ConsoleLine):
                self._told.append((position, entry))
            elif self._tells(entry.text):
                lines = entry.lines() if isinstance(entry, ConsoleText) else [entry]
                self._told += [(position + number, line) for number, line in enumerate(lines) if self._tells(line.text)]
        if len(self._told) > _MOST_TOLD:
            del self._told[_MOST_TOLD // 2 : -_MOST_TOLD // 2]
        del self._entries[:half], self._positions[:half]
        self._bytes = left


def _size_of(entry: Entry) -> int:
    return sys.getsizeof(entry.text) if isinstance(entry, ConsoleText | ConsoleLine) else 0
