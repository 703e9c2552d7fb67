"""What the firmware, the kernel and init say of their troubles on the console, each line as the cause that it stands for.

After some of them nothing more can be hoped for. Others a node may survive: they explain what fails after them.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

# A kernel's own line: printk's stamp stands before it, with the caller's id if the kernel has that. A shell's echo has none.
STAMP = r"^\[ *\d+\.\d{6}\](?:\[ *[TC]\d+\])? "


@dataclass(frozen=True)
class Trouble:
    """`cause` is in words; `is_end` says that nothing comes after it."""

    cause: str
    at: float
    is_end: bool


@dataclass(frozen=True)
class _Kind:
    """`word` is in every line of the kind: the longer it is, the faster a flood is searched for it."""

    word: str
    pattern: re.Pattern[str]
    cause: Callable[[re.Match[str]], str]
    is_end: bool = False


def _kernel(word: str, pattern: str, cause: str) -> _Kind:
    """`cause` is filled in by the names of the pattern's groups."""
    return _Kind(word, re.compile(STAMP + pattern), lambda match: cause.format(**match.groupdict("?")))


def _kernel_end(word: str, pattern: str, cause: str) -> _Kind:
    return replace(_kernel(word, pattern, cause), is_end=True)


_OF_KERNEL = (
    _kernel_end("Kernel panic - not syncing", r"(?:.*: )?Kernel panic - not syncing: ?(?P<why>.*)", "kernel panic: {why}"),
    _kernel_end("Unable to mount root fs", r"(?P<why>.*Unable to mount root fs.*)", "the kernel finds no root: {why}"),
    _kernel_end("Oops: ", r"(?:.*: )?(?P<why>Oops: .*)", "kernel oops: {why}"),
    _kernel_end("BUG: ", r"(?:.*: )?(?P<why>BUG: (?:unable to handle|kernel NULL).*)", "kernel oops: {why}"),
    _kernel_end("general protection fault", r"(?:.*: )?(?P<why>general protection fault.*)", "kernel oops: {why}"),
    _kernel_end("kiOS: cannot mount the data partition", r"kiOS: (?P<why>cannot mount the data partition.*)", "init {why}"),
    # A host that is too busy can make a kernel say these.
    _kernel(
        "BUG: soft lockup - CPU#",
        r"(?:.*: )?BUG: soft lockup - CPU#(?P<cpu>\d+) stuck for (?P<time>\d+)s!(?: \[(?P<who>[^]]*)\])?",
        "soft lockup: CPU {cpu} was stuck for {time} s in {who}",
    ),
    _kernel("detected stall", r"(?:.*: )?INFO: (?P<why>rcu.*detected stalls?.*)", "the kernel's CPUs are stuck: {why}"),
    _kernel(
        " blocked for more than ",
        r"(?:.*: )?INFO: task (?P<who>\S+):\d+ blocked for more than (?P<time>\d+) seconds",
        "hung task: {who} was blocked for more than {time} s",
    ),
    _kernel(
        "ut of memory: Killed process ",
        r"(?:.*: )?Memory cgroup out of memory: Killed process \d+ \((?P<who>.*?)\)",
        "out of memory within a pod's limit: the kernel killed {who}",
    ),
    _kernel(
        "ut of memory: Killed process ",
        r"(?:.*: )?Out of memory: Killed process \d+ \((?P<who>.*?)\)",
        "out of memory: the kernel killed {who}",
    ),
    _kernel(
        "EXT4-fs error (device ",
        r"(?:.*: )?EXT4-fs error \(device (?P<where>[^)]*)\): (?P<why>.*)",
        "filesystem error on {where}: {why}",
    ),
    _kernel(
        "EXT4-fs ",
        r"EXT4-fs \((?P<where>[^)]*)\): Remounting filesystem read-only",
        "{where} was remounted read-only",
    ),
    _kernel(
        "EXT4-fs ",
        r"EXT4-fs \((?P<where>[^)]*)\): (?P<why>VFS: Can't find ext4 filesystem|unable to read superblock|bad geometry.*|"
        r".*checksum.*invalid.*|.*corrupted.*)",
        "{where} cannot be mounted: {why}",
    ),
    # What was unpacked before stays: a node may come up without its user's files.
    _kernel("nitramfs unpacking", r"Initramfs unpacking failed: (?P<why>.*)", "the kernel cannot unpack an initramfs: {why}"),
    _kernel(
        "is not initramfs", r"rootfs image is not initramfs \((?P<why>.*)\)", "the kernel cannot unpack an initramfs: {why}"
    ),
    _kernel("error, dev ", r".*(?:I/O|medium|timeout|target) error, dev (?P<where>\w+),.*", "input/output error on {where}"),
    _kernel("nvme ", r"nvme (?P<where>\w+): (?P<why>.*(?:timeout|controller is down|Device not ready).*)", "{where}: {why}"),
)
# What a firmware (EDK II, BdsDxe) says of an entry that it cannot load or start; the kernel says none of it.
_REFUSED = re.compile(r"^BdsDxe: failed to (?:load|start) Boot0000 .*: (?!Not Found)(?P<why>[A-Z][\w ]*)$")
_NO_SYSTEM = re.compile(r"^(?:UEFI Interactive Shell|Shell> ?$|BdsDxe: No bootable option|BdsDxe: failed to load Boot0000)")
_OF_FIRMWARE = ("UEFI Interactive Shell", "Shell>", "BdsDxe: ")

WORDS = (*(kind.word for kind in _OF_KERNEL), *_OF_FIRMWARE)


def of_kernel(text: str, at: float) -> Trouble | None:
    """The trouble that a line of the kernel's or init's tells, if any."""
    for kind in _OF_KERNEL:
        if kind.word in text and (match := kind.pattern.match(text)):
            return Trouble(kind.cause(match).strip(), at, kind.is_end)
    return None


def of_firmware(text: str, at: float) -> Trouble | None:
    """The trouble that a line of the firmware's tells, if any: what is no system, and what it refuses."""
    if refused := _REFUSED.match(text):
        return Trouble(f"the firmware refused the EFI binary ({refused['why']}): {text.strip()}", at, is_end=True)
    if _NO_SYSTEM.match(text):
        return Trouble(f"the firmware found nothing to boot: {text.strip()}", at, is_end=True)
    return None
