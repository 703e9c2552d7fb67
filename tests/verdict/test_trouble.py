"""Each trouble is told from the others by the words with which real kernels and firmwares tell it."""

import pytest

from harness.verdict import trouble
from harness.verdict.feed import ConsoleLine, Feed, PodState
from harness.verdict.judge import Judge, Patience
from harness.verdict.outcome import Contradicted, TooLate, explain
from harness.verdict.situation import Awaited, Situation, tells

_ENDS = {
    "Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100": (
        "kernel panic: Attempted to kill init! exitcode=0x00000100"
    ),
    "Kernel panic - not syncing: System is deadlocked on memory": "kernel panic: System is deadlocked on memory",
    "Oops: 0002 [#1] PREEMPT SMP PTI": "kernel oops: Oops: 0002 [#1] PREEMPT SMP PTI",
    "BUG: unable to handle page fault for address: 0000000000001000": (
        "kernel oops: BUG: unable to handle page fault for address: 0000000000001000"
    ),
    "BUG: kernel NULL pointer dereference, address: 0000000000000000": (
        "kernel oops: BUG: kernel NULL pointer dereference, address: 0000000000000000"
    ),
    "kiOS: cannot mount the data partition /dev/nvme0n1p2: Invalid argument": (
        "init cannot mount the data partition /dev/nvme0n1p2: Invalid argument"
    ),
}
_SURVIVED = {
    "watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [kubelet:312]": "soft lockup: CPU 0 was stuck for 26 s in kubelet:312",
    "watchdog: BUG: soft lockup - CPU#1 stuck for 22s!": "soft lockup: CPU 1 was stuck for 22 s in ?",
    "rcu: INFO: rcu_preempt self-detected stall on CPU": "the kernel's CPUs are stuck: rcu_preempt self-detected stall on CPU",
    "INFO: task jbd2/nvme0n1p2-:99 blocked for more than 122 seconds.": (
        "hung task: jbd2/nvme0n1p2- was blocked for more than 122 s"
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
    "I/O error, dev nvme0n1, sector 2048 op 0x1:(WRITE) flags 0x800 phys_seg 1 prio class 2": "input/output error on nvme0n1",
    "Initramfs unpacking failed: invalid magic at start of compressed archive": (
        "the kernel cannot unpack an initramfs: invalid magic at start of compressed archive"
    ),
    "rootfs image is not initramfs (write error); looks like an initrd": "the kernel cannot unpack an initramfs: write error",
    "critical medium error, dev nvme0n1, sector 2048 op 0x0:(READ)": "input/output error on nvme0n1",
    "nvme nvme0: I/O tag 12 (100c) QID 1 timeout, aborting req_op:READ(0) size:4096": (
        "nvme0: I/O tag 12 (100c) QID 1 timeout, aborting req_op:READ(0) size:4096"
    ),
}
_FINE = [
    "EXT4-fs (nvme0n1p2): mounted filesystem 0d3f r/w with ordered data mode. Quota mode: disabled.",
    "nvme nvme0: 1/0/0 default/read/poll queues",
    "Kernel command line: panic=10 oops=panic",
    "Write protecting the kernel read-only data: 10240k",
]
_FIRMWARE = {
    'BdsDxe: failed to load Boot0000 "kiOS" from HD(1,GPT,A,0x800)/EFI\\Boot\\Bootx64.efi: Not Found': "found nothing to boot",
    'BdsDxe: failed to load Boot0000 "kiOS" from HD(1,GPT,A,0x800)/EFI\\Boot\\Bootx64.efi: Unsupported': (
        "refused the EFI binary (Unsupported)"
    ),
    'BdsDxe: failed to start Boot0000 "kiOS" from HD(1,GPT,A,0x800)/EFI\\Boot\\Bootx64.efi: Load Error': (
        "refused the EFI binary (Load Error)"
    ),
    "UEFI Interactive Shell v2.2": "found nothing to boot",
}


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
    assert found.cause.startswith(f"the firmware {cause}")


def test_a_survived_trouble_ends_no_wait_and_explains_its_failure() -> None:
    feed = Feed(tells)
    judge = Judge(feed)
    for text in _SURVIVED:
        feed.publish(ConsoleLine(f"[    3.100000] {text}"))
    outcome = judge.wait(lambda _: False, Patience(0, 10))
    assert outcome == TooLate(0)
    assert [each.cause for each in judge.troubles()] == list(_SURVIVED.values())
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


def test_an_init_that_finds_no_data_partition_is_known_to_look_for_it() -> None:
    situation = Situation()
    assert situation.awaits() == ""
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
