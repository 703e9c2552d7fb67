"""What a person sees while a run takes its time: each stage of a boot, and what a wait waits for."""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from harness.escape import shown
from harness.verdict.timeline import Passed

_LOOK_SECONDS = 1.0
# A boot that says nothing for so long looks like one that hangs.
_QUIET_SECONDS = 20.0


class Watched(Protocol):
    """A node, as far as progress is concerned."""

    @property
    def name(self) -> str: ...
    @property
    def started(self) -> float | None: ...
    def timeline(self) -> Sequence[Passed]: ...
    def awaited(self) -> Sequence[str]: ...


@dataclass
class _Seen:
    """What was said of one node: how many of its milestones, and when."""

    milestones: int
    at: float


class Progress:
    """Says how the nodes of the running test get on: all their milestones, or a line when nothing was said for 20 s."""

    def __init__(self, write: Callable[[str], None], say_milestones: Callable[[], bool]) -> None:
        """`write` takes a line; `say_milestones` says whether each milestone has one."""
        self._write, self._say_milestones = write, say_milestones
        self._on_own_line = False

    def say(self, words: str) -> None:
        """Says at once what a wait waits for."""
        # pytest has begun a line with the test's name or the dots of others.
        self._write(("" if self._on_own_line else "\n") + f"kios-e2e: {shown(words)}")
        self._on_own_line = True

    @contextlib.contextmanager
    def watching(self, test: str, nodes: Sequence[Watched]) -> Iterator[None]:
        """Watches a test's nodes, which may still grow in number, until the block ends."""
        self._on_own_line = False
        ended, seen = threading.Event(), dict[int, _Seen]()

        def watch() -> None:
            while not ended.wait(_LOOK_SECONDS):
                for node in list(nodes):
                    self._look_at(test, node, seen)

        thread = threading.Thread(target=watch, name="progress", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _look_at(self, test: str, node: Watched, seen: dict[int, _Seen]) -> None:
        now, started = time.monotonic(), node.started
        if started is None:
            return
        passed = [entry for entry in node.timeline() if not entry.frozen]
        known = seen.setdefault(id(node), _Seen(0, started))
        if self._say_milestones():
            for entry in passed[known.milestones :]:
                self.say(f"{test}: {node.name}: {entry.name} after {entry.after:.0f} s")
        if len(passed) > known.milestones:
            known.milestones, known.at = len(passed), max(known.at, now if self._say_milestones() else known.at)
        awaited = node.awaited()
        if awaited and now - known.at >= _QUIET_SECONDS:
            known.at = now
            reached = f"at {passed[-1].name}" if passed else "nothing reached yet"
            self.say(f"{test}: {node.name}: {reached}, {now - started:.0f} s since its start; next is {awaited[0]}")


def to_terminal() -> Callable[[str], None]:
    """Returns what writes a line to the terminal that stderr is now, whatever pytest puts in its place later."""
    terminal = os.dup(2)

    def write(line: str) -> None:
        with contextlib.suppress(OSError):
            os.write(terminal, f"{line}\n".encode(errors="replace"))

    return write
