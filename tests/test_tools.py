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
