"""The host runs three programs and nothing else (kiOS documentation: everything else runs in containers)."""

from pathlib import Path

from harness.disk import Disk
from harness.maker import NewNode

NODE_POD = Path(__file__).parent / "manifests/node.yaml"


def test_host_runs_only_init_crio_and_kubelet(ready_node: NewNode, image: Disk) -> None:
    """Without it a user would run, and have to trust, services that kiOS promises not to have."""
    node = ready_node(image, [NODE_POD])
    listed = node.run("for p in /proc/[0-9]*; do echo $(cat $p/cgroup) $(tr '\\0' ' ' < $p/cmdline); done")
    # What runs in a container has a cgroup of its own, and kernel threads have no command line. conmon is a container's shadow.
    processes = [line.split() for line in listed.text.splitlines()]
    on_host = {words[1] for words in processes if words[0] == "0::/" and len(words) > 1} - {"/bin/conmon"}
    assert on_host == {"/init", "/bin/crio", "/bin/kubelet"}
