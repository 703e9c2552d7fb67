"""A machine that was frozen, for a run that goes on from it."""

from dataclasses import dataclass
from pathlib import Path

from harness.verdict.timeline import API, Passed
from harness.vm import migration


@dataclass(frozen=True)
class Frozen:
    """What a run goes on from instead of the firmware: a machine's state, the milestones that it had passed, and its DHCP.

    A node that failed keeps its clock at first: it may have nothing that would take a command to set it.
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
