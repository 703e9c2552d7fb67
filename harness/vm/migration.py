"""Freezing a running machine into a file, and letting another go on from it (QEMU's docs/devel/migration).

The guest's memory stays where it is, in the file that backs it: only the devices' state, some megabytes, is written.
"""

import time
from pathlib import Path

from harness.errors import HarnessError
from harness.verdict.feed import Feed, QemuExit, QmpEvent
from harness.vm.qmp import Qmp

_CAPABILITIES = {
    "capabilities": [
        {"capability": "x-ignore-shared", "state": True},
        {"capability": "events", "state": True},
    ]
}
_WITHIN = 60.0


def freeze(qmp: Qmp, feed: Feed, state: Path) -> None:
    """Stops the machine and writes its state; raises HarnessError with QEMU's words if it has a device that cannot be."""
    qmp.execute("stop")
    qmp.execute("migrate-set-capabilities", _CAPABILITIES)
    position = feed.position()
    qmp.execute("migrate", {"uri": f"file:{state}"})
    _wait_until_completed(qmp, feed, position)


def restore(qmp: Qmp, feed: Feed, state: Path) -> None:
    """Gives a machine that waits for it the state of a frozen one; the machine is stopped then."""
    qmp.execute("migrate-set-capabilities", _CAPABILITIES)
    position = feed.position()
    qmp.execute("migrate-incoming", {"uri": f"file:{state}"})
    _wait_until_completed(qmp, feed, position)


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
                    raise HarnessError(f"The migration failed: {qmp.execute('query-migrate')}")
        feed.wait_beyond(position, deadline - time.monotonic())
    raise HarnessError(f"The migration is not done after {_WITHIN:.0f} s: {qmp.execute('query-migrate')}")
