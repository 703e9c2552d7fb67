"""Faults of the running node: its kernel, its daemons, its files."""

import threading
from pathlib import PurePosixPath

from faults.debugger import hang, lead_astray, on_kernel
from faults.edits import ANONYMOUS, STEAL_CRIO, STEAL_KUBELET
from faults.fault import Fault
from faults.sabotage import Act, InTheBoot, KernelArgument, Together, command
from faults.scenario import ADDED, COLD, UP
from faults.stage import Stage
from harness.lab.node import Node
from harness.verdict.timeline import INIT


def _panic(node: Node) -> None:
    """Nothing of a node's own has the kernel panic: it is told to by the hardware."""
    node.succeed("echo 1 > /proc/sys/kernel/unknown_nmi_panic")
    node.boot.qmp.execute("inject-nmi")


def _panic_soon(node: Node) -> None:
    node.succeed("echo 1 > /proc/sys/kernel/unknown_nmi_panic")
    threading.Timer(5, lambda: node.boot.qmp.execute("inject-nmi")).start()


def _spoil_manifest(node: Node) -> None:
    write = node.write

    def spoilt(path: PurePosixPath | str, content: bytes) -> None:
        write(path, content.replace(b"kind: Pod\n", b"kind: Pot\n") if str(path).endswith("/node.yaml") else content)

    setattr(node, "write", spoilt)  # noqa: B010 - a method of a class


def _starting(words: str, says: str) -> Fault:
    return Fault(ADDED, command(words), says, stage=Stage.STARTING)


FAULTS = {
    "boot-programs": Fault(
        "boot.py::test_host_runs_only_init_crio_and_kubelet",
        command("(echo 0 > /host/sys/fs/cgroup/cgroup.procs; exec sleep 999) & sleep 1"),
        "assert .*'sleep'",
    ),
    "boot-service": Fault(
        "boot.py::test_host_runs_only_init_crio_and_kubelet",
        command(
            "own=/host/sys/fs/cgroup/own; mkdir $own && cp /bin/busybox /host/var/run/sleep && "
            "(echo 0 > $own/cgroup.procs; exec nsenter -t 1 -m /var/run/sleep 999) > /dev/null 2>&1 & sleep 1"
        ),
        "assert .*run/sleep'",
    ),
    "memory-disk": Fault(
        "in_memory.py::test_a_disk_is_there_once_its_driver_is_loaded",
        command("chroot /host /bin/modprobe nvme; sleep 2"),
        "the node has nvme.* before any pod asks for it",
    ),
    "boot-bin": Fault("boot.py::test_bin_holds_only_what_kios_has", command("touch /host/bin/sh"), "there is also sh"),
    "boot-plugin": Fault(
        "boot.py::test_kubelet_is_on_its_own",
        command("d=/host/etc/cni/net.d; mkdir -p $d; touch $d/a.conf"),
        r"a\.conf",
    ),
    "modules-before": Fault(
        "modules.py::test_without_the_modules_nothing_works",
        command("chroot /host /bin/modprobe binfmt-script"),
        "== 8",
    ),
    "logs-crio": Fault(
        "logs.py::test_mirror_is_complete_and_in_order[crio]", STEAL_CRIO, "the lines written to crio.log in crio's log"
    ),
    "logs-kubelet": Fault(
        "logs.py::test_mirror_is_complete_and_in_order[kubelet]",
        STEAL_KUBELET,
        "the lines written to kubelet.log in kubelet's log",
    ),
    "logs-before": Fault(
        "logs.py::test_lines_from_before_the_reader_are_there", STEAL_CRIO, "the lines written to crio.log before"
    ),
    "logs-restart": Fault(
        "logs.py::test_mirroring_outlives_a_restart_of_the_kubelet",
        command("kill -STOP $(pidof tinycat)"),
        "the first words of another kubelet: it did not happen",
    ),
    "logs-strangers": Fault(
        "logs.py::test_strangers_read_no_logs",
        command(f"{ANONYMOUS}; p=$(pidof kubelet); kill $p; while [ $p = $(pidof kubelet) ]; do :; done"),
        "a stranger",
    ),
    "init-network": Fault(
        "init.py::test_network_and_mounts_are_prepared",
        command("echo 0 > /proc/sys/net/ipv4/ip_forward"),
        "packets are not forwarded",
    ),
    "init-crio": Fault(
        "init.py::test_crio_is_started_again",
        command("mv /host/bin/crio /host/bin/other"),
        "NodeFailure: (an answer of the node's|another CRI-O runs): .*crio ended 4 times within",
    ),
    "init-users": Fault(
        "init.py::test_kubelet_finds_its_users",
        command("rm /host/etc/passwd"),
        "kubelet's own words.*/etc/passwd",
    ),
    "init-hostname": Fault(
        "init.py::test_hostname_is_the_files[bare]",
        command("(while sleep 0.1; do nsenter -t 1 -u hostname kios-node; done) > /dev/null 2>&1 &"),
        "the node's name is 'kios-node'",
    ),
    "init-power": Fault(
        "init.py::test_every_power_off_leaves_the_data_partition_clean",
        command(
            "(echo 0 > /host/sys/fs/cgroup/cgroup.procs; trap '' TERM; while pidof kubelet; do sleep 0.1; done; poweroff -f)"
            " > /dev/null 2>&1 &"
        ),
        "5 of 5 power-offs left the data partition mounted",
    ),
    "exec-commands": Fault(
        "exec.py::test_commands_run_in_their_container", command("rm /host/bin/crun"), "container is not created or running"
    ),
    "examples-hold": Fault(
        "examples.py::test_examples_hold_one_after_the_other",
        command("rm /bin/id; printf '#!/bin/sh\\necho 7\\n' > /bin/id; chmod +x /bin/id"),
        r"writing-scenarios\.md:\d+: AssertionError",
    ),
    "inventory-port": Fault(
        "inventory.py::test_a_node_listens_on_the_kubelets_port_alone",
        command("nc -l -p 7000 > /dev/null 2>&1 &"),
        r"there also listens \[7000\]",
    ),
    "clone-clock": Fault(
        "clone.py::test_ready_node_is_live_and_true",
        command("date -u -s '2026-01-01 00:00:00'"),
        "the node's clock is off by -",
    ),
    "bundle-memory": Fault(
        "bundle.py::test_failed_node_goes_on_where_it_failed",
        command("(while :; do rm -f /host/run/here; sleep 0.2; done) > /dev/null 2>&1 &"),
        "can't open '/host/run/here'",
        stage=Stage.STARTING,
    ),
    "refused-ports": Fault(
        "refused.py::test_refused_manifest_is_named_with_the_reason[ports]",
        command("kill -STOP $(pidof tinycat)"),
        "milestone odd/main: (nothing was heard|it did not happen)",
        stage=Stage.STARTING,
    ),
    "refused-offline": Fault(
        "refused.py::test_refusal_is_known_without_a_network",
        command("kill -STOP $(pidof tinycat)"),
        "milestone odd/main: (nothing was heard|it did not happen)",
        stage=Stage.STARTING,
    ),
    "node-panic": Fault(UP, Act("the kernel panics", _panic), "kernel panic: NMI"),
    "node-panic-starts": Fault(
        ADDED, Act("the kernel panics as the pods start", _panic_soon), "kernel panic: NMI", stage=Stage.STARTING
    ),
    "node-panic-boots": Fault(
        COLD,
        Together(
            "the kernel panics as init starts",
            [
                KernelArgument("unknown_nmi_panic"),
                InTheBoot("an NMI", INIT, lambda node: node.boot.qmp.execute("inject-nmi")),
            ],
        ),
        "kernel panic: NMI",
        stage=Stage.BOOTING,
    ),
    "node-init-exits": Fault(
        COLD, KernelArgument("rdinit=/bin/modprobe"), "kernel panic: Attempted to kill init", stage=Stage.BOOTING
    ),
    "node-reset": Fault(UP, command("(reboot -f) > /dev/null 2>&1 &"), "the machine was reset"),
    "node-off": Fault(UP, command("(poweroff -f) > /dev/null 2>&1 &"), r"switched off \(guest-shutdown"),
    "node-crio-stops": _starting("kill -STOP $(pidof crio)", "crio is stopped"),
    "node-kubelet-stops": _starting("kill -STOP $(pidof kubelet)", "kubelet is stopped"),
    "node-crio-ends": _starting("mv /host/bin/crio /host/bin/other; kill $(pidof crio)", "crio ended 4 times"),
    "node-kubelet-ends": _starting(
        "echo 'kind: Rubbish' > /host/etc/kubernetes/config.yaml; kill $(pidof kubelet)",
        "kubelet ended 4 times within .*Rubbish",
    ),
    "node-crun": _starting("rm /host/bin/crun", "the kubelet cannot begin pod node: exit status 1"),
    "node-conmon": _starting("rm /host/bin/conmon", "the kubelet cannot begin pod node: .*/bin/conmon: no such file"),
    "node-modules": _starting(
        "nsenter -t 1 -m mount -t tmpfs none /lib/modules", "container modprobe of pod node ended with status 1: .*not found"
    ),
    "node-full": Fault(
        ADDED,
        command("dd if=/dev/zero of=/host/var/log/filler bs=1M || true"),
        "node.yaml cannot be written on the node: No space left on device; .* is full: ",
    ),
    "node-inodes": Fault(
        ADDED,
        command("mkdir /host/var/log/many; cd /host/var/log/many; seq $(stat -f -c %d .) | xargs touch 2> /dev/null; true"),
        "node.yaml cannot be written on the node: No space left on device; .*has no inodes left",
    ),
    "node-manifest": Fault(
        ADDED,
        Act("a manifest that is spoilt on its way to the node", _spoil_manifest),
        "the kubelet rejected pod node: node.yaml: no kind .Pot. is registered",
        stage=Stage.STARTING,
    ),
    "node-authority": _starting(
        "cp /host/var/lib/kubelet/pki/kubelet.crt /host/etc/kubernetes/kios-e2e-ca.pem && kill $(pidof kubelet)",
        "the kubelet's API refuses the harness's client certificate",
    ),
    "node-oops": Fault(UP, Act("the kernel goes on where there is no code", on_kernel(lead_astray)), "kernel oops: "),
    "node-hangs": Fault(
        UP,
        Act("the kernel goes round in a loop and hears no interrupt", on_kernel(hang)),
        r"did not end within \d+ s; the CPU was in the kernel at ffffffff",
    ),
    "node-disk-gone": Fault(
        ADDED,
        command("echo 1 > /sys/class/nvme/nvme0/device/remove"),
        # Or else CRI-O, which cannot write either, has ended for good by then.
        "node.yaml cannot be written on the node: .*(?i:input/output error)",
    ),
    "node-no-init": Fault(
        COLD, KernelArgument("rdinit=/nothing"), "kernel panic: VFS: Unable to mount root", stage=Stage.BOOTING
    ),
}
