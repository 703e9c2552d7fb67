"""The faults of a bad network, each as a hand on the cable."""

import random
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Self

from harness.errors import InputError
from harness.wire.cable import Onward
from harness.wire.frame import ETHERNET_HEADER, Frame, Way
from harness.wire.match import Match


class Fault(ABC):
    """Affects the frames that match, or only the `first` so many of them; `met` counts them.

    It lasts for a `with` block, or until `mend`.
    """

    def __init__(self, match: Match, first: int | None = None) -> None:
        if first is not None and first < 1:
            raise InputError(f"The first {first} frames are none: give 1 or more, or leave it out for all.")
        self._match, self._first = match, first
        self.met = 0
        # Set by whoever puts the fault on a cable.
        self.on_mend: Callable[[Fault], None] = lambda _: None

    def mend(self) -> None:
        """Ends the fault; frames that it has delayed stay delayed. Raises InputError if the match failed on a frame."""
        self.on_mend(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.mend()

    def take(self, frame: Frame, onward: Onward) -> None:
        """See `Hand`."""
        if (self._first is None or self.met < self._first) and self._match(frame):
            self.met += 1
            self.do(frame, onward)
        else:
            self.leave(frame, onward)

    @abstractmethod
    def do(self, frame: Frame, onward: Onward) -> None:
        """Handles a frame that matches."""

    def leave(self, frame: Frame, onward: Onward) -> None:
        """Handles any other frame."""
        onward(frame, 0)


class Drop(Fault):
    """Frames are lost."""

    def do(self, frame: Frame, onward: Onward) -> None:
        """Passes nothing on."""


class Lose(Fault):
    """A share of the frames, from 0 to 1, is lost; the same frames with the same seed lose the same ones."""

    def __init__(self, match: Match, share: float, seed: int) -> None:
        super().__init__(match)
        if not 0 <= share <= 1:
            raise InputError(f"No share of frames is {share}: give one from 0 to 1.")
        self._share, self._random = share, random.Random(seed)

    def do(self, frame: Frame, onward: Onward) -> None:
        if self._random.random() >= self._share:
            onward(frame, 0)


class Delay(Fault):
    """Frames are late by `seconds` and up to `jitter` seconds more, so they may overtake each other."""

    def __init__(self, match: Match, first: int | None, seconds: float, jitter: float = 0.0, seed: int = 0) -> None:
        super().__init__(match, first)
        if seconds < 0 or jitter < 0:
            raise InputError("Nothing comes before it is sent: give a delay of 0 seconds or more.")
        self._seconds, self._jitter, self._random = seconds, jitter, random.Random(seed)

    def do(self, frame: Frame, onward: Onward) -> None:
        onward(frame, self._seconds + self._random.uniform(0, self._jitter))


class Duplicate(Fault):
    """Frames come twice."""

    def do(self, frame: Frame, onward: Onward) -> None:
        onward(frame, 0)
        onward(frame, 0)


class Corrupt(Fault):
    """One bit of a frame's payload is flipped; its checksums are not changed."""

    def __init__(self, match: Match, first: int | None, seed: int) -> None:
        super().__init__(match, first)
        self._random = random.Random(seed)

    def do(self, frame: Frame, onward: Onward) -> None:
        content = bytearray(frame.content)
        if len(content) > ETHERNET_HEADER:
            content[self._random.randrange(ETHERNET_HEADER, len(content))] ^= 1 << self._random.randrange(8)
        onward(Frame(frame.way, bytes(content)), 0)


class Reorder(Fault):
    """A frame is overtaken by the next one in its direction; if none comes, it is lost."""

    def __init__(self, match: Match, first: int | None) -> None:
        super().__init__(match, first)
        self._held: dict[Way, Frame] = {}

    def do(self, frame: Frame, onward: Onward) -> None:
        """Holds the frame, or lets it overtake the held one."""
        if frame.way in self._held:
            self.leave(frame, onward)
        else:
            self._held[frame.way] = frame

    def leave(self, frame: Frame, onward: Onward) -> None:
        """Lets the frame overtake the held one."""
        onward(frame, 0)
        if held := self._held.pop(frame.way, None):
            onward(held, 0)


class Mtu(Fault):
    """Packets longer than so many bytes are silently lost: a black hole, as if ICMP were filtered (RFC 2923, 2.1)."""

    def __init__(self, size: int) -> None:
        # The least that every link must carry (RFC 791).
        if size < 68:
            raise InputError(f"No link of IPv4 has an MTU of {size} bytes: give 68 or more.")
        super().__init__(lambda frame: len(frame.content) > ETHERNET_HEADER + size)

    def do(self, frame: Frame, onward: Onward) -> None:
        """Passes nothing on."""
