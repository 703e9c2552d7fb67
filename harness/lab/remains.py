"""What is left of a node that failed, for one that goes on from there: as a template is of a node that did not."""

from dataclasses import dataclass
from pathlib import Path

from harness.guest.credentials import Credentials
from harness.verdict.timeline import Passed


@dataclass(frozen=True)
class Remains:
    """A failed node: the files in a folder, its disk and variables, wherever they are, and the milestones that it had passed.

    `disk` is a qcow2 file on the image. `why_no_state` says why there is no state to go on from, if there is none.
    """

    folder: Path
    credentials: Credentials
    milestones: tuple[Passed, ...]
    disk: Path
    variables: Path
    why_no_state: str = ""

    def without_state(self) -> "Remains":
        """The same without its state, which is removed: to boot the disk as it was left."""
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
