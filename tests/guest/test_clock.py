"""The clock of a clone, set to this host's, which may be too busy to tell much of it."""

import time

import pytest

from harness.errors import HarnessError
from harness.guest import clock
from harness.serial.result import Result


class Guest:
    """A node's clock, `ahead` seconds of this host's, and how its answers come."""

    def __init__(self, ahead: float, monkeypatch: pytest.MonkeyPatch, late: float = 0.0, sticks: bool = False) -> None:
        """`late` is what an answer takes on its way back; one that `sticks` cannot be set."""
        self.ahead, self.late, self.sticks, self.asked = ahead, late, sticks, 0
        self.now = 1e9
        monkeypatch.setattr(time, "time", lambda: self.now)

    def run(self, command: str) -> Result:
        self.asked += 1
        _, _, by = command.partition(" ")
        if by and not self.sticks:
            self.ahead += int(by) / 1e9
        told = self.now + self.ahead
        self.now += self.late
        return Result(0, f"{told * 1e9:.0f}\n".encode())


@pytest.mark.parametrize("ahead", [-86400.0, -0.2, 0.05, 3.0])
def test_it_is_put_on_to_the_hosts_and_read_back(ahead: float, monkeypatch: pytest.MonkeyPatch) -> None:
    guest = Guest(ahead, monkeypatch)
    clock.set_to_hosts(guest.run)
    assert abs(guest.ahead) < 0.1
    assert guest.asked == 2


def test_a_clock_that_cannot_be_set_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(HarnessError, match=r"cannot be set: it is -2.0 s ahead of this host's after 5 tries"):
        clock.set_to_hosts(Guest(-2.0, monkeypatch, sticks=True).run)


def test_a_busy_hosts_slow_answers_are_not_taken_for_a_wrong_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    guest = Guest(-5.0, monkeypatch, late=0.4)
    guest.run = lambda command, run=guest.run: _late_by_turns(guest, command, run)  # type: ignore[method-assign, misc]
    clock.set_to_hosts(guest.run)
    assert abs(guest.ahead) < 0.1


def test_slow_answers_hide_no_clock_that_is_further_off(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(HarnessError, match="cannot be set"):
        clock.set_to_hosts(Guest(-2.0, monkeypatch, late=0.4, sticks=True).run)


def _late_by_turns(guest: Guest, command: str, run: clock.Run) -> Result:
    """The way back takes long each second time: what was set by one answer looks wrong by the next."""
    guest.late = 0.4 if guest.asked % 2 else 0.0
    if not guest.late:
        guest.now += 0.4
    return run(command)


@pytest.mark.parametrize("off", [-86400.0, 0.0, 3.0])
def test_how_far_it_is_off_is_told(off: float, monkeypatch: pytest.MonkeyPatch) -> None:
    assert clock.ahead(Guest(off, monkeypatch, late=0.4).run) == pytest.approx(off, abs=0.3)
