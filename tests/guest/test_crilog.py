"""Logs in CRI's format: pieces of one line are one line again, and what is no such log is named."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import NodeFailure
from harness.guest import crilog

_STAMP = "2026-01-02T03:04:05.678901234+00:00"


def text_of(*runs: str) -> str:
    return crilog.text_of(run.encode(errors="surrogateescape") for run in runs)


def test_lines_and_their_pieces() -> None:
    log = f"{_STAMP} stdout F one\n{_STAMP} stdout P tw\n{_STAMP} stdout P o\n{_STAMP} stdout F \n{_STAMP} stderr F three \n"
    assert text_of(log) == "one\ntwo\nthree \n"


def test_pieces_of_two_streams_are_two_lines() -> None:
    pieces = ["stderr P resize2fs", "stdout F a disk", "stderr P : no", "stdout P an", "stderr F thing", "stdout P d"]
    log = "".join(f"{_STAMP} {piece}\n" for piece in pieces)
    assert text_of(log) == "a disk\nresize2fs: nothing\nand"


def test_a_line_that_is_not_over_yet_has_no_end() -> None:
    assert text_of(f"{_STAMP} stdout P begun") == "begun"


@pytest.mark.parametrize("bad", ["hello", f"{_STAMP} stdout X a", f"{_STAMP} stdin F a", "2026-01-02 stdout F a", ""])
def test_what_is_no_such_line_is_named(bad: str) -> None:
    with pytest.raises(NodeFailure, match="line 2 of the log is not in CRI's format"):
        text_of(f"{_STAMP} stdout F good\n{bad}\n{_STAMP} stdout F good\n")


@pytest.mark.parametrize("odd", ["10%\r20%\r", "a\fb", "a\vb", "a\x1cb\x1db\x1eb", "a\x85b", "a\u2028b\u2029c"])
def test_only_a_line_feed_ends_a_line(odd: str) -> None:
    assert text_of(f"{_STAMP} stdout F {odd}\n{_STAMP} stdout F next\n") == f"{odd}\nnext\n"


@pytest.mark.parametrize("torn", ["2026-01-02T03:04", "\0" * 4096, f"{_STAMP} std", ""])
def test_a_torn_end_is_left_out(torn: str) -> None:
    assert text_of(f"{_STAMP} stdout F whole\n{torn}") == "whole\n"


@given(st.lists(st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]))))
def test_whatever_a_container_writes_is_read_back(lines: list[str]) -> None:
    assert text_of("".join(f"{_STAMP} stdout F {line}\n" for line in lines)) == "".join(f"{line}\n" for line in lines)


@pytest.mark.parametrize("begin", ["2026-01-02T03:04:05Z stdout F", "2026-01-02T03:04:05.6+02:00 stderr F:other:tags"])
def test_what_the_kubelet_takes_for_a_line_is_one(begin: str) -> None:
    assert text_of(f"{begin} said\n") == "said\n"


def test_a_character_in_two_pieces_is_one() -> None:
    begin, end = (piece.decode(errors="surrogateescape") for piece in ("é".encode()[:1], "é".encode()[1:]))
    assert text_of(f"{_STAMP} stdout P caf{begin}\n{_STAMP} stdout F {end}!\n") == "café!\n"


@pytest.mark.parametrize("torn", ["2026-01-02T03:04", "\0" * 4096, f"{_STAMP} std"])
def test_a_run_may_be_torn_before_the_next(torn: str) -> None:
    whole = f"{_STAMP} stdout F whole\n"
    assert text_of(whole + torn, whole, whole) == "whole\n" * 3
    assert text_of(f"{_STAMP} stdout F cut", whole) == "cut\nwhole\n"


def test_what_is_legible_is_read() -> None:
    assert crilog.legible_in([f"{_STAMP} stdout F one\n\0\0\n{_STAMP} stdout F two\n".encode()]) == "one\ntwo\n"
