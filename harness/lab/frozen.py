"""A machine that was frozen, for a run that continues it."""

from dataclasses import dataclass
from pathlib import Path

from harness.verdict.timeline import API, Passed
from harness.vm import migration


@dataclass(frozen=True)
class Frozen:
    """What a run continues instead of starting the firmware: a machine's state, its passed milestones, and its DHCP messages.

    A node that failed keeps its clock at first, because it may be unable to take a command that sets it.
    """

    state: Path
    milestones: tuple[Passed, ...]
    dhcp: Path
    memory: migration.Memory = migration.Memory.IN_ITS_FILE
    keeps_its_clock: bool = False

    @property
    def was_reachable(self) -> bool:
        """Whether the kubelet could be asked."""
        return API.name in [entry.name for entry in self.milestones]
