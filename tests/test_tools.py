"""Programs that are run to their end, or as far as what they write is wanted."""

import time

import pytest

from harness import tools
from harness.errors import HarnessError


def test_of_a_program_that_writes_for_ever_the_beginning_is_taken() -> None:
    assert tools.head(5, "yes") == b"y\ny\ny"


def test_what_is_shorter_comes_whole_and_its_end_counts() -> None:
    assert tools.head(100, "echo", "hello") == b"hello\n"
    with pytest.raises(HarnessError, match=r"cat failed with status 1: .*/nowhere: No such file"):
        tools.head(100, "cat", "/nowhere")
    assert tools.head(100, "cat", "/nowhere", ok=range(256)) == b""


def test_one_that_writes_nothing_ends_in_time() -> None:
    began = time.monotonic()
    with pytest.raises(HarnessError, match=r"sleep did not end in 0\.1 s"):
        tools.head(100, "sleep", "60", timeout=0.1)
    assert time.monotonic() - began < 30


def test_one_that_was_killed_is_told_so() -> None:
    with pytest.raises(HarnessError, match=r"sh was killed by signal 9, perhaps because this host has no memory left: without"):
        tools.run("sh", "-c", "kill -9 $$")
    with pytest.raises(HarnessError, match=r"sh was killed by signal 15: ended early; run it by hand"):
        tools.head(100, "sh", "-c", "echo ended early >&2; kill -15 $$")
