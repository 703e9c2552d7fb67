"""Outcomes: their parties, and the words they are reported in."""

import signal

import pytest

from harness.errors import HarnessError, NodeFailure, Party
from harness.verdict.feed import (
    ConsoleLine,
    QmpEvent,
)
from harness.verdict.outcome import (
    Contradicted,
    GuestDied,
    HostStopped,
    NoSpace,
    Outcome,
    QemuDied,
    Stalled,
    TooLate,
    cause,
    error,
    explain,
    party,
)
from tests.verdict.heard import PANIC, fed


@pytest.mark.parametrize(
    ("outcome", "kind"),
    [
        (Contradicted("x"), NodeFailure),
        (GuestDied("x"), NodeFailure),
        (HostStopped("x"), HarnessError),
        (NoSpace("/tmp/run"), HarnessError),
        (QemuDied(1, "x"), HarnessError),
        (Stalled(90), NodeFailure),
        (Stalled(90, 80), HarnessError),
        (TooLate(90, 10), NodeFailure),
        (TooLate(90, 80), HarnessError),
        (Stalled(90, disk=0.2), NodeFailure),
        (Stalled(90, disk=0.9), HarnessError),
        (TooLate(90, disk=0.2), NodeFailure),
        (TooLate(90, disk=0.9), HarnessError),
    ],
)
def test_each_outcome_has_its_party(outcome: Outcome, kind: type[Exception]) -> None:
    assert isinstance(error(outcome, "words"), kind)


@pytest.mark.parametrize(
    ("outcome", "cause"),
    [
        (Contradicted("container parted failed"), "it cannot happen any more: container parted failed"),
        (GuestDied(PANIC), f"the guest died: {PANIC}"),
        (QemuDied(-9, " words \n"), "QEMU died with status -9 (SIGKILL): words"),
        (QemuDied(1, " \n"), "QEMU died with status 1: without a word"),
        (Stalled(59.6), "nothing was heard from the node for 60 s"),
        (TooLate(180), "it did not happen within 180 s"),
        (TooLate(180, 10), "it did not happen within 180 s"),
        (
            TooLate(90, 80),
            "it did not happen within 90 s, and the host was too busy: QEMU waited 80 s more for a CPU, or the run was stopped",
        ),
        (Stalled(90, 10, 0.2), "nothing was heard from the node for 90 s"),
        (Stalled(9, 1, 2), "nothing was heard from the node for 9 s, and the host's disk is too slow: a request takes 2.0 s"),
        (HostStopped("somebody sent QEMU a signal"), "the host ended it: somebody sent QEMU a signal"),
    ],
)
def test_an_explanation_names_what_why_how_far_and_the_last_words(outcome: Outcome, cause: str) -> None:
    lines = [ConsoleLine(f"line {number}") for number in range(12)]
    feed = fed(*lines, ConsoleLine("  "), QmpEvent("RESUME"))
    words = explain(outcome, "milestone crio", feed.last_lines(8), ["firmware", "kernel"])
    assert words.splitlines() == [
        f"milestone crio: {cause}",
        "reached: firmware, kernel",
        "last words on the console:",
        *(f"  | line {number}" for number in range(4, 12)),
    ]


def test_an_explanation_says_when_nothing_was_reached() -> None:
    assert "reached: nothing, not even the firmware" in explain(TooLate(1), "milestone firmware", [], [])


def test_memory_without_space_under_it_is_named() -> None:
    words = cause(QemuDied(-signal.SIGBUS, "qemu: a warning\n"))
    assert words == "QEMU died of SIGBUS: the file of the guest's memory has no space, or was cut off: qemu: a warning"
    assert party(QemuDied(-signal.SIGBUS, "")) is Party.HOST
