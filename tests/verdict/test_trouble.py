"""Each trouble is told from the others by the words with which real kernels and firmwares tell it."""

import pytest

from harness.verdict import trouble
from harness.verdict.feed import ConsoleLine, Feed, PodState
from harness.verdict.judge import Judge, Patience
from harness.verdict.outcome import Contradicted, TooLate, explain
from harness.verdict.situation import Awaited, Situation, tells

_ENDS = {
    "Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100": (
        "kernel panic: Attempted to kill init! exitcode=0x00000100, with status 1"
    ),
    "Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b": (
        "kernel panic: Attempted to kill init! exitcode=0x0000000b, by SIGSEGV"
    ),
    "Kernel panic - not syncing: System is deadlocked on memory": "kernel panic: System is deadlocked on memory",
    "Oops: 0002 [#1] PREEMPT SMP PTI": "kernel oops: Oops: 0002 [#1] PREEMPT SMP PTI",
    "BUG: unable to handle page fault for address: 0000000000001000": (
        "kernel oops: BUG: unable to handle page fault for address: 0000000000001000"
    ),
    "BUG: kernel NULL pointer dereference, address: 0000000000000000": (
        "kernel oops: BUG: kernel NULL pointer dereference, address: 0000000000000000"
    ),
    "kernel BUG at fs/ext4/inode.c:2714!": "kernel oops: kernel BUG at fs/ext4/inode.c:2714!",
    # Until Linux 6.9 nothing stands before the name of a trap.
    "invalid opcode: 0000 [#1] PREEMPT SMP PTI": "kernel oops: invalid opcode: 0000 [#1] PREEMPT SMP PTI",
    "stack segment: 0000 [#1] SMP": "kernel oops: stack segment: 0000 [#1] SMP",
    "general protection fault, probably for non-canonical address 0xdead000000000100: 0000 [#1] SMP": (
        "kernel oops: general protection fault, probably for non-canonical address 0xdead000000000100: 0000 [#1] SMP"
    ),
    "Oops: divide error: 0000 [#1] SMP": "kernel oops: Oops: divide error: 0000 [#1] SMP",
    # The report's last line, where its first stood behind a shell's half-typed command.
    "---[ end Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b ]---": (
        "kernel panic: Attempted to kill init! exitcode=0x0000000b, by SIGSEGV"
    ),
    'Kernel panic - not syncing: VFS: Unable to mount root fs on "" or unknown-block(0,0)': (
        'kernel panic: VFS: Unable to mount root fs on "" or unknown-block(0,0)'
    ),
    "double fault: 0000 [#1] PREEMPT SMP NOPTI": "kernel oops: double fault: 0000 [#1] PREEMPT SMP NOPTI",
    "Oops: int3: 0000 [#1] SMP": "kernel oops: Oops: int3: 0000 [#1] SMP",
    "reboot: System halted": "it was halted, and not switched off",
    # Since Linux 6.5, of a machine without a way to switch itself off.
    "reboot: Power off not available: System halted instead": "it was halted, and not switched off",
    "kiOS: cannot mount the data partition /dev/nvme0n1p2: Invalid argument": (
        "init cannot mount the data partition /dev/nvme0n1p2: Invalid argument"
    ),
}
_SURVIVED = {
    "watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [kubelet:312]": "soft lockup: CPU 0 was stuck for 26 s in kubelet:312",
    "watchdog: BUG: soft lockup - CPU#1 stuck for 22s!": "soft lockup: CPU 1 was stuck for 22 s in ?",
    "rcu: INFO: rcu_preempt self-detected stall on CPU": "the kernel's CPUs are stuck: rcu_preempt self-detected stall on CPU",
    "rcu: INFO: rcu_sched detected expedited stalls on CPUs/tasks: { 0-...D } 21 jiffies": (
        "the kernel's CPUs are stuck: rcu_sched detected expedited stalls on CPUs/tasks: { 0-...D } 21 jiffies"
    ),
    "NMI watchdog: Watchdog detected hard LOCKUP on cpu 1": "hard lockup: CPU 1 took no interrupt any more",
    "watchdog: CPU3: Watchdog detected hard LOCKUP on cpu 3": "hard lockup: CPU 3 took no interrupt any more",
    "BUG: workqueue lockup - pool cpus=0 node=0 flags=0x0 nice=0 stuck for 39s!": (
        "kernel bug: workqueue lockup - pool cpus=0 node=0 flags=0x0 nice=0 stuck for 39s!"
    ),
    "BUG: Bad page state in process kubelet  pfn:1a2b3": "kernel bug: Bad page state in process kubelet  pfn:1a2b3",
    "INFO: task jbd2/nvme0n1p2-:99 blocked for more than 122 seconds.": (
        "hung task: jbd2/nvme0n1p2- was blocked for more than 122 s"
    ),
    "INFO: task my program:99 blocked in I/O wait for more than 122 seconds.": (
        "hung task: my program was blocked in I/O wait for more than 122 s"
    ),
    "Out of memory (oom_kill_allocating_task): Killed process 88 ((a pod)) total-vm:1kB": (
        "out of memory: the kernel killed (a pod)"
    ),
    "Out of memory: Killed process 88 (crio) total-vm:1kB, anon-rss:1kB": "out of memory: the kernel killed crio",
    "Memory cgroup out of memory: Killed process 412 (tail) total-vm:1kB": (
        "out of memory within a pod's limit: the kernel killed tail"
    ),
    "EXT4-fs error (device nvme0n1p2): ext4_lookup:1855: inode #2: comm init: iget: checksum invalid": (
        "filesystem error on nvme0n1p2: ext4_lookup:1855: inode #2: comm init: iget: checksum invalid"
    ),
    "EXT4-fs (nvme0n1p2): Remounting filesystem read-only": "nvme0n1p2 was remounted read-only",
    "EXT4-fs (nvme0n1p2): VFS: Can't find ext4 filesystem": "nvme0n1p2 cannot be mounted: VFS: Can't find ext4 filesystem",
    "EXT4-fs (nvme0n1p2): couldn't mount RDWR because of unsupported optional features (400)": (
        "nvme0n1p2 cannot be mounted: couldn't mount RDWR because of unsupported optional features (400)"
    ),
    "EXT4-fs (nvme0n1p2): error loading journal": "nvme0n1p2 cannot be mounted: error loading journal",
    "EXT4-fs (nvme0n1p2): ext4_check_descriptors: Checksum for group 0 failed (1!=2)": (
        "nvme0n1p2 cannot be mounted: ext4_check_descriptors: Checksum for group 0 failed (1!=2)"
    ),
    "EXT4-fs error (device nvme0n1p2) in ext4_reserve_inode_write:5760: IO failure": (
        "filesystem error on nvme0n1p2: in ext4_reserve_inode_write:5760: IO failure"
    ),
    "EXT4-fs (nvme0n1p2): I/O error while writing superblock": (
        "trouble with the filesystem on nvme0n1p2: I/O error while writing superblock"
    ),
    "EXT4-fs (nvme0n1p2): warning: mounting fs with errors, running e2fsck is recommended": (
        "trouble with the filesystem on nvme0n1p2: warning: mounting fs with errors, running e2fsck is recommended"
    ),
    "FAT-fs (nvme0n1p1): Filesystem has been set read-only": (
        "filesystem error on nvme0n1p1: Filesystem has been set read-only"
    ),
    "check access for rdinit=/nothing failed: -2, ignoring": "the kernel finds no init at /nothing",
    "Failed to execute /init (error -8)": "the kernel cannot start its init: /init (error -8)",
    "blk_update_request: I/O error, dev nvme0n1, sector 8 op 0x0:(READ) flags 0x0": "input/output error on nvme0n1",
    "critical space allocation error, dev dm-0, sector 8 op 0x1:(WRITE)": "input/output error on dm-0",
    "Buffer I/O error on dev nvme0n1p2, logical block 0, lost sync page write": "input/output error on nvme0n1p2",
    "nvme nvme0: Disabling device after reset failure: -19": "nvme0: Disabling device after reset failure: -19",
    "nvme nvme0: Removing after probe failure status: -19": "nvme0: Removing after probe failure status: -19",
    "I/O error, dev nvme0n1, sector 2048 op 0x1:(WRITE) flags 0x800 phys_seg 1 prio class 2": "input/output error on nvme0n1",
    "Initramfs unpacking failed: invalid magic at start of compressed archive": (
        "the kernel cannot unpack an initramfs: invalid magic at start of compressed archive"
    ),
    "rootfs image is not initramfs (write error); looks like an initrd": "the kernel cannot unpack an initramfs: write error",
    "critical medium error, dev nvme0n1, sector 2048 op 0x0:(READ)": "input/output error on nvme0n1",
    "kubelet: page allocation failure: order:4, mode:0x40dc0(GFP_KERNEL|__GFP_COMP), nodemask=(null)": (
        "out of memory: the kernel had none for kubelet"
    ),
    "EXT4-fs (nvme0n1p2): Couldn't mount because of unsupported optional features (20000)": (
        "nvme0n1p2 cannot be mounted: Couldn't mount because of unsupported optional features (20000)"
    ),
    "EXT4-fs (nvme0n1p2): unsupported inode size: 1024": "nvme0n1p2 cannot be mounted: unsupported inode size: 1024",
    "EXT4-fs (nvme0n1p2): journal inode is deleted": "nvme0n1p2 cannot be mounted: journal inode is deleted",
    "EXT4-fs (nvme0n1p2): Cannot load crc32c driver.": "nvme0n1p2 cannot be mounted: Cannot load crc32c driver.",
    "EXT4-fs (nvme0n1p2): filesystem too large to mount safely on this system": (
        "nvme0n1p2 cannot be mounted: filesystem too large to mount safely on this system"
    ),
    "EXT4-fs (nvme0n1p2): write access unavailable, cannot proceed (try mounting with noload)": (
        "nvme0n1p2 cannot be mounted: write access unavailable, cannot proceed (try mounting with noload)"
    ),
    "EXT4-fs (nvme0n1p2): required journal recovery suppressed and not mounted read-only": (
        "nvme0n1p2 cannot be mounted: required journal recovery suppressed and not mounted read-only"
    ),
    "EXT4-fs (nvme0n1p2): ext4_check_descriptors: Block bitmap for group 0 overlaps superblock": (
        "nvme0n1p2 cannot be mounted: ext4_check_descriptors: Block bitmap for group 0 overlaps superblock"
    ),
    "EXT4-fs (nvme0n1p2): VFS: Found ext4 filesystem with invalid superblock checksum.  Run e2fsck?": (
        "nvme0n1p2 cannot be mounted: VFS: Found ext4 filesystem with invalid superblock checksum.  Run e2fsck?"
    ),
    "EXT4-fs (nvme0n1p2): Filesystem with casefold feature cannot be mounted without CONFIG_UNICODE": (
        "nvme0n1p2 cannot be mounted: Filesystem with casefold feature cannot be mounted without CONFIG_UNICODE"
    ),
    "EXT4-fs warning (device nvme0n1p2): ext4_resize_fs:2050: can't shrink FS - resize aborted": (
        "trouble with the filesystem on nvme0n1p2: ext4_resize_fs:2050: can't shrink FS - resize aborted"
    ),
    "EXT4-fs warning (device nvme0n1p2): verify_group_input:175: Cannot add at group 3 (only 2 groups)": (
        "trouble with the filesystem on nvme0n1p2: verify_group_input:175: Cannot add at group 3 (only 2 groups)"
    ),
    "Aborting journal on device nvme0n1p2-8.": "the journal of nvme0n1p2-8 was given up",
    "JBD2: recovery failed": "trouble with a journal: recovery failed",
    "JBD2: Detected IO errors while flushing file data on nvme0n1p2-8": (
        "trouble with a journal: Detected IO errors while flushing file data on nvme0n1p2-8"
    ),
    "Primary GPT is invalid, using alternate GPT.": (
        "the disk's partition table is damaged: Primary GPT is invalid, using alternate GPT."
    ),
    "nvme0n1: unable to read partition table": "the kernel cannot read the partition table of nvme0n1",
    "NETDEV WATCHDOG: eth0 (e1000e): transmit queue 0 timed out": (
        "a NIC sends nothing: NETDEV WATCHDOG: eth0 (e1000e): transmit queue 0 timed out"
    ),
    "virtio_net virtio0 eth0: NETDEV WATCHDOG: CPU: 0: transmit queue 0 timed out 5568 ms": (
        "a NIC sends nothing: virtio_net virtio0 eth0: NETDEV WATCHDOG: CPU: 0: transmit queue 0 timed out 5568 ms"
    ),
    "virtio_net virtio0 eth0: TX timeout on queue: 0, sq: output.0, vq: 0x1": (
        "a NIC sends nothing: virtio_net virtio0 eth0: TX timeout on queue: 0, sq: output.0, vq: 0x1"
    ),
    "e1000e 0000:00:02.0 eth0: Detected Hardware Unit Hang:": (
        "a NIC sends nothing: e1000e 0000:00:02.0 eth0: Detected Hardware Unit Hang"
    ),
    "e1000e 0000:00:02.0 eth0: Reset adapter unexpectedly": (
        "a NIC was reset: e1000e 0000:00:02.0 eth0: Reset adapter unexpectedly"
    ),
    "e1000e: probe of 0000:00:02.0 failed with error -2": (
        "a NIC has no driver: e1000e: probe of 0000:00:02.0 failed with error -2"
    ),
    # Since Linux 6.11.
    "virtio_net virtio0: probe with driver virtio_net failed with error -22": (
        "a NIC has no driver: virtio_net virtio0: probe with driver virtio_net failed with error -22"
    ),
    "tiny_power_button: version magic '6.12.1 SMP mod_unload ' should be '6.12.2 SMP mod_unload '": (
        "module tiny_power_button does not fit: version magic '6.12.1 SMP mod_unload ' should be '6.12.2 SMP mod_unload '"
    ),
    "virtio_net: disagrees about version of symbol module_layout": (
        "module virtio_net does not fit: disagrees about version of symbol module_layout"
    ),
    "virtio_net: Unknown symbol net_failover_create (err -2)": (
        "module virtio_net does not fit: Unknown symbol net_failover_create (err -2)"
    ),
    "Loading of module with unavailable key is rejected": (
        "the kernel loads no module with such a signature: Loading of module with unavailable key is rejected"
    ),
    "Lockdown: modprobe: unsigned module loading is restricted; see man kernel_lockdown.7": (
        "the kernel loads no module with such a signature: Lockdown: modprobe: unsigned module loading is restricted"
    ),
    "nvme nvme0: I/O tag 12 (100c) QID 1 timeout, aborting req_op:READ(0) size:4096": (
        "nvme0: I/O tag 12 (100c) QID 1 timeout, aborting req_op:READ(0) size:4096"
    ),
}
_FINE = [
    "EXT4-fs (nvme0n1p2): mounted filesystem 0d3f r/w with ordered data mode. Quota mode: disabled.",
    "nvme nvme0: 1/0/0 default/read/poll queues",
    "Kernel command line: panic=10 oops=panic",
    "Write protecting the kernel read-only data: 10240k",
    "nvme nvme0: Shutdown timeout set to 8 seconds",
    "operation not supported error, dev nvme0n1, sector 8 op 0x9:(WRITE_ZEROES) flags 0x800",
    "EXT4-fs (nvme0n1p2): resizing filesystem from 9000 to 800000 blocks",
    "EXT4-fs (nvme0n1p2): recovery complete",
    # Until Linux 5.17 a mount tells its options.
    "EXT4-fs (nvme0n1p2): mounted filesystem with ordered data mode. Opts: errors=remount-ro. Quota mode: none.",
    "EXT4-fs (nvme0n1p2): re-mounted. Opts: errors=remount-ro. Quota mode: none.",
    "EXT4-fs (nvme0n1p2): couldn't mount as ext3 due to feature incompatibilities",
    "EXT4-fs (nvme0n1p2): write access will be enabled during recovery",
    "EXT4-fs (nvme0n1p2): unmounting filesystem 0d3fe0c8-1a61-5ffd-9279-347dc45c358e.",
    "GPT:Primary header thinks Alt. header is not at the end of the disk.",
    "GPT: Use GNU Parted to correct GPT errors.",
    "nvme nvme0: Ignoring bogus Namespace Identifiers",
    "nvme nvme0: missing or invalid SUBNQN field.",
    "i8042: probe of i8042 failed with error -5",
    "e1000e 0000:00:02.0 eth0: NIC Link is Up 1000 Mbps Full Duplex, Flow Control: Rx/Tx",
    "virtio_net: module verification failed: signature and/or required key missing - tainting kernel",
    "clocksource: timekeeping watchdog on CPU0: Marking clocksource 'tsc' as unstable because the skew is too large:",
    "hrtimer: interrupt took 12345678 ns",
    "INFO: task kubelet:312 blocked on a mutex likely owned by task crio:22.",
    "reboot: Power down",
    "traps: app[123] general protection fault ip:7f sp:7f error:0 in libc.so.6[7f+1]",
    "app[123]: segfault at 0 ip 0 sp 0 error 4 in app[400000+1000]",
]
_FIRMWARE = {
    'BdsDxe: failed to load Boot0000 "kiOS" from HD(1,GPT,A,0x800)/EFI\\Boot\\Bootx64.efi: Not Found': "found nothing to boot",
    'BdsDxe: failed to load Boot0000 "kiOS" from HD(1,GPT,A,0x800)/EFI\\Boot\\Bootx64.efi: Unsupported': (
        "refused the EFI binary (Unsupported)"
    ),
    'BdsDxe: failed to start Boot0000 "kiOS" from HD(1,GPT,A,0x800)/EFI\\Boot\\Bootx64.efi: Load Error': (
        "refused the EFI binary (Load Error)"
    ),
    'BdsDxe: failed to start Boot0000 "kiOS" from HD(1,GPT,A,0x800)/EFI\\Boot\\Bootx64.efi: Not Found': (
        "refused the EFI binary (Not Found)"
    ),
    "UEFI Interactive Shell v2.2": "found nothing to boot",
    'BdsDxe: failed to start Boot0000 "kiOS" from HD(1,GPT,A,0x800)/EFI\\Boot\\Bootx64.efi: Security Violation': (
        "refused the EFI binary (Security Violation)"
    ),
    "!!!! X64 Exception Type - 0E(#PF - Page-Fault)  CPU Apic ID - 00000000 !!!!": (
        ", or the EFI binary that it started, crashed: X64 Exception Type - 0E(#PF - Page-Fault)"
    ),
}
_BY_ITSELF = 'Boot0001 "UEFI QEMU NVMe Ctrl kios 1" from PciRoot(0x0)/Pci(0x4,0x0)/NVMe(0x1,00-00-00-00-00-00-00-00)'
_FIRMWARE_GOES_ON = {
    f"BdsDxe: failed to load {_BY_ITSELF}: Access Denied": "the firmware refused the EFI binary (Access Denied): ",
    "EFI stub: ERROR: Failed to open file: \\user.cpio": "the kernel's EFI stub: Failed to open file: \\user.cpio",
}
_FIRMWARE_FINE = [
    f"BdsDxe: failed to load {_BY_ITSELF}: Not Found",
    'BdsDxe: failed to load Boot0002 "UEFI PXEv4" from PciRoot(0x0)/Pci(0x3,0x0)/MAC(525400123456,0x1)/IPv4(0.0.0.0): Time out',
    "EFI stub: Loaded initrd from LINUX_EFI_INITRD_MEDIA_GUID device path",
]


_BEFORE_THE_KERNEL = {
    "LZMA data is corrupt": "the kernel could not unpack itself: LZMA data is corrupt",
    "data corrupted": "the kernel could not unpack itself: data corrupted",
    "Entering rescue mode...": "the boot loader GRUB found nothing to start: it entered its rescue mode",
}


@pytest.mark.parametrize(("text", "cause"), _BEFORE_THE_KERNEL.items())
def test_what_ends_a_boot_between_firmware_and_kernel_is_told(text: str, cause: str) -> None:
    assert trouble.of_firmware(text, 1.0) == trouble.Trouble(cause, 1.0, is_end=True)
    assert tells(text)
    assert trouble.of_kernel(f"[    3.100000] {text}", 1.0) is None, "an archive that the node unpacks is not its kernel"


def test_a_file_that_grub_does_not_find_is_told() -> None:
    found = trouble.of_firmware("error: file `/vmlinuz' not found.", 1.0)
    assert found == trouble.Trouble("the boot loader: file `/vmlinuz' not found", 1.0, is_end=False)
    assert tells("error: file `/vmlinuz' not found.")


@pytest.mark.parametrize("prompt", ["kios# ", "/ # ", "root@kios-node:~# ", "$ ", "kios-node login: ", "Password: "])
def test_the_kernels_line_behind_a_prompt_is_the_kernels(prompt: str) -> None:
    panic = "[   33.100000] Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b"
    found = trouble.of_kernel(prompt + panic, 1.0)
    assert found
    assert found.is_end
    assert trouble.of_kernel(f"{prompt}echo '{panic}'", 1.0) is None, "somebody only typed it"


@pytest.mark.parametrize(("text", "cause"), [*_ENDS.items(), *_SURVIVED.items()])
def test_each_line_of_the_kernels_has_its_cause(text: str, cause: str) -> None:
    for stamp in ("[    3.100000] ", "[    3.100000][    T1] "):
        assert trouble.of_kernel(stamp + text, 1.0) == trouble.Trouble(cause, 1.0, text in _ENDS)
        assert tells(stamp + text)
    assert trouble.of_kernel(text, 1.0) is None, "anybody may write that to the port"


@pytest.mark.parametrize("text", _FINE)
def test_what_every_good_boot_says_is_no_trouble(text: str) -> None:
    assert trouble.of_kernel(f"[    3.100000] {text}", 1.0) is None


@pytest.mark.parametrize(("text", "cause"), _FIRMWARE.items())
def test_a_binary_that_is_refused_is_not_one_that_is_missing(text: str, cause: str) -> None:
    found = trouble.of_firmware(text, 1.0)
    assert found
    assert found.is_end
    assert found.cause.replace("the firmware, or", "the firmware , or").startswith(f"the firmware {cause}")
    assert tells(text)


@pytest.mark.parametrize(("text", "cause"), _FIRMWARE_GOES_ON.items())
def test_a_firmware_that_goes_on_has_its_trouble_told(text: str, cause: str) -> None:
    found = trouble.of_firmware(text, 1.0)
    assert found
    assert not found.is_end
    assert found.cause.startswith(cause)
    assert tells(text)


@pytest.mark.parametrize("text", _FIRMWARE_FINE)
def test_what_a_firmware_tries_in_vain_is_no_trouble(text: str) -> None:
    assert trouble.of_firmware(text, 1.0) is None


def test_a_survived_trouble_ends_no_wait_and_explains_its_failure() -> None:
    feed = Feed(tells)
    judge = Judge(feed)
    for text in _SURVIVED:
        feed.publish(ConsoleLine(f"[    3.100000] {text}"))
    outcome = judge.wait(lambda _: False, Patience(0, 10))
    assert outcome == TooLate(0)
    assert [each.cause for each in judge.troubles()] == list(dict.fromkeys(_SURVIVED.values()))
    words = explain(
        outcome, "milestone crio", [], [], ["the CPU was in its idle loop"], ["out of memory: the kernel killed crio"]
    )
    assert words.splitlines()[0] == (
        "milestone crio: it did not happen within 0 s; the CPU was in its idle loop; "
        "before that: out of memory: the kernel killed crio"
    )


def test_many_troubles_are_bounded() -> None:
    situation = Situation()
    for number in range(1000):
        situation.hear(ConsoleLine(f"[    3.100000] EXT4-fs error (device a): {number}"))
    assert len(situation.troubles()) < 100
    assert situation.troubles()[-1].cause == "filesystem error on a: 999"
    assert situation.troubles()[0].cause == "filesystem error on a: 0", "what came first may be why the others came"


def test_what_is_said_again_is_one_trouble_as_old_as_it_is() -> None:
    situation = Situation()
    for number in range(1000):
        situation.hear(ConsoleLine("[    3.100000] nvme nvme0: I/O 12 QID 1 timeout, aborting", at=float(number)))
    assert [(each.cause, each.at) for each in situation.troubles()] == [("nvme0: I/O 12 QID 1 timeout, aborting", 0.0)]


def test_an_init_that_finds_no_data_partition_is_known_to_look_for_it() -> None:
    situation = Situation()
    assert situation.awaits() == ""
    situation.hear(ConsoleLine("[    2.185683] Run /init as init process"))
    assert "has not found it" in situation.awaits()
    situation.hear(ConsoleLine("[    2.690788] kiOS: kiOS Init"))
    assert "has not found it" in situation.awaits()
    situation.hear(ConsoleLine("[    2.700135] kiOS: Using Datapart:"))
    assert situation.awaits() == ""


@pytest.mark.parametrize(
    ("resource", "amount"), [("memory, q: 5242880", "5 MiB of memory"), ("cpu, q: 1500", "1.50 CPUs"), ("pods, q: 2", "2 pods")]
)
def test_a_pod_without_room_is_told_what_the_node_lacks(resource: str, amount: str) -> None:
    situation = Situation()
    reason = f"UnexpectedAdmissionError: no set of running pods found to reclaim resources: [(res: {resource}), ]"
    situation.hear(PodState("hungry", "Failed", reason))
    outcome = situation.verdict([Awaited("hungry", "default", "Always")])
    assert outcome == Contradicted(f"the kubelet rejected pod hungry: the node lacks {amount} that it requests: {reason}")


@pytest.mark.parametrize(
    ("reason", "verb"), [("Evicted: The node was low on resource: memory.", "evicted"), ("OutOfmemory: too much", "rejected")]
)
def test_an_evicted_pod_is_not_one_that_was_rejected(reason: str, verb: str) -> None:
    situation = Situation()
    situation.hear(PodState("hungry", "Failed", reason))
    outcome = situation.verdict([Awaited("hungry", "default", "Always")])
    assert outcome == Contradicted(f"the kubelet {verb} pod hungry: {reason}")
