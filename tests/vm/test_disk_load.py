"""A machine's disk by QEMU's counters: there or not, and how long a request takes."""

from typing import Any

import pytest

from harness.errors import HarnessError
from harness.vm import disk_load

_FLASH = {"node-name": "code", "stats": {}}


class Counters:
    """A QMP that answers with these counters, one a question; of QEMU 11.1."""

    def __init__(self, *told: Any) -> None:
        self.told = list(told)

    def execute(self, command: str, *_: object) -> Any:
        assert command == "query-blockstats"
        answer = self.told.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def counters(reads: int, seconds: float, writes: int = 0) -> list[dict[str, Any]]:
    numbers = {f"{kind}_{what}": 0 for kind in ("rd", "wr", "flush") for what in ("operations", "total_time_ns")}
    numbers |= {"rd_operations": reads, "wr_operations": writes, "rd_total_time_ns": int(seconds * 1e9)}
    return [_FLASH, {"node-name": "disk", "qdev": "/machine/peripheral-anon/device[0]", "stats": numbers}]


# What QEMU says of a disk on no device.
LEFT = [_FLASH, {"node-name": "disk", "stats": {}}]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_load, "_LOOK_SECONDS", 0.0)


@pytest.mark.parametrize(
    ("told", "there"), [(counters(1, 1), True), (LEFT, False), ([_FLASH], False), ({}, True), (HarnessError("gone"), True)]
)
def test_a_machine_without_its_disk_is_known(told: Any, there: bool) -> None:
    qmp: Any = Counters(told)
    assert disk_load.is_there(qmp) is there


@pytest.mark.parametrize(
    ("before", "after", "seconds"),
    [
        (counters(1000, 2), counters(1002, 8, writes=1), 2.0),
        (counters(1000, 2), counters(1000, 2), 0.002),
        (counters(4, 10), counters(4, 10), 2.5),
        (counters(0, 0), counters(0, 0), 0.0),
        (counters(1, 2), HarnessError("gone"), 2.0),
        (LEFT, None, 0.0),
        (HarnessError("gone"), None, 0.0),
    ],
)
def test_a_request_takes_what_those_took_that_ended_meanwhile_or_at_all(before: Any, after: Any, seconds: float) -> None:
    qmp: Any = Counters(before, after)
    assert disk_load.seconds_a_request(qmp) == seconds


def test_for_how_long_a_disk_was_idle_is_told() -> None:
    idle = counters(1, 1.0)
    idle[1]["stats"]["idle_time_ns"] = 88_500_000_000
    qmp: Any = Counters(idle, counters(0, 0.0), HarnessError("gone"))
    assert disk_load.idle_seconds(qmp) == 88.5
    assert disk_load.idle_seconds(qmp) is None, "nobody has asked it for anything yet"
    assert disk_load.idle_seconds(qmp) is None, "QEMU does not tell"
