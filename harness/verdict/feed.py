"""Everything that is heard of one node, in the order in which it was heard.

The parts of a node publish here from threads of their own; whoever waits listens to this one place, so that no wait can
miss the end of QEMU while it looks at the console.
"""

import threading
import time
from collections.abc import Iterable
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
class QemuExit:
    """QEMU's process ended: its exit status (negative: the signal that killed it) and what it wrote to stderr."""

    status: int
    words: str
    at: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class ContainerState:
    """What the kubelet says of a container: `running`, `waiting` or `terminated`, with the reason it gives.

    `started` and `finished` are seconds of the epoch, by the node's clock.
    """

    pod: str
    container: str
    state: str
    reason: str = ""
    exit_code: int | None = None
    started: float | None = None
    finished: float | None = None
    namespace: str = "default"
    at: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class Restored:
    """The node went on from a frozen one: the milestones that that one had passed."""

    milestones: tuple[str, ...]
    at: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class ShellAnswer:
    """The shell on the serial port answered."""

    at: float = field(default_factory=time.monotonic)


Happening = ConsoleLine | QmpEvent | QemuExit | ContainerState | Restored | ShellAnswer


class Feed:
    """Happenings in order, published from any thread; they stay, so that a later look still finds an earlier one."""

    def __init__(self) -> None:
        self._happenings: list[Happening] = []
        self._changed = threading.Condition()

    def publish(self, happening: Happening) -> None:
        """Adds a happening and wakes everybody who waits for one."""
        with self._changed:
            self._happenings.append(happening)
            self._changed.notify_all()

    def publish_all(self, happenings: Iterable[Happening]) -> None:
        """Adds happenings in order under one lock, for those who have many at once, and wakes everybody who waits."""
        with self._changed:
            self._happenings.extend(happenings)
            self._changed.notify_all()

    def since(self, position: int) -> list[Happening]:
        """Returns the happenings from `position` on (0: all of them); never blocks."""
        with self._changed:
            return self._happenings[position:]

    def position(self) -> int:
        """Returns how many happenings there are, which is the position of the next."""
        with self._changed:
            return len(self._happenings)

    def wait_beyond(self, position: int, timeout: float) -> bool:
        """Blocks until there is a happening at `position` or `timeout` seconds are over; says whether there is one."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self._happenings) > position, timeout=max(0.0, timeout))

    def position_of(self, happening: Happening) -> int:
        """Returns the position of a happening that was published."""
        with self._changed:
            return self._happenings.index(happening)
