"""What a terminal would act on is shown as words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.escape import shown


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("plain, é, 漢", "plain, é, 漢"),
        ("two\nlines", "two\nlines"),
        ("\x1b[2J", "\\x1b[2J"),
        ("\x9b2J\x07\x08\x00\x0e", "\\x9b2J\\x07\\x08\\x00\\x0e"),
        ("a\u202eb", "a\\u202eb"),
        ("\tx\r", "\\tx\\r"),
    ],
)
def test_it_is_shown_as(text: str, safe: str) -> None:
    assert shown(text) == safe


@given(st.text())
def test_nothing_but_line_feeds_and_what_can_be_printed_is_left(text: str) -> None:
    assert all(each == "\n" or each.isprintable() for each in shown(text))
