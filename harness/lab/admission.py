"""How many nodes run at once on this host: as many as its memory and CPUs allow, whoever starts them.

Each running node has a file with what it needs, and each waiting one a file with its turn. A lock on the file shows that the
node lives: the kernel drops it with the process, so a killed run reserves nothing.
"""

import contextlib
import fcntl
import json
import math
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from harness import space, told
from harness.errors import HarnessError, InputError

_LOOK_AGAIN_SECONDS = 0.2
# A longer silent wait looks as if it hung.
_QUIET_SECONDS = 5.0
# Measured: QEMU's own memory, without the guest's.
QEMU_ITSELF = 400 << 20


@dataclass(frozen=True)
class Need:
    """What a node takes: bytes of memory, and CPUs."""

    memory: int
    cpus: float


@dataclass(frozen=True)
class _Reserved(Need):
    """What a running node takes, and which process runs it."""

    pid: int


def _silently(words: str) -> None:
    """Reports nothing."""


class Admission:
    """The gate through which every node goes; all processes with the same folder share it."""

    def __init__(self, folder: Path, limit: Need, say: Callable[[str], None] = _silently) -> None:
        """`say` is called if a wait takes more than some seconds. Raises OSError if the folder cannot be written."""
        self._folder, self._limit, self._say = folder, limit, say
        with self._gate():
            self._living()

    @contextlib.contextmanager
    def reserve(self, need: Need, within: float) -> Iterator[Callable[[float], None]]:
        """Waits for room beside the running nodes, and reserves it; yields a function that changes the reserved CPUs.

        A node is always let in if all others belong to this process, because none of them could end while it waits.

        Raises HarnessError if there is no room within so many seconds, or the disk is full; InputError if there can never be.
        """
        if not self.can_ever(need):
            raise InputError(
                f"A node that takes {_gib(need.memory)} of memory never fits here: "
                f"nodes may take {_gib(self._limit.memory)} in all. Give it less memory."
            )
        mine = self._folder / f"{uuid.uuid4().hex}.need"
        with self._wait(mine, need, within) as file:

            def keep(cpus: float) -> None:
                with self._gate():
                    _write(file, Need(need.memory, cpus))

            try:
                yield keep
            finally:
                mine.unlink(missing_ok=True)

    def can_ever(self, need: Need) -> bool:
        """Whether a node fits if no other runs. One that wants more CPUs than there are is only slow."""
        return need.memory <= self._limit.memory

    def _wait(self, mine: Path, need: Need, within: float) -> IO[str]:
        began, pause = time.monotonic(), threading.Event()
        quiet_until = began + _QUIET_SECONDS
        # Its name is its place in the queue: the clock is the same for all processes.
        turn = self._folder / f"{int(began * 1e9):020}-{uuid.uuid4().hex}.turn"
        with contextlib.ExitStack() as waiting:
            with self._gate():
                fcntl.flock(waiting.enter_context(turn.open("x")), fcntl.LOCK_EX)
            waiting.callback(turn.unlink, missing_ok=True)
            while True:
                with self._gate():
                    living = self._living()
                    if self._fits(living, need) and not self._must_queue(living, turn):
                        return _write_locked(mine, need)
                if time.monotonic() >= quiet_until:
                    self._say(self._what_lacks(living, need))
                    quiet_until = math.inf
                if time.monotonic() >= began + within:
                    raise HarnessError(
                        f"Other nodes leave no room for one more on this host; none ended within {within:.0f} s."
                    )
                pause.wait(_LOOK_AGAIN_SECONDS)

    def _must_queue(self, living: list[_Reserved], turn: Path) -> bool:
        """Whether another node has waited longer; without a queue, a large node would never be let in between small ones.

        A process that already runs a node goes ahead, because the node before it may wait for that node's end.
        """
        if any(held.pid == os.getpid() for held in living):
            return False
        return any(other.name < turn.name for other in self._folder.glob("*.turn") if _is_locked(other))

    @contextlib.contextmanager
    def _gate(self) -> Iterator[None]:
        """Excludes all others from reading and changing the needs meanwhile."""
        # Somebody may have emptied the cache in the middle of a run.
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "gate").open("w") as gate:
            fcntl.flock(gate, fcntl.LOCK_EX)
            yield

    def _fits(self, living: list[_Reserved], need: Need) -> bool:
        memory = need.memory + sum(held.memory for held in living)
        cpus = min(need.cpus, self._limit.cpus) + sum(held.cpus for held in living)
        foreign = any(held.pid != os.getpid() for held in living)
        return not foreign or (memory <= self._limit.memory and cpus <= self._limit.cpus)

    def _what_lacks(self, living: list[_Reserved], need: Need) -> str:
        memory, cpus = (
            self._limit.memory - sum(held.memory for held in living),
            self._limit.cpus - sum(held.cpus for held in living),
        )
        wanted = f"{_gib(need.memory)} of memory and {need.cpus:.1f} CPUs"
        free = f"{_gib(max(memory, 0))} and {max(cpus, 0):.1f}"
        others = ", ".join(sorted({str(held.pid) for held in living if held.pid != os.getpid()}))
        return f"a node waits for {wanted}: {free} are free beside the nodes of process {others}"

    def _living(self) -> list[_Reserved]:
        """The needs of living nodes; the files of dead ones are removed."""
        needs = []
        for file in self._folder.glob("*.need"):
            if _is_locked(file):
                # What another version of the harness wrote may tell nothing here.
                with contextlib.suppress(FileNotFoundError, ValueError):
                    needs.append(told.value(_Reserved, json.loads(file.read_text())))
        return needs


def _gib(memory: int) -> str:
    return f"{memory / (1 << 30):.1f} GiB"


def _is_locked(file: Path) -> bool:
    """Whether the process that made a file lives; the file of a dead one is removed. The caller must hold the gate."""
    with contextlib.suppress(FileNotFoundError), file.open() as content:
        try:
            fcntl.flock(content, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        file.unlink(missing_ok=True)
    return False


def _write_locked(mine: Path, need: Need) -> IO[str]:
    """Makes a locked file with a need. The caller must hold the gate."""
    file = mine.open("x")
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        with space.named(mine.parent):
            _write(file, need)
    except BaseException:
        mine.unlink(missing_ok=True)
        file.close()
        raise
    return file


def _write(file: IO[str], need: Need) -> None:
    """Writes a need; a full disk leaves the one before."""
    content = json.dumps(asdict(_Reserved(need.memory, need.cpus, os.getpid()))).encode()
    os.pwrite(file.fileno(), content, 0)
    os.ftruncate(file.fileno(), len(content))
