"""Space on the disks to which a run writes: checked beforehand, and named if a write fails for lack of it."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from harness.errors import HarnessError

_REFUSALS = (errno.ENOSPC, errno.EDQUOT)
_WORDS = tuple(map(os.strerror, _REFUSALS))
# QEMU's unit of allocation for a disk.
_FULL = 64 << 10
_CURE = "make room, or name another folder: TMPDIR for the run's own, --artifacts, --image-cache"


def free(folder: Path) -> int:
    """The bytes that this user may still write to the disk of a folder."""
    status = os.statvfs(folder)
    return status.f_frsize * (status.f_bfree if os.geteuid() == 0 else status.f_bavail)


def check(folder: Path, wanted: int, what: str) -> None:
    """Raises HarnessError if fewer than `wanted` bytes are free in a folder; `what` names what needs them."""
    if (left := free(folder)) < wanted:
        raise HarnessError(f"{what} takes {wanted >> 20} MiB in {folder}, and {left >> 20} MiB are free there: {_CURE}.")


def is_full(folder: Path) -> bool:
    """Whether a node can write nothing more to a folder."""
    try:
        return free(folder) < _FULL
    except OSError:
        return False


def is_lacking(failure: BaseException) -> bool:
    """Whether an error says that a disk is full."""
    return isinstance(failure, OSError) and failure.errno in _REFUSALS


@contextlib.contextmanager
def named(folder: Path) -> Iterator[None]:
    """Raises HarnessError with the name of the folder if the block fails for lack of space in it."""
    try:
        yield
    except (OSError, HarnessError) as failed:
        said = isinstance(failed, HarnessError) and any(words in str(failed) for words in _WORDS)
        if not (said or is_lacking(failed)):
            raise
        raise HarnessError(f"No space is left in {folder}: {_CURE}.") from failed
