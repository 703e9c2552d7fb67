"""A node boots by UEFI from its NVMe disk, and is what kiOS promises: three programs, and pods (kiOS documentation)."""

import time
from pathlib import Path

import pytest

from harness.lab.maker import NewNode
from harness.manifests.pods import load
from harness.storage.disk import Disk
from harness.verdict.timeline import BOOT

NODE_POD = load(Path(__file__).parent / "manifests/node.yaml")
PROGRAMS = {"conmon", "crio", "crun", "kubelet", "pinns"}
# Names of busybox: those that init and the containers need; none is a shell.
NAMES = {"modprobe", "mount", "nsenter", "umount"}


@pytest.mark.presubmit
@pytest.mark.cold
def test_firmware_starts_the_efi_binary_and_the_node_comes_up(new_node: NewNode, image: Disk) -> None:
    """UEFI starts the EFI binary and the node comes up; if not, a user's machine stays in its firmware."""
    node = new_node(image, [NODE_POD])
    if not node.order.load_options:
        pytest.skip("the image's own boot loader starts the kernel, with its own arguments")
    node.start()
    node.wait(rf"BdsDxe: starting .* from HD\({image.esp.number},GPT,{str(image.esp.guid).upper()},.*/EFI\\Boot\\Bootx64\.efi")
    node.wait_until_ready()
    passed = [entry for entry in node.timeline() if entry.name in {milestone.name for milestone in BOOT}]
    assert [entry.name for entry in passed] == [milestone.name for milestone in BOOT]
    for entry, milestone in zip(passed, BOOT, strict=True):
        assert entry.after <= node.boot.budget(milestone), f"{entry.name} came after {entry.after:.0f} s"
    assert node.run("ls -d /sys/firmware/efi").status == 0, "the kernel was not started by UEFI"
    assert "nvme" in node.succeed("readlink -f /sys/class/block/nvme0n1/device")
    ahead = int(node.succeed("clock")) / 1e9 - time.time()
    assert abs(ahead) < 3600, f"the node's clock is wrong by {ahead:.0f} s"


@pytest.mark.cold
def test_image_boots_as_at_a_users(new_node: NewNode, image: Disk) -> None:
    """The image boots without the harness's boot entry and shows errors on the screen; if not, it boots only in tests."""
    node = new_node(image, [NODE_POD], kernel_arguments=[])
    node.start()
    node.wait_until_ready()
    assert "earlyprintk" not in node.succeed("cat /proc/cmdline")
    # With `quiet`, only errors reach the screen (kiOS contract).
    node.succeed("echo '<3>an error that a user has to see' > /dev/kmsg")
    node.until(lambda: "an error that a user has to see" in node.boot.screen(), "the error on the screen")


@pytest.mark.presubmit
def test_host_runs_only_init_crio_and_kubelet(ready_node: NewNode, image: Disk) -> None:
    """Only init, CRI-O and the kubelet run on the host; anything more is a service that users must trust unasked."""
    node = ready_node(image, [NODE_POD])
    told = "$(readlink $p/ns/mnt) $(cat $p/cgroup) $(tr '\\0' ' ' < $p/cmdline)"
    listed = node.succeed(f"for p in /proc/1 /proc/[0-9]*; do echo {told}; done")
    # Kernel threads and processes that just ended have no command line.
    processes = [words for line in listed.splitlines() if len(words := line.split()) > 2]
    # What is in a container has a cgroup and mounts of its own. Init calls itself kiOS, or keeps the name by which the kernel
    # starts it; each container has a conmon on the host.
    init = set(processes[0][:2])
    on_host = {words[2] for words in processes if init & set(words[:2])} - {"/bin/conmon"}
    assert on_host & {"kiOS", "/init"}, f"init is called otherwise: {on_host}"
    assert on_host - {"kiOS", "/init"} == {"/bin/crio", "/bin/kubelet"}


@pytest.mark.presubmit
def test_bin_holds_only_what_kios_has(ready_node: NewNode, image: Disk) -> None:
    """/bin holds what kiOS has and nothing else; every further shell or tool is one more that users have to secure."""
    node = ready_node(image, [NODE_POD])
    found = set(node.succeed("ls /host/bin").split())
    assert found <= PROGRAMS | NAMES, f"there is also {', '.join(sorted(found - PROGRAMS - NAMES))}"
    assert found >= PROGRAMS


@pytest.mark.presubmit
def test_kubelet_is_on_its_own(ready_node: NewNode, image: Disk) -> None:
    """The kubelet runs its pods without a cluster or a network plugin; if not, a standalone node waits for ever."""
    node = ready_node(image, [NODE_POD])
    assert "kubeconfig" not in node.succeed("tr '\\0' ' ' < /proc/$(pidof kubelet)/cmdline")
    assert node.succeed("ls /host/etc/cni/net.d 2> /dev/null || true") == "", "there is a network plugin"
    sources = {
        pod["metadata"]["name"]: pod["metadata"]["annotations"]["kubernetes.io/config.source"]
        for pod in node.boot.kubelet.pods()
    }
    assert sources == {"kios-e2e": "file", "node": "file"}
    # The kubelet may still call a pod Pending when its containers run.
    node.until(lambda: {pod.phase for pod in node.pods()} == {"Running"}, "every pod is Running")
