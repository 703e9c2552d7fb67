"""Milestones: recognised in what a node really writes, each passed once and in order."""

from collections.abc import Sequence

import pytest

from harness.verdict.feed import ConsoleLine, ContainerState, Feed, Happening, QmpEvent
from harness.verdict.goal import LineMatching
from harness.verdict.timeline import (
    BOOT,
    FIRMWARE,
    INIT,
    KERNEL,
    Milestone,
    Passed,
    Timeline,
    container_done,
    container_running,
)

_LINES = {
    FIRMWARE: [
        'BdsDxe: loading Boot0000 "kiOS" from HD(1,GPT,F6A1,0x800,0x7800)/\\EFI\\Boot\\Bootx64.efi',
        'BdsDxe: starting Boot0001 "UEFI kios-e2e 1" from PciRoot(0x0)/Pci(0x2,0x0)/NVMe(0x1,00-00)',
    ],
    KERNEL: [
        "[    0.000000] NX (Execute Disable) protection: active",
        "[    0.000000] Linux version 6.1.0 (builder@host) #1 SMP",
        "[    0.000000][    T0] Linux version 6.12.0 (builder@host) #1 SMP",
    ],
    INIT: ["[    2.1] Run /init as init process"],
}
_OTHERS = [
    "BdsDxe: failed to load Boot0001",
    "[    0.000001] tsc: Fast TSC calibration failed",
    "dmesg: [    0.000000] quoted",
    "[    2.1]   with arguments:",
    "[    2.1]     /init",
    "[    3.1] kiOS: kiOS Init",
    "I0101 kubelet: starting kubelet",
]


def passed(milestones: Sequence[Milestone], happenings: Sequence[Happening], start: float) -> list[Passed]:
    feed = Feed()
    feed.publish_all(happenings)
    return Timeline(feed, start).passed(milestones)


@pytest.mark.parametrize(("milestone", "line"), [(mine, line) for mine, lines in _LINES.items() for line in lines])
def test_a_line_of_a_real_boot_passes_its_milestone_and_no_other(milestone: Milestone, line: str) -> None:
    assert [other.name for other in BOOT if other.passed(ConsoleLine(line))] == [milestone.name]


@pytest.mark.parametrize("line", _OTHERS)
def test_a_line_of_something_else_passes_none(line: str) -> None:
    assert [milestone.name for milestone in BOOT if milestone.passed(ConsoleLine(line))] == []


def test_only_the_console_passes_a_line() -> None:
    assert not LineMatching("SHUTDOWN")(QmpEvent("SHUTDOWN"))
    assert LineMatching("SHUT.OWN")(ConsoleLine("a SHUTDOWN b"))


@pytest.mark.parametrize(
    ("state", "done", "running"),
    [
        (ContainerState("node", "parted", "terminated", exit_code=0), True, False),
        (ContainerState("node", "parted", "terminated", exit_code=1), False, False),
        (ContainerState("node", "parted", "terminated"), False, False),
        (ContainerState("node", "parted", "running"), False, True),
        (ContainerState("node", "parted", "waiting"), False, False),
        (ContainerState("other", "parted", "terminated", exit_code=0), False, False),
        (ContainerState("other", "parted", "running"), False, False),
        (ContainerState("node", "parted", "running", namespace="other"), False, False),
        (ContainerState("node", "dhcpcd", "running"), False, False),
        (ConsoleLine("parted running"), False, False),
    ],
)
def test_a_container_is_done_with_status_0_and_running_when_the_kubelet_says_so(
    state: Happening, done: bool, running: bool
) -> None:
    assert container_done("default", "node", "parted")(state) is done
    assert container_running("default", "node", "parted")(state) is running


def test_passed_are_in_the_order_of_time_each_once_counted_from_the_start() -> None:
    a, b, c = (Milestone(name, LineMatching(name), 1) for name in "abc")
    happenings = [ConsoleLine("b", at=11.5), ConsoleLine("a", at=12), ConsoleLine("b", at=13), ConsoleLine("a", at=14)]
    assert passed([a, b, c], happenings, 10) == [Passed("b", 1.5), Passed("a", 2.0)]


def test_one_happening_may_pass_several() -> None:
    milestones = [Milestone("first", LineMatching("x"), 1), Milestone("second", LineMatching("x"), 1)]
    assert passed(milestones, [ConsoleLine("x", at=3)], 1) == [Passed("first", 2), Passed("second", 2)]


def test_nothing_heard_is_nothing_passed() -> None:
    assert passed(BOOT, [], 0) == []


def test_a_whole_boot_passes_every_milestone_in_order() -> None:
    lines = [line for lines in _LINES.values() for line in lines]
    found = passed(BOOT, [ConsoleLine(line, at=float(at)) for at, line in enumerate(lines)], 0)
    assert [entry.name for entry in found] == [milestone.name for milestone in BOOT]
    assert [entry.after for entry in found] == sorted(entry.after for entry in found)


def test_a_guests_clock_that_runs_ahead_puts_no_stage_before_the_firmware() -> None:
    init, ready = "[    2.500000] Run /init as init process", "[   90.000000] eth0: link becomes ready"
    lines = [(_LINES[FIRMWARE][0], 16.0), (_LINES[KERNEL][0], 22.0), (init, 38.0), (ready, 60.0)]
    found = passed(BOOT, [ConsoleLine(line, at=100 + at) for line, at in lines], 100)
    assert found == [Passed("firmware", 16.0), Passed("kernel", 16.0), Passed("init", 18.5)]


def test_budgets_never_shrink_along_the_way() -> None:
    assert [milestone.within for milestone in BOOT] == sorted(milestone.within for milestone in BOOT)


def test_what_comes_later_is_added_and_a_new_milestone_looks_back() -> None:
    feed = Feed()
    timeline = Timeline(feed, 0)
    a, b = (Milestone(name, LineMatching(name), 1) for name in "ab")
    feed.publish_all([ConsoleLine("b", at=1), ConsoleLine("a", at=2)])
    assert timeline.passed([a]) == [Passed("a", 2)]
    feed.publish(ConsoleLine("a", at=3))
    assert timeline.passed([a]) == [Passed("a", 2)]
    assert timeline.passed([a, b]) == [Passed("b", 1), Passed("a", 2)]
