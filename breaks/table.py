"""The breaks: at least one for every scenario, each with the words by which its failure is known."""

from dataclasses import dataclass

from breaks.sabotage import (
    Command,
    Edit,
    NoLoader,
    NothingToGrow,
    OneForAll,
    OnTheDisk,
    OnVariant,
    OpenNetwork,
    PageEdit,
    Sabotage,
)


@dataclass(frozen=True)
class Break:
    """What is broken for a scenario, given as `FILE::TEST` below scenarios/, and a pattern of its failure: cause and object."""

    scenario: str
    how: Sabotage
    words: str


_STEAL_CRIO = Command("(while cat /host/var/run/crio.log; do :; done) > /dev/null 2>&1 &")
_STEAL_KUBELET = Command("(while cat /host/var/run/kubelet.log; do :; done) > /dev/null 2>&1 &")
_NO_BUTTON = Edit("    - tiny-power-button\n", "")
_SMALL = Edit("    - 100%\n", "    - 70%\n")
_IMPATIENT = Edit("    - --oneshot\n", '    - --oneshot\n    - --timeout\n    - "2"\n')
_ANONYMOUS = 'sed -i \'s/"authentication": {/&"anonymous": {"enabled": true},/\' /host/etc/kubernetes/config.yaml'
_CONTEXT = "    securityContext:\n      readOnlyRootFilesystem: true\n      capabilities:\n"
_ADDED = "        add:\n        - SYS_MODULE\n"


def _oneshot_with(*words: str) -> Edit:
    return Edit("    - --oneshot\n", "    - --oneshot\n" + "".join(f"    - {word}\n" for word in words))


def _sshd_with(option: str) -> Edit:
    image = "    image: localhost/kios-e2e/sshd:v1\n"
    words = [word for setting in option.split("; ") for word in ("-o", setting)]
    return Edit(image, image + "    args:\n" + "".join(f"    - {word}\n" for word in words))


def _with_command(image: str, command: str) -> Edit:
    return Edit(f"    image: {image}\n", f"    image: {image}\n    command: {command}\n")


def _side_car(name: str) -> Edit:
    return Edit(f"  - name: {name}\n", f"  - name: {name}\n    restartPolicy: Always\n")


BREAKS = {
    "boot-loader": Break(
        "boot.py::test_firmware_starts_the_efi_binary_and_the_node_comes_up",
        NoLoader(),
        "BdsDxe: starting.*the firmware found nothing to boot",
    ),
    "boot-user": Break("boot.py::test_image_boots_as_at_a_users", NoLoader(), "milestone firmware: it did not happen"),
    "boot-kubelet": Break(
        "boot.py::test_firmware_starts_the_efi_binary_and_the_node_comes_up",
        OnTheDisk("/meta/etc/kubernetes/config.yaml", "kind: Nonsense"),
        "kubelet ended 4 times within",
    ),
    "boot-programs": Break(
        "boot.py::test_host_runs_only_init_crio_and_kubelet",
        Command("(echo 0 > /host/sys/fs/cgroup/cgroup.procs; exec sleep 999) & sleep 1"),
        "assert .*'sleep'",
    ),
    "memory-disk": Break(
        "in_memory.py::test_a_disk_is_there_once_its_driver_is_loaded",
        Command("chroot /host /bin/modprobe nvme; sleep 2"),
        "the node has nvme.* before any pod asks for it",
    ),
    "memory-grows": Break(
        "in_memory.py::test_a_disk_that_was_never_mounted_grows[512]",
        _SMALL,
        "partition 2 does not end at the last usable sector",
    ),
    "memory-cycle": Break(
        "in_memory.py::test_power_cycle_forgets_everything", _NO_BUTTON, "power-off by the guest: it did not happen"
    ),
    "memory-farewell": Break(
        "in_memory.py::test_pods_end_in_order_and_a_mounted_disk_grows_no_more",
        Edit("sleep 1; echo stopped in order", "exit 1; echo"),
        r"(?<!log)/farewell cannot be read",
    ),
    "boot-bin": Break("boot.py::test_bin_holds_only_what_kios_has", Command("touch /host/bin/sh"), "there is also sh"),
    "boot-plugin": Break(
        "boot.py::test_kubelet_is_on_its_own",
        Command("d=/host/etc/cni/net.d; mkdir -p $d; touch $d/a.conf"),
        r"a\.conf",
    ),
    "dhcp-record": Break(
        "dhcp.py::test_three_sides_of_the_lease_agree",
        Edit("mountPath: /var/db/dhcpcd", "mountPath: /var/db/other"),
        r"eth0\.lease` ended with status 1",
    ),
    "dhcp-route": Break(
        "dhcp.py::test_settings_outlive_dhcpcd_and_the_hostname",
        Command("ip route del default"),
        "the default route is '10",
    ),
    "dhcp-stays": Break(
        "dhcp.py::test_settings_outlive_dhcpcd_and_the_hostname",
        Edit("    - --oneshot\n", "    - --nobackground\n"),
        "milestone node/dhcpcd: it did not happen",
    ),
    "dhcp-gives-up": Break(
        "dhcp.py::test_without_a_server_the_node_waits_and_recovers",
        _IMPATIENT,
        "container dhcpcd of pod node ended with status 1",
    ),
    "dhcp-static": Break(
        "dhcp.py::test_without_a_server_the_node_waits_and_recovers",
        Edit("    - --oneshot\n", "    - --oneshot\n    - --static\n    - ip_address=10.0.2.15/24\n"),
        "a second DISCOVER, with no answer to the first: it did not happen",
    ),
    "dhcp-cable": Break(
        "dhcp.py::test_without_a_cable_the_node_waits_and_recovers",
        _IMPATIENT,
        "container dhcpcd of pod node ended with status 1",
    ),
    "dhcp-carrier": Break(
        "dhcp.py::test_without_a_cable_the_node_waits_and_recovers",
        Edit("    - virtio_net\n", ""),
        "eth0 is up without a carrier",
    ),
    "dhcp-renewal": Break(
        "dhcp.py::test_a_client_that_stays_renews_its_lease",
        Edit("    args:\n    - eth0\n", "    args:\n    - --oneshot\n    - eth0\n"),
        "a second REQUEST to keep the address that eth0 has: .*container dhcpcd of pod dhcp cannot run: CrashLoopBackOff",
    ),
    "dhcp-refused": Break(
        "dhcp.py::test_a_lease_that_is_refused_is_given_up_for_another",
        Edit("    args:\n    - eth0\n", "    args:\n    - --static\n    - ip_address=10.0.2.15/24\n    - eth0\n"),
        "the address that it is given in place of the first: it did not happen",
    ),
    "dhcp-router": Break(
        "dhcp.py::test_a_lease_without_a_router_has_no_default_route",
        _oneshot_with("--static", "routers=10.0.2.2"),
        "a default route that no server gave",
    ),
    "dhcp-routes": Break(
        "dhcp.py::test_the_mask_is_the_leases",
        _oneshot_with("--nooption", "classless_static_routes"),
        r"no route to 10\.9\.0\.0/16",
    ),
    "dhcp-late": Break("dhcp.py::test_a_server_may_come_minutes_late", _IMPATIENT, "dhcpcd was started again"),
    "dhcp-stray": Break(
        "dhcp.py::test_a_second_server_changes_nothing",
        _oneshot_with("--blacklist", "10.0.2.2"),
        r"the lease is of 10\.0\.2\.200",
    ),
    "dhcp-in-use": Break(
        "dhcp.py::test_an_address_in_use_is_declined",
        _oneshot_with("--noarp"),
        "a DECLINE of the address in use: it did not happen",
    ),
    "modules-before": Break(
        "modules.py::test_without_the_modules_nothing_works",
        Command("chroot /host /bin/modprobe binfmt-script"),
        "== 8",
    ),
    "modules-script": Break("modules.py::test_script_executes", Edit("    - binfmt-script\n", ""), "binfmt_script"),
    "modules-button": Break(
        "modules.py::test_power_button_ends_the_node_in_order", _NO_BUTTON, "power-off by the guest: it did not happen"
    ),
    "modules-farewell": Break(
        "modules.py::test_power_button_ends_the_node_in_order",
        Edit("sleep 1; echo stopped in order", "exit 1; echo"),
        "/meta/log/farewell",
    ),
    "modules-name": Break(
        "modules.py::test_module_that_does_not_exist_is_named",
        _with_command("docker.io/emilyls/modprobe:v1-alpha1", "[modprobe, -q]"),
        "container modprobe of pod node ended with status 1(?!.*tiny-power-buton)",
    ),
    "logs-crio": Break(
        "logs.py::test_mirror_is_complete_and_in_order[crio]", _STEAL_CRIO, "the lines written to crio.log in crio's log"
    ),
    "logs-kubelet": Break(
        "logs.py::test_mirror_is_complete_and_in_order[kubelet]",
        _STEAL_KUBELET,
        "the lines written to kubelet.log in kubelet's log",
    ),
    "logs-before": Break(
        "logs.py::test_lines_from_before_the_reader_are_there", _STEAL_CRIO, "the lines written to crio.log before"
    ),
    "logs-restart": Break(
        "logs.py::test_mirroring_outlives_a_restart_of_the_kubelet",
        # Init has the next kubelet write to a new one.
        Command("rm /host/var/run/kubelet.log"),
        "the first words of another kubelet: it did not happen",
    ),
    "logs-strangers": Break(
        "logs.py::test_strangers_read_no_logs",
        Command(f"{_ANONYMOUS}; p=$(pidof kubelet); kill $p; while [ $p = $(pidof kubelet) ]; do :; done"),
        "a stranger",
    ),
    "init-labels": Break(
        "init.py::test_labels_reach_the_kubelet",
        # As a kiOS whose buffer for labels was never emptied has it.
        OnTheDisk("/meta/etc/kubernetes/node-labels", "kubernetes.io/garbage: x"),
        "kubelet's own words.*--node-labels",
    ),
    "init-users": Break(
        "init.py::test_kubelet_finds_its_users",
        Command("rm /host/etc/passwd"),
        "kubelet's own words.*/etc/passwd",
    ),
    "init-hostname": Break(
        "init.py::test_hostname_is_the_files[bare]",
        Command("(while sleep 0.1; do nsenter -t 1 -u hostname kios-node; done) > /dev/null 2>&1 &"),
        "the node's name is 'kios-node'",
    ),
    "init-power": Break(
        "init.py::test_every_power_off_leaves_the_data_partition_clean",
        Command("(trap 'poweroff -f' TERM; while :; do sleep 1; done) > /dev/null 2>&1 &"),
        "5 of 5 power-offs left the data partition mounted",
    ),
    "order-overlap": Break(
        "order.py::test_each_container_waits_for_the_one_before",
        _side_car("modprobe"),
        "started before modprobe had ended",
    ),
    "order-failure": Break(
        "order.py::test_failure_holds_back_what_is_behind_it",
        _with_command("docker.io/emilyls/parted:v2", "[parted, --version]"),
        "does not fail as it should: container parted of pod node",
    ),
    "hardening-more": Break(
        "hardening.py::test_one_shot_tasks_may_do_what_the_manifest_grants",
        Edit(
            f"{_CONTEXT}        drop:\n        - ALL\n        add:\n        - SYS_MODULE\n",
            f"{_CONTEXT}        add:\n        - SYS_MODULE\n",
        ),
        "modprobe may do 0x",
    ),
    "hardening-root": Break(
        "hardening.py::test_log_containers_may_do_nothing",
        Edit("readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false"),
        "the root of a log container can be written to",
    ),
    "console-driver": Break(
        "console.py::test_login_commands_and_a_hard_life",
        Edit('    - "8250"\n', "    - virtio_net\n"),
        "container agetty of pod console",
    ),
    "exec-commands": Break(
        "exec.py::test_commands_run_in_their_container", Command("rm /host/bin/crun"), "container is not created or running"
    ),
    "exec-output": Break(
        "exec.py::test_output_comes_whole",
        Edit("trap 'sleep 1", "rm /bin/cat; echo '#!/bin/md5sum' > /bin/cat; chmod +x /bin/cat; trap 'sleep 1"),
        "bytes came, and they are not the file",
    ),
    "machine-card": Break(
        "machine.py::test_intel_card_has_the_lease",
        Command("cd /sys/bus/pci/drivers/e1000e && echo 0000:* > unbind"),
        "readlink /sys/class/net/eth0/device/driver` ended with status 1",
    ),
    "machine-cpus": Break(
        "machine.py::test_both_cpus_work_for_pods",
        Command("echo 0 > /sys/devices/system/cpu/cpu1/online"),
        "pods may use 1 CPUs of 2",
    ),
    "examples-hold": Break(
        "examples.py::test_examples_hold_one_after_the_other", Command("hostname other"), r"'other\\n' == 'kios-node\\n'"
    ),
    "examples-scenarios": Break(
        "examples.py::test_scenarios_of_the_page_pass",
        Edit("    - 100%\n", "    - all\n"),
        r"container parted of pod node ended with status 1: \S",
    ),
    "ssh-commands": Break("ssh.py::test_commands_and_their_status", _sshd_with("ForceCommand=/bin/false"), r"b'out\\n'"),
    "ssh-files": Break("ssh.py::test_files_up_and_down", _sshd_with("ForceCommand=/bin/false"), "EOF during negotiation"),
    "ssh-strangers": Break(
        "ssh.py::test_another_key_is_refused",
        _sshd_with("AuthorizedKeysCommand=/bin/echo %t %k; AuthorizedKeysCommandUser=root"),
        "does not fail as it should: SSH: Authentication failed",
    ),
    "inventory-port": Break(
        "inventory.py::test_a_node_listens_on_the_kubelets_port_alone",
        Command("nc -l -p 7000 > /dev/null 2>&1 &"),
        r"there also listens \[7000\]",
    ),
    "udev-modules": Break(
        "udev.py::test_hot_plugged_card_gets_its_driver",
        Edit(
            "mountPath: /lib/modules\n      readOnly: true\n    - name: control",
            "mountPath: /other\n      readOnly: true\n    - name: control",
        ),
        "igb .*eth1.*: it did not happen",
    ),
    "udev-none": Break(
        "udev.py::test_without_udev_it_has_none",
        Edit("    - e1000\n", "    - e1000\n    - igb\n"),
        "does not fail as it should: did not happen within",
    ),
    "clone-clock": Break(
        "clone.py::test_ready_node_is_live_and_true",
        Command("date -u -s '2026-01-01 00:00:00'"),
        "the node's clock is off by -",
    ),
    "clone-resolver": Break(
        "clone.py::test_ready_node_reaches_the_resolver_of_its_lease",
        Command("ip address flush dev eth0"),
        r"a question to 10\.0\.2\.3 on the wire: it did not",
    ),
    "clone-host": Break(
        "clone.py::test_ready_node_reaches_nothing_of_its_hosts", OpenNetwork(), "a connection from the node came through"
    ),
    "clone-shared": Break("clone.py::test_ready_node_is_nobody_elses", OneForAll(), "/host/var/log/mine"),
    "clone-power": Break(
        "clone.py::test_ready_node_can_be_powered_off_and_booted", _NO_BUTTON, "power-off by the guest: it did not happen"
    ),
    "bundle-memory": Break(
        "bundle.py::test_failed_node_goes_on_where_it_failed",
        Command("(while :; do rm -f /host/run/here; sleep 0.2; done) > /dev/null 2>&1 &"),
        "can't open '/host/run/here'",
    ),
    "bundle-disk": Break(
        "bundle.py::test_failed_node_of_another_qemu_boots_its_disk",
        Command("touch /host/etc/written /tmp/written && mount -o bind /tmp/written /host/etc/written"),
        "its disk is not as it was left: b''",
    ),
    "resize-table": Break("resize.py::test_data_partition_fills_a_larger_disk[4]", _SMALL, "the kernel sees partition 2 end"),
    "resize-content": Break(
        "resize.py::test_disk_of_the_images_size_is_left_alone",
        Command("echo > /host/etc/keepsakes/1"),
        "keepsakes/1 changed in the resize",
    ),
    "resize-again": Break("resize.py::test_second_boot_finds_nothing_to_do", _SMALL, "partition 2 did not grow"),
    "resize-2-tib": Break("resize.py::test_sparse_disk_of_2_tib", _SMALL, "the kernel sees partition 2 end"),
    "resize-4096": Break("resize.py::test_disk_with_4096_byte_blocks", _SMALL, "the kernel sees partition 2 end"),
    "resize-parted": Break(
        "resize.py::test_without_parted_the_partition_is_named",
        NothingToGrow(),
        "does not fail as it should: the kernel sees partition 2 end",
    ),
    "resize-resize2fs": Break(
        "resize.py::test_without_resize2fs_the_filesystem_is_named",
        NothingToGrow(),
        "does not fail as it should: bytes of filesystem in",
    ),
    "resize-number": Break(
        "resize.py::test_wrong_partition_number_fails_the_container",
        _with_command("docker.io/emilyls/parted:v2", "[parted, --version]"),
        "does not fail as it should: container parted of pod node",
    ),
    "resize-nothing": Break(
        "resize.py::test_disk_of_the_images_size_is_left_alone",
        OnVariant("a"),
        r"container resize2fs of pod node ended with status 1(?!.*too many block group)",
    ),
    "resize-2-tib-of-1-kib": Break("resize.py::test_sparse_disk_of_2_tib", OnVariant("a"), "too many block group descriptors"),
    "refused-ports": Break(
        "refused.py::test_refused_manifest_is_named_with_the_reason[ports]",
        Command("kill -STOP $(pidof tinycat)"),
        "milestone odd/main: (nothing was heard|it did not happen)",
    ),
    "refused-offline": Break(
        "refused.py::test_refusal_is_known_without_a_network",
        Command("kill -STOP $(pidof tinycat)"),
        "milestone odd/main: (nothing was heard|it did not happen)",
    ),
    "page-interface": Break(
        "page.py::test_the_page_runs", PageEdit("  - eth0\n", "  - eth9\n"), "container dhcpcd of pod node ended.*eth9"
    ),
}
# One for each way in which the truth is found, all on clones: minutes, for every run of CI.
SHORT = ("boot-bin", "dhcp-route", "logs-crio", "clone-shared", "order-failure")
