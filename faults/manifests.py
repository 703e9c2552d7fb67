"""Faults of manifests: what a node is told to run."""

from faults.edits import CONTEXT, NO_BUTTON, side_car, sshd_with, with_command
from faults.fault import Fault
from faults.sabotage import Edit
from faults.scenario import ADDED
from faults.stage import Stage
from harness.errors import Party

# Nothing is on the node yet; a clone that is given the pod; a clone with the pod.
_REFUSED = "clone.py::test_ready_node_is_nobody_elses"
_SPEC = "  hostNetwork: true\n"
_VOLUMES = "  volumes:\n  - name: runtime\n"
_FIRST = "  initContainers:\n"
_BUSYBOX = "    image: localhost/kios-e2e/console:v1\n"


def _spec_with(line: str) -> Edit:
    return Edit(_VOLUMES, f"  {line}\n{_VOLUMES}")


def _refused(how: Edit, words: str) -> Fault:
    return Fault(_REFUSED, how, words, Party.TEST, Stage.BEFORE)


def _one_more(name: str, words: str) -> Edit:
    return Edit(_FIRST, f"{_FIRST}  - name: {name}\n{_BUSYBOX}    command: {words}\n")


FAULTS = {
    "memory-cycle": Fault(
        "in_memory.py::test_power_cycle_forgets_everything", NO_BUTTON, "power-off by the guest: it did not happen"
    ),
    "memory-farewell": Fault(
        "in_memory.py::test_pods_end_in_order_and_a_mounted_disk_grows_no_more",
        Edit("sleep 1; echo stopped in order", "exit 1; echo"),
        r"(?<!log)/farewell cannot be read",
    ),
    "modules-script": Fault("modules.py::test_script_executes", Edit("    - binfmt-script\n", ""), "binfmt_script"),
    "modules-button": Fault(
        "modules.py::test_power_button_ends_the_node_in_order", NO_BUTTON, "power-off by the guest: it did not happen"
    ),
    "modules-farewell": Fault(
        "modules.py::test_power_button_ends_the_node_in_order",
        Edit("sleep 1; echo stopped in order", "exit 1; echo"),
        "/meta/log/farewell",
    ),
    "modules-name": Fault(
        "modules.py::test_module_that_does_not_exist_is_named",
        with_command("docker.io/emilyls/modprobe:v1-alpha1", "[modprobe, -q]"),
        "container modprobe of pod node ended with status 1: it left no word",
        stage=Stage.STARTING,
    ),
    "order-overlap": Fault(
        "order.py::test_each_container_waits_for_the_one_before",
        side_car("modprobe"),
        "started before modprobe had ended",
    ),
    "order-failure": Fault(
        "order.py::test_failure_holds_back_what_is_behind_it",
        with_command("docker.io/emilyls/parted:v2", "[parted, --version]"),
        "does not fail as it should: container parted of pod node",
    ),
    "hardening-more": Fault(
        "hardening.py::test_one_shot_tasks_may_do_what_the_manifest_grants",
        Edit(
            f"{CONTEXT}        drop:\n        - ALL\n        add:\n        - SYS_MODULE\n",
            f"{CONTEXT}        add:\n        - SYS_MODULE\n",
        ),
        "modprobe may do 0x",
        stage=Stage.STARTING,
    ),
    "hardening-root": Fault(
        "hardening.py::test_log_containers_may_do_nothing",
        Edit("readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false"),
        "the root of a log container can be written to",
    ),
    "console-silent": Fault(
        "console.py::test_login_commands_and_a_hard_life",
        Edit("    - ttyS0\n", "    - --delay=9999\n    - ttyS0\n"),
        "a login prompt on the serial port: it did not happen",
    ),
    "exec-output": Fault(
        "exec.py::test_output_comes_whole",
        Edit("trap 'sleep 1", "rm /bin/cat; echo '#!/bin/md5sum' > /bin/cat; chmod +x /bin/cat; trap 'sleep 1"),
        "bytes came, and they are not the file",
    ),
    "examples-scenarios": Fault(
        "examples.py::test_scenarios_of_the_page_pass",
        Edit("    - 100%\n", "    - all\n"),
        r"container parted of pod node ended with status 1: \S",
        stage=Stage.STARTING,
    ),
    "ssh-commands": Fault("ssh.py::test_commands_and_their_status", sshd_with("ForceCommand=/bin/false"), r"b'out\\n'"),
    "ssh-files": Fault("ssh.py::test_files_up_and_down", sshd_with("ForceCommand=/bin/false"), "EOF during negotiation"),
    "ssh-strangers": Fault(
        "ssh.py::test_another_key_is_refused",
        sshd_with("AuthorizedKeysCommand=/bin/echo %t %k; AuthorizedKeysCommandUser=root"),
        "does not fail as it should: SSH: Authentication failed",
    ),
    "clone-power": Fault(
        "clone.py::test_ready_node_can_be_powered_off_and_booted", NO_BUTTON, "power-off by the guest: it did not happen"
    ),
    "manifest-image": _refused(Edit("emilyls/dhcp:9.4.1", "emilyls/dhcp:9.9.9"), r"emilyls/dhcp:9\.9\.9: no such image"),
    "manifest-key": _refused(Edit("hostNetwork", "hostNetwrok"), "hostNetwrok"),
    "manifest-tab": _refused(Edit(_SPEC, "\thostNetwork: true\n"), "indented with a tab"),
    "manifest-twice": _refused(Edit("  - name: kubelet\n", "  - name: crio\n"), "two containers are named crio"),
    "manifest-version": _refused(Edit("apiVersion: v1", "apiVersion: v2"), "apiVersion is v2"),
    "manifest-secret": _refused(Edit("emptyDir: {}", "secret: {secretName: keys}"), "[Ss]ecret"),
    "manifest-selector": Fault(
        ADDED, _spec_with("nodeSelector: {disk: ssd}"), "rejected pod node: .*NodeAffinity", stage=Stage.STARTING
    ),
    "manifest-root": _refused(_spec_with("securityContext: {runAsNonRoot: true, runAsUser: 0}"), "runAsNonRoot"),
    "manifest-sysctl": _refused(_spec_with("securityContext: {sysctls: [{name: kernel.hostname, value: x}]}"), "sysctl"),
    "manifest-requests": _refused(
        _one_more("large", "['true']\n    resources: {requests: {memory: 9Gi}}"), "pods request 9216 MiB"
    ),
    "manifest-command": Fault(
        ADDED,
        with_command("docker.io/emilyls/resize2fs:v1", "[nothing]"),
        "container resize2fs of pod node .*nothing",
        stage=Stage.STARTING,
    ),
    "manifest-hungry": Fault(
        ADDED,
        _one_more("hungry", "[tail, /dev/zero]\n    resources: {limits: {memory: 24Mi}}"),
        "container hungry of pod node .*(OOMKilled|137)",
        stage=Stage.STARTING,
    ),
    "manifest-starving": Fault(
        ADDED,
        _one_more("starving", "[tail, /dev/zero]"),
        "container starving of pod node .*out of memory: the kernel killed tail",
        stage=Stage.STARTING,
    ),
    "manifest-endless": Fault(
        ADDED,
        _one_more("endless", "[sleep, '9999']"),
        "milestone node/endless: (nothing was heard|it did not happen)",
        stage=Stage.STARTING,
    ),
    "manifest-file": Fault(
        ADDED,
        Edit("      path: /var/run/crio.log\n", "      path: /var/run/other.log\n      type: File\n"),
        "hostPath type check failed: /var/run/other.log",
        stage=Stage.STARTING,
    ),
    "manifest-cpu": Fault(
        ADDED,
        _one_more("greedy", "['true']\n    resources: {requests: {cpu: 8}}"),
        r"rejected pod node: the node lacks 7\.00 CPUs",
        stage=Stage.STARTING,
    ),
}
