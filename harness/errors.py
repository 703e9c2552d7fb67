"""The ways in which a run can go wrong, told apart by who is at fault: the node, the host, or the test itself."""

import errno
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum


class Party(StrEnum):
    """Who is at fault for a failure."""

    NODE = "node"
    HOST = "host"
    TEST = "test"


EXIT_STATUS: Mapping[Party, int] = {Party.NODE: 1, Party.HOST: 11, Party.TEST: 12}
"""That of a run in which a party was at fault, and none that stands before it; 1 is pytest's own for tests that failed."""


class HarnessError(Exception):
    """The harness could not tell how the node does: a missing tool, a full disk, a QEMU that died. Says what to do about it."""

    party = Party.HOST


class InputError(HarnessError):
    """What the test or its user gave cannot be used: an image, a manifest, an option, a call. Says what to change."""

    party = Party.TEST


class DamagedImageError(InputError):
    """No node can be made from an image because the image is incomplete or damaged: it cannot be released."""


class NodeFailure(AssertionError):  # noqa: N818 - a verdict on the node, not an error of the harness
    """The node did not do what a kiOS user may expect of it."""

    party = Party.NODE


# A disk, a user's share of it, the size of a file, memory, and open files of a process and of the host.
_SHORTAGES = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.ENOMEM, errno.EMFILE, errno.ENFILE)
_NO_THREAD = "can't start new thread"  # CPython has no class for it.


def is_shortage(failure: BaseException) -> bool:
    """Whether an error of Python's own says that this host, or what it allows this user, has run out."""
    if isinstance(failure, OSError):
        return failure.errno in _SHORTAGES
    return isinstance(failure, MemoryError) or (isinstance(failure, RuntimeError) and _NO_THREAD in str(failure))


def words_of(failure: BaseException) -> str:
    """What an error says; its name if it says nothing, as a MemoryError."""
    return str(failure) or type(failure).__name__


@contextmanager
def fails_with(words: str) -> Iterator[None]:
    """For a block that must fail: accepts a failure of the node's with this pattern, and raises NodeFailure if there is none.

    Any other failure is passed on unchanged.
    """
    try:
        yield
    except AssertionError as failure:
        if not re.search(words, str(failure)):
            raise
    else:
        raise NodeFailure(f"the node does not fail as it should: {words}")
