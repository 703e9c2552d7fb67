"""A node that came up by itself is ready with the right time only: nothing else tells a scenario of a wrong one."""

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.errors import NodeFailure
from harness.guest import clock
from harness.lab.boot import Boot
from harness.serial.result import Result
from harness.verdict.feed import Feed

_YEAR = 365.25 * 86400


def ready(ahead: float, frozen: object = None, times: int = 1, host_set_by: float = 0.0) -> list[str]:
    """Has a node whose clock is so many seconds ahead take commands; the commands that were run.

    This host's clock was set by so many seconds since the node's start.
    """
    commands: list[str] = []

    def run(command: str) -> Result:
        commands.append(command)
        return Result(0, f"{(time.time() + ahead) * 1e9:.0f}\n".encode())

    agent = SimpleNamespace(answers=True)
    boot: Any = SimpleNamespace(
        agent=agent,
        feed=Feed(),
        run=run,
        artifacts=Path("artifacts"),
        _frozen=frozen,
        _takes_commands=False,
        _clocks_offset=clock.hosts_offset() - host_set_by,
    )
    for _ in range(times):
        Boot.wait_for_shell(boot)
    return commands


@pytest.mark.parametrize(
    ("years", "words"),
    [(14, r"it says 20\d\d-\d\d-\d\d, 14 years ahead; artifacts: artifacts$"), (-10, "10 years behind"), (1 / 2000, "4 hours")],
)
def test_a_wrong_clock_is_the_nodes_failure(years: float, words: str) -> None:
    with pytest.raises(NodeFailure, match=f"^the node's clock is wrong: .*{words}"):
        ready(years * _YEAR)


def test_a_clock_that_the_host_left_behind_is_not_wrong() -> None:
    assert ready(-2 * 3600, host_set_by=2 * 3600) == ["clock"]
    with pytest.raises(NodeFailure, match=r"the node's clock is wrong: .* 2 hours ahead"):
        ready(0, host_set_by=2 * 3600)


def test_a_right_clock_is_asked_for_once() -> None:
    assert ready(-30.0, times=2) == ["clock"]


def test_a_clone_has_its_clock_set_and_is_not_asked() -> None:
    assert ready(_YEAR, frozen=object()) == []
