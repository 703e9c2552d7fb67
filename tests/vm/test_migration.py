"""A machine that is frozen or goes on is waited for, and what hinders it is told."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.errors import HarnessError
from harness.verdict.feed import Feed, QemuExit, QmpEvent
from harness.vm import migration
from harness.vm.migration import Memory

STATE = Path("/run/state")


class Machine:
    """Takes commands, and publishes what follows each migration."""

    def __init__(self, *follows: Any) -> None:
        self.feed, self.told, self._follows = Feed(), list[tuple[str, Any]](), follows

    def execute(self, command: str, arguments: Any = None) -> object:
        self.told.append((command, arguments))
        if command in ("migrate", "migrate-incoming"):
            for happening in self._follows:
                self.feed.publish(happening)
        return {"error-desc": "non-migratable device nvme"} if command == "query-migrate" else {}


def status(word: str) -> QmpEvent:
    return QmpEvent("MIGRATION", {"status": word})


def freeze(machine: Machine, memory: Memory = Memory.IN_ITS_FILE) -> None:
    qmp: Any = machine
    migration.freeze(qmp, machine.feed, STATE, memory)


def restore(machine: Machine, memory: Memory = Memory.IN_ITS_FILE) -> None:
    qmp: Any = machine
    migration.restore(qmp, machine.feed, STATE, memory)


@pytest.mark.parametrize(("memory", "stays"), [(Memory.IN_ITS_FILE, True), (Memory.IN_THE_STATE, False)])
def test_a_machine_is_stopped_and_written_with_its_memory_or_without(memory: Memory, stays: bool) -> None:
    machine = Machine(status("active"), status("completed"))
    freeze(machine, memory)
    assert [command for command, _ in machine.told] == ["stop", "migrate-set-capabilities", "migrate-set-parameters", "migrate"]
    assert {"capability": "x-ignore-shared", "state": stays} in machine.told[1][1]["capabilities"]
    assert machine.told[-1][1] == {"uri": "file:/run/state"}


@pytest.mark.parametrize("move", [freeze, restore])
def test_one_that_fails_has_qemus_reason(move: Callable[[Machine], None]) -> None:
    with pytest.raises(HarnessError, match=r"The migration failed: .*non-migratable device nvme"):
        move(Machine(status("active"), status("failed")))


@pytest.mark.parametrize("move", [freeze, restore])
def test_a_qemu_that_dies_meanwhile_is_told(move: Callable[[Machine], None]) -> None:
    with pytest.raises(HarnessError, match="QEMU ended in a migration with status -11: out of memory"):
        move(Machine(status("active"), QemuExit(-11, "out of memory\n")))


def test_one_that_does_not_end_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migration, "_WITHIN", 0.1)
    with pytest.raises(HarnessError, match=r"not done after 0 s: .*non-migratable"):
        freeze(Machine(status("active")))


def test_an_end_of_another_migration_is_none() -> None:
    machine = Machine(status("failed"))
    machine.feed.publish(status("completed"))
    with pytest.raises(HarnessError, match="The migration failed"):
        restore(machine)
