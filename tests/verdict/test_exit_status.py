"""An exit status in words: what it stands for, where that has a name."""

import pytest

from harness.verdict import exit_status


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (0, "status 0"),
        (1, "status 1"),
        (125, "status 125"),
        (126, "status 126 (what it was to run cannot be run)"),
        (127, "status 127 (what it was to run is not there)"),
        (128, "status 128"),
        (137, "status 137 (SIGKILL)"),
        (139, "status 139 (SIGSEGV)"),
        (143, "status 143 (SIGTERM)"),
        (162, "status 162"),
        (255, "status 255"),
        (-9, "status -9 (SIGKILL)"),
        (-99, "status -99"),
    ],
)
def test_a_status_is_told_with_its_signal(status: int, words: str) -> None:
    assert exit_status.in_words(status) == words
