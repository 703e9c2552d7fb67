"""A node that failed can be entered afterwards: a bundle brings it up where it failed, in another process (docs/bundles.md)."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from harness.errors import fails_with
from harness.lab import bundle, parcel
from harness.lab.bundle import Failure
from harness.lab.host import Host
from harness.lab.maker import NewNode
from harness.lab.node import Node
from harness.manifests.pods import load
from harness.storage.disk import Disk

NODE_POD = load(Path(__file__).parent / "manifests/node.yaml")
FAILING_POD = NODE_POD.with_args("modprobe", ["-a", "tiny-power-buton"])
LIMIT = 1 << 30


@pytest.fixture
def folder(run_folder: Path) -> Path:
    """A folder for bundles, which are large: it is removed with the run."""
    return Path(tempfile.mkdtemp(dir=run_folder))


def test_failed_node_goes_on_where_it_failed(ready_node: NewNode, image: Disk, host: Host, folder: Path) -> None:
    """A failed node resumes with its memory and processes; if not, what failed at night is gone in the morning."""
    if not host.qemu.can_freeze:
        pytest.skip("this QEMU cannot freeze a node")
    node = ready_node(image, [])
    node.write("/run/here", b"it failed here")
    node.add(FAILING_POD)
    with fails_with("container modprobe of pod node ended with status 1"):
        node.wait_until_ready()
    log = "/host/var/log/pods/*/modprobe/*.log"
    said = entered(bundled(node, host, folder), f"print(node.succeed('cat /host/run/here {log}'), node.boot.frozen)", host)
    assert "it failed here" in said.stdout, f"the node is not where it failed: {said.stdout}{said.stderr}"
    assert "tiny-power-buton not found" in said.stdout
    assert "cannot be brought back" not in said.stderr


@pytest.mark.generation("a", cannot="what a failed node wrote is left on its disk: nothing of the node is on it")
def test_failed_node_of_another_qemu_boots_its_disk(ready_node: NewNode, image: Disk, host: Host, folder: Path) -> None:
    """A failed node whose memory cannot be resumed boots its disk as it was left; if not, nothing of the node remains."""
    node = ready_node(image, [])
    node.succeed("echo this was written > /host/etc/written; sync")
    failed = of_another_qemu(bundled(node, host, folder), folder)
    script = "from harness.verdict.timeline import KERNEL\nfrom pathlib import PurePosixPath\nnode.wait(KERNEL)\n"
    said = entered(failed, f"{script}print(disk.file(PurePosixPath('/meta/etc/written')), node.boot.frozen)", host)
    here = ".".join(map(str, host.qemu.version))
    assert f"(qemu {here} here, 1.0 there): its disk is booted as it was left" in said.stderr
    assert said.stdout == "b'this was written\\n' None\n", f"its disk is not as it was left: {said.stdout}{said.stderr}"


def bundled(node: Node, host: Host, folder: Path) -> Path:
    """Makes a bundle of a node, as the plugin does of one that failed."""
    scratch = Path(tempfile.mkdtemp(dir=folder))
    bundle.make(node, Failure("scenarios/bundle.py", "as it should"), host, folder / bundle.NAME, scratch, LIMIT, print)
    return folder / bundle.NAME


def of_another_qemu(failed: Path, folder: Path) -> Path:
    """The same bundle, as another QEMU would have left it."""
    told = dict(parcel.unpack(failed, folder / "unpacked"))
    told["surroundings"]["qemu"] = "1.0"
    names = [file.relative_to(folder / "unpacked") for file in (folder / "unpacked").rglob("*") if file.is_file()]
    parcel.pack(folder / "other.tar.zst", told, {str(name): folder / "unpacked" / name for name in names}, LIMIT)
    return folder / "other.tar.zst"


def entered(failed: Path, script: str, host: Host) -> subprocess.CompletedProcess[str]:
    """Runs a script at the prompt of a failed node, and returns what it printed."""
    words = [sys.executable, "-m", "harness", "enter", str(failed), "--qemu", str(host.qemu.path)]
    return subprocess.run(words, input=script, capture_output=True, text=True, timeout=900, check=False)
