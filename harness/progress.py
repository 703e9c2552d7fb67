"""What a user sees while a run takes its time: each stage of a boot, and what is being waited for."""

import contextlib
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from harness.escape import shown
from harness.verdict.timeline import Passed

_LOOK_SECONDS = 1.0
# A boot that is silent for so long looks as if it hung.
_QUIET_SECONDS = 20.0
# As `Progress` writes it: a test, a node of its, and how far that is.
_LINE = re.compile(r"^kios-e2e: (.+?): ((?:node|template)[\w-]*: .+)$", re.MULTILINE)


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
    """What was reported of one node: how many milestones, and when last."""

    milestones: int
    at: float


class Progress:
    """Reports how the nodes of the running test are doing: each milestone, or a line after 20 s of silence."""

    def __init__(self, write: Callable[[str], None], say_milestones: Callable[[], bool]) -> None:
        """`write` takes a line; `say_milestones` says whether each milestone gets one."""
        self._write, self._say_milestones = write, say_milestones
        self._on_own_line = False

    def say(self, words: str) -> None:
        """Writes a line at once."""
        # pytest has begun a line, with the test's name or the dots of others.
        self._write(("" if self._on_own_line else "\n") + f"kios-e2e: {shown(words)}")
        self._on_own_line = True

    @contextlib.contextmanager
    def watching(self, test: str, nodes: Sequence[Watched]) -> Iterator[None]:
        """Watches a test's nodes until the block ends; more may be added meanwhile."""
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


def last_words(output: str) -> Mapping[str, str]:
    """What a run's output says last of each test's nodes, as `{"test_it": "node-1: kernel after 4 s"}`."""
    return dict(_LINE.findall(output))


def to_terminal() -> Callable[[str], None]:
    """Returns a function that writes a line to what stderr is now, whatever pytest replaces it with later."""
    terminal = os.dup(2)

    def write(line: str) -> None:
        with contextlib.suppress(OSError):
            os.write(terminal, f"{line}\n".encode(errors="replace"))

    return write
