"""What a measurement works with: the host, the reference image and a maker of nodes."""

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from harness import accelerator, admission, disk, firmware, qemu
from harness.admission import Admission
from harness.disk import Disk
from harness.machine import MIB, Machine
from harness.maker import NodeMaker
from harness.node import Host
from harness.template import Templates

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
        cache = Path(_images("cache"))
        found = qemu.find(program, cache / "qemu")
        code = firmware.find(first=found.firmware)
        chosen = accelerator.choose("auto", found.path, code, cache / "accelerators.json")
        host = Host(found, code, chosen, Admission(cache / "admission", admission.capacity()))
        return cls(host, disk.open_image(Path(_images("build")) / "kios.img"), cache, folder)

    def maker(self) -> NodeMaker:
        """A maker of nodes whose disk is four times the image."""
        artifacts = Path(tempfile.mkdtemp(prefix="artifacts-", dir=self.folder))

        def machine(image: Disk, disk_size: int | None) -> Machine:
            arguments = ("earlyprintk=serial,ttyS0,115200,keep", "loglevel=7")
            return Machine(disk_size or 4 * image.size, memory=1024 * MIB, kernel_arguments=arguments)

        return NodeMaker(self.host, self.folder, artifacts, machine)

    def templates(self) -> Templates:
        """The templates that scenarios use too."""
        return Templates(self.cache / "templates", 8 << 30, self.folder)


def _images(command: str) -> str:
    done = subprocess.run([sys.executable, "-m", "images", command], cwd=_ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip()
