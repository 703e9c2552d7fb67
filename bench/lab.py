"""What a measurement works with: the host, the reference image and a maker of nodes."""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from harness.lab import builder
from harness.lab import cache as cache_place
from harness.lab import host as hosts
from harness.lab.host import Host
from harness.lab.maker import NodeMaker
from harness.lab.node import Node
from harness.lab.stock import Stock
from harness.lab.template import Templates
from harness.storage import disk
from harness.storage.disk import Disk
from harness.vm.machine import EARLY_CONSOLE, MIB, Channels, Files, Machine, argv

_ROOT = Path(__file__).parent.parent
NODE_POD = _ROOT / "scenarios/manifests/node.yaml"


@dataclass(frozen=True)
class Lab:
    """A host, an image, and a folder for all that is made."""

    host: Host
    image: Disk
    cache: Path
    folder: Path

    @classmethod
    def open(cls, program: str | None, folder: Path) -> "Lab":
        """Finds or builds everything, before any clock runs."""
        cache = cache_place.folder(None)
        image = disk.open_image(Path(builder.ask("build")) / "kios.img")
        return cls(hosts.find(program, "auto", cache, folder), image, cache, folder)

    def maker(self) -> NodeMaker:
        """A maker of nodes whose disk is four times the image."""
        artifacts = Path(tempfile.mkdtemp(prefix="artifacts-", dir=self.folder))

        def machine(image: Disk, disk_size: int | None) -> Machine:
            return Machine(disk_size or 4 * image.size, memory=1024 * MIB, kernel_arguments=EARLY_CONSOLE)

        return NodeMaker(
            self.host, self.folder, artifacts, machine, Stock(lambda: self.image.path.parent, (), self.cache / "stores")
        )

    def command_line(self, node: Node, channels: Channels) -> list[str]:
        """QEMU's for a node's own machine, by itself: without what confines its guest, and without a port for the agent."""
        files = Files(self.host.firmware.code, node.variables, node.overlay, self.folder / "bare.pcap")
        machine = replace(node.order.machine, network="open")
        return argv(self.host.qemu.path, machine, self.host.accelerator, files, channels)

    def templates(self) -> Templates:
        """The templates that scenarios use too."""
        return Templates(self.cache / "templates", 8 << 30, self.folder)
