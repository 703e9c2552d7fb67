"""Remote access by sshd as a static pod (kiOS documentation, Static Pods: sshd)."""

import hashlib
import random
from pathlib import Path

from harness.errors import fails_with
from harness.guest.credentials import Credentials
from harness.lab.maker import NewNode
from harness.storage.disk import Disk

MANIFESTS = Path(__file__).parent / "manifests"
PODS = [MANIFESTS / "node.yaml", MANIFESTS / "sshd.yaml"]
CONTENT = random.Random(22).randbytes(3_000_000)


def test_commands_and_their_status(ready_node: NewNode, image: Disk) -> None:
    """Commands over SSH come back with their output and status; if not, there is no way into a node in another room."""
    with ready_node(image, PODS).boot.ssh() as client:
        _, output, errors = client.exec_command("echo out; echo err >&2; exit 7", timeout=60)
        assert (output.read(), errors.read(), output.channel.recv_exit_status()) == (b"out\n", b"err\n", 7)


def test_files_up_and_down(ready_node: NewNode, image: Disk, tmp_path: Path) -> None:
    """Files travel whole both ways over SSH; if not, no log leaves a node and no fix reaches it."""
    with ready_node(image, PODS).boot.ssh() as client, client.open_sftp() as files:
        (tmp_path / "up").write_bytes(CONTENT)
        files.put(tmp_path / "up", "/tmp/file")
        _, output, _ = client.exec_command("sha256sum < /tmp/file", timeout=60)
        assert output.read().decode().split()[0] == hashlib.sha256(CONTENT).hexdigest()
        files.get("/tmp/file", tmp_path / "down")
        assert (tmp_path / "down").read_bytes() == CONTENT


def test_another_key_is_refused(ready_node: NewNode, image: Disk, tmp_path: Path) -> None:
    """A stranger's key is refused; if not, whoever reaches the port is root on the node."""
    node = ready_node(image, PODS)
    with fails_with("SSH: Authentication failed"):
        node.boot.ssh(Credentials.make(tmp_path).ssh_user)
