"""The folders of artifacts: one for each run, and in it one for each test."""

import fcntl
import hashlib
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from harness.errors import HarnessError, InputError, is_shortage

# A name has at most 255 bytes (limits.h, NAME_MAX); a digest and a number may follow.
_NAME_BYTES = 200
_MOST_RUNS = 100
_LOCK = ".lock"


@dataclass(frozen=True)
class OneTest:
    """A test, by its file and its name with all parameters."""

    file: Path
    name: str

    @property
    def place(self) -> str:
        """Its folder, unless another test has the same one: the file's stem, and the name with dashes."""
        return f"{_safe(self.file.stem)}/{_safe(self.name)}"


@contextmanager
def taken(wanted: Path, run: str) -> Iterator[Path]:
    """Yields the folder for a run's artifacts: `wanted`, or `wanted-2` and so on while other runs write to those before it.

    All processes that give the same `run` get the same folder. Raises InputError if the folder cannot be written,
    HarnessError if its disk is full.
    """
    for number in range(1, _MOST_RUNS):
        root = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
        try:
            root.mkdir(parents=True, exist_ok=True)
            lock = (root / _LOCK).open("a+")
        except OSError as refused:
            raise _refused(root, refused) from refused
        with lock:
            try:
                ours = _is_ours(lock, run)
            except OSError as refused:
                raise _refused(root, refused) from refused
            if ours:
                yield root
                return
    raise InputError(f"{_MOST_RUNS} runs write their artifacts beside {wanted}: name another with --artifacts DIR.")


def is_free(root: Path) -> bool:
    """Whether no run is writing its artifacts to a folder."""
    if not (root / _LOCK).exists():
        return True
    with (root / _LOCK).open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def emptied(root: Path, test: OneTest, all_tests: Sequence[OneTest]) -> Path:
    """The folder of one of the run's tests, emptied of what an earlier run left in it.

    Raises as `taken`.
    """
    place = test.place
    if Counter(other.place for other in set(all_tests))[place] > 1:
        place += "-" + hashlib.sha256(os.fsencode(f"{test.file}::{test.name}")).hexdigest()[:8]
    folder = root / place
    try:
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
    except OSError as refused:
        raise _refused(folder, refused) from refused
    return folder


def _is_ours(lock: IO[str], run: str) -> bool:
    """Whether the folder of the lock is this run's; then the lock is held, shared with the run's other processes."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(lock.fileno(), 0)
        # Nothing is left to be written when it is closed, which would fail again on a full disk.
        os.write(lock.fileno(), run.encode())
    except BlockingIOError:
        pass
    # Whoever holds it exclusively is about to write its run's name.
    fcntl.flock(lock, fcntl.LOCK_SH)
    lock.seek(0)
    return lock.read() == run


def _safe(words: str) -> str:
    """As a file's name."""
    name = re.sub(r"[^\w.-]+", "-", words).strip("-")
    if len(os.fsencode(name)) <= _NAME_BYTES:
        return name
    return os.fsencode(name)[:_NAME_BYTES].decode(errors="ignore") + "-" + hashlib.sha256(os.fsencode(words)).hexdigest()[:8]


def _refused(folder: Path, refused: OSError) -> HarnessError:
    words = f"Artifacts cannot be written to {folder} ({refused.strerror}): name another with --artifacts DIR."
    return HarnessError(words) if is_shortage(refused) else InputError(words)
