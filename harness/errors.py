"""The ways in which a run can go wrong, told apart by who is at fault: the node, the host, or the test itself."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum


class Party(StrEnum):
    """Who a failure is put down to."""

    NODE = "node"
    HOST = "host"
    TEST = "test"


class HarnessError(Exception):
    """The harness could not tell how the node does: a missing tool, a full disk, a QEMU that died. Says what to do about it."""

    party = Party.HOST


class InputError(HarnessError):
    """What the test or its user handed in cannot be used: an image, a manifest, an option, a call. Says what to change."""

    party = Party.TEST


class DamagedImageError(InputError):
    """An image that no node can be made of, because something of it is lacking or wrong: it cannot be released."""


class NodeFailure(AssertionError):  # noqa: N818 - a verdict on the node, not an error of the harness
    """The node did not do what a kiOS user may expect of it."""

    party = Party.NODE


@contextmanager
def fails_with(words: str) -> Iterator[None]:
    """For what has to fail: lets a failure of the node's with this pattern pass, and raises NodeFailure where nothing fails.

    Any other failure stays what it is, in its own words.
    """
    try:
        yield
    except AssertionError as failure:
        if not re.search(words, str(failure)):
            raise
    else:
        raise NodeFailure(f"the node does not fail as it should: {words}")
