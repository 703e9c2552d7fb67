"""The remains of a failed node, from which another continues, as a clone does from a template."""

from dataclasses import dataclass
from pathlib import Path

from harness.guest.credentials import Credentials
from harness.verdict.timeline import Passed


@dataclass(frozen=True)
class Remains:
    """A failed node: the files in a folder, its disk and variables, wherever they are, and the milestones that it had passed.

    `disk` is a qcow2 file on the image. If there is no state to continue, `why_no_state` says why.
    """

    folder: Path
    credentials: Credentials
    milestones: tuple[Passed, ...]
    disk: Path
    variables: Path
    why_no_state: str = ""

    def without_state(self) -> "Remains":
        """Removes the state, so that the disk is booted as it was left; returns these remains."""
        self.state.unlink(missing_ok=True)
        return self

    @property
    def state(self) -> Path:
        """The machine's state with its memory."""
        return self.folder / "state"

    @property
    def dhcp(self) -> Path:
        """A capture of the node's DHCP messages."""
        return self.folder / "dhcp.pcap"
