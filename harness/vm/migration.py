"""Freezes a running machine into a file, and restores it in another process (QEMU's docs/devel/migration)."""

import time
from enum import Enum
from pathlib import Path

from harness.errors import HarnessError
from harness.verdict.feed import Feed, QemuExit, QmpEvent
from harness.vm.qmp import Qmp

_WITHIN = 300.0
# QEMU's default bound of 128 MiB/s is meant for a network.
_BYTES_PER_SECOND = 16 << 30


class Memory(Enum):
    """Where the guest's memory is while the machine is frozen.

    If it stays in the file that backs it, the state has only some megabytes for the devices; for a machine that is to continue
    elsewhere, the state has the memory too.
    """

    IN_ITS_FILE = "file"
    IN_THE_STATE = "state"


def freeze(qmp: Qmp, feed: Feed, state: Path, memory: Memory) -> None:
    """Stops the machine and writes its state; raises HarnessError with QEMU's words if a device cannot be migrated."""
    qmp.execute("stop")
    _set_up(qmp, memory)
    qmp.execute("migrate-set-parameters", {"max-bandwidth": _BYTES_PER_SECOND})
    position = feed.position()
    qmp.execute("migrate", {"uri": f"file:{state}"})
    _wait_until_completed(qmp, feed, position)


def restore(qmp: Qmp, feed: Feed, state: Path, memory: Memory) -> None:
    """Restores the state of a frozen machine in one that waits for it; the machine is still stopped afterwards."""
    _set_up(qmp, memory)
    position = feed.position()
    qmp.execute("migrate-incoming", {"uri": f"file:{state}"})
    _wait_until_completed(qmp, feed, position)


def _set_up(qmp: Qmp, memory: Memory) -> None:
    stays = memory is Memory.IN_ITS_FILE
    capabilities = {"x-ignore-shared": stays, "events": True}
    listed = [{"capability": name, "state": state} for name, state in capabilities.items()]
    qmp.execute("migrate-set-capabilities", {"capabilities": listed})


def _why(qmp: Qmp) -> object:
    try:
        return qmp.execute("query-migrate")
    except HarnessError:
        return "QEMU ended before it could say why"


def _wait_until_completed(qmp: Qmp, feed: Feed, position: int) -> None:
    deadline = time.monotonic() + _WITHIN
    while time.monotonic() < deadline:
        for happening in feed.since(position):
            position += 1
            if isinstance(happening, QemuExit):
                raise HarnessError(f"QEMU ended in a migration with status {happening.status}: {happening.words.strip()}")
            if isinstance(happening, QmpEvent) and happening.name == "MIGRATION":
                if happening.data.get("status") == "completed":
                    return
                if happening.data.get("status") == "failed":
                    raise HarnessError(f"The migration failed: {_why(qmp)}")
        feed.wait_beyond(position, deadline - time.monotonic())
    raise HarnessError(f"The migration is not done after {_WITHIN:.0f} s: {qmp.execute('query-migrate')}")
