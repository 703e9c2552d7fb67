"""Commands in a node's containers, by the kubelet's own endpoint: what `kubectl exec` uses (Kubernetes, v1 Pod exec)."""

import hashlib
from pathlib import Path

from harness.lab.maker import NewNode

MANIFESTS = Path(__file__).parent / "manifests"
PODS = [MANIFESTS / "node.yaml", MANIFESTS / "farewell.yaml"]
HERE = ("farewell", "farewell")


def test_commands_run_in_their_container(ready_node: NewNode) -> None:
    """A command runs in the container that is named and nowhere else; if not, `kubectl exec` shows a user the wrong one."""
    node = ready_node(pods=PODS)
    done = node.exec(*HERE, "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.status, sorted(done.text.split())) == (7, ["err", "out"])
    assert node.exec(*HERE, "touch", "/only here").status == 0
    assert node.exec(*HERE, "ls", "/only here").status == 0
    node.fail("ls '/only here' || ls '/host/only here'")
    missing = node.exec(*HERE, "no-such-program")
    assert missing.status != 0
    assert "no-such-program" in missing.text


def test_output_comes_whole(ready_node: NewNode) -> None:
    """Output of any bytes comes whole; if not, a file that a user copies out of a container is not that file."""
    node = ready_node(pods=PODS)
    made = node.exec(*HERE, "sh", "-c", "head -c 3000000 /dev/urandom > /tmp/file && md5sum < /tmp/file")
    copied = node.exec(*HERE, "cat", "/tmp/file")
    assert (made.status, copied.status) == (0, 0)
    digest = hashlib.md5(copied.output).hexdigest()
    assert digest == made.text.split()[0], f"{len(copied.output)} bytes came, and they are not the file"
