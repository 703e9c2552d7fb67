"""What the firmware, the kernel and init say of their troubles on the console, each line as the cause that it stands for.

After some of them nothing more can be hoped for. Others a node may survive: they explain what fails after them.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from harness.verdict.exit_status import in_words, signal_name

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


_INIT_STATUS = re.compile(r"Attempted to kill init! exitcode=0x([0-9a-f]{8})")
# Whoever mounts a filesystem of these is refused; what else goes wrong with one may do so at any time.
_UNMOUNTABLE = (
    r"VFS: Can't find ext4 filesystem|unable to read superblock|couldn't mount.*|bad (?:geometry|block size).*|"
    r".*root inode.*|no journal found|error loading journal|.*[Cc]hecksum.*(?:invalid|failed).*|.*corrupted.*"
)
_OF_KERNEL = (
    replace(
        _kernel_end("Kernel panic - not syncing", r"(?:.*: )?Kernel panic - not syncing: ?(?P<why>.*)", ""),
        cause=lambda panic: f"kernel panic: {panic['why']}{_how_init_ended(panic['why'])}",
    ),
    _kernel_end("Unable to mount root fs", r"(?P<why>.*Unable to mount root fs.*)", "the kernel finds no root: {why}"),
    _kernel_end("BUG: ", r"(?:.*: )?(?P<why>BUG: (?:unable to handle|kernel NULL).*)", "kernel oops: {why}"),
    _kernel_end("kernel BUG at ", r"(?:.*: )?(?P<why>kernel BUG at .*)", "kernel oops: {why}"),
    # Of any trap in the kernel: what it was, the error's code, how many there were (x86, __die_header).
    _kernel_end(" [#1]", r"(?P<why>.*: [0-9a-f]+ \[#1\].*)", "kernel oops: {why}"),
    _kernel_end("kiOS: cannot mount the data partition", r"kiOS: (?P<why>cannot mount the data partition.*)", "init {why}"),
    # A host that is too busy can make a kernel say these.
    _kernel(
        "BUG: soft lockup - CPU#",
        r"(?:.*: )?BUG: soft lockup - CPU#(?P<cpu>\d+) stuck for (?P<time>\d+)s!(?: \[(?P<who>[^]]*)\])?",
        "soft lockup: CPU {cpu} was stuck for {time} s in {who}",
    ),
    _kernel(
        "Watchdog detected hard LOCKUP",
        r"(?:.*: )?Watchdog detected hard LOCKUP on cpu (?P<cpu>\d+)",
        "hard lockup: CPU {cpu} took no interrupt any more",
    ),
    _kernel(
        "INFO: rcu", r"(?:.*: )?INFO: (?P<why>rcu.*detected (?:expedited )?stalls?.*)", "the kernel's CPUs are stuck: {why}"
    ),
    _kernel(
        "INFO: task ",
        r"(?:.*: )?INFO: task (?P<who>.+):\d+ blocked (?P<how>.*)for more than (?P<time>\d+) seconds",
        "hung task: {who} was blocked {how}for more than {time} s",
    ),
    _kernel("BUG: ", r"(?:.*: )?BUG: (?P<why>.*)", "kernel bug: {why}"),
    _kernel(
        ": Killed process ",
        r"(?:.*: )?Memory cgroup out of memory.*: Killed process \d+ \((?P<who>.*)\)",
        "out of memory within a pod's limit: the kernel killed {who}",
    ),
    _kernel(
        ": Killed process ",
        r"(?:.*: )?Out of memory.*: Killed process \d+ \((?P<who>.*)\)",
        "out of memory: the kernel killed {who}",
    ),
    _kernel(
        "EXT4-fs error (device ",
        r"(?:.*: )?EXT4-fs error \(device (?P<where>[^)]*)\):? (?P<why>.*)",
        "filesystem error on {where}: {why}",
    ),
    _kernel(
        "EXT4-fs ",
        r"EXT4-fs \((?P<where>[^)]*)\): Remounting filesystem read-only",
        "{where} was remounted read-only",
    ),
    _kernel("EXT4-fs ", rf"EXT4-fs \((?P<where>[^)]*)\): (?P<why>{_UNMOUNTABLE})", "{where} cannot be mounted: {why}"),
    _kernel(
        "EXT4-fs ",
        r"EXT4-fs(?: warning)? \((?:device )?(?P<where>[^)]*)\): (?P<why>.*(?:error|fail|lost|loss).*)",
        "trouble with the filesystem on {where}: {why}",
    ),
    _kernel(
        "FAT-fs ",
        r"FAT-fs \((?P<where>[^)]*)\): (?P<why>error, .*|Filesystem has been set read-only)",
        "filesystem error on {where}: {why}",
    ),
    # What was unpacked before stays: a node may come up without its user's files.
    _kernel("nitramfs unpacking", r"Initramfs unpacking failed: (?P<why>.*)", "the kernel cannot unpack an initramfs: {why}"),
    _kernel(
        "is not initramfs", r"rootfs image is not initramfs \((?P<why>.*)\)", "the kernel cannot unpack an initramfs: {why}"
    ),
    _kernel(
        "check access for rdinit=", r"check access for rdinit=(?P<where>\S+) failed", "the kernel finds no init at {where}"
    ),
    _kernel("Failed to execute ", r"Failed to execute (?P<why>.* \(error .*)", "the kernel cannot start its init: {why}"),
    _kernel("Starting init: ", r"Starting init: (?P<why>.*)", "the kernel cannot start its init: {why}"),
    # Of the block layer's kinds of errors, only what a disk does not know how to do is none.
    _kernel(
        "error, dev ", r"(?!.*operation not supported).* error, dev (?P<where>[^\s,]+),.*", "input/output error on {where}"
    ),
    _kernel("Buffer I/O error", r"Buffer I/O error on dev(?:ice)? (?P<where>[^\s,]+),.*", "input/output error on {where}"),
    _kernel(
        "nvme ",
        r"nvme (?P<where>\S+): (?P<why>.*(?:timeout(?! set)|is down|not ready|[Ff]ail|error|Disabling).*)",
        "{where}: {why}",
    ),
)
# What a firmware (EDK II, BdsDxe) says of an entry of a disk that it cannot load or start; the kernel says none of it. What it
# started it had found, whatever that says in the end.
_ENTRY = re.compile(
    r"^BdsDxe: failed to (?P<verb>load|start) Boot(?P<number>[0-9A-F]{4}) (?!.*/MAC\().*: (?P<why>[A-Z][\w ]*)$"
)
_NO_SYSTEM = re.compile(r"^(?:UEFI Interactive Shell|Shell> ?$|BdsDxe: No bootable option|BdsDxe: failed to load Boot0000)")
_CRASH = re.compile(r"^!!!! (?P<why>X64 Exception Type - .*?) *(?:CPU Apic ID|!!!!)")
# The kernel's own loader, which the firmware starts: it may go on without the initramfs that it was told of.
_STUB = re.compile(r"^EFI stub: ERROR: (?P<why>.*)")
_OF_FIRMWARE = ("UEFI Interactive Shell", "Shell>", "BdsDxe: ", "!!!! X64 Exception", "EFI stub: ERROR")

WORDS = (*(kind.word for kind in _OF_KERNEL), *_OF_FIRMWARE)


def of_kernel(text: str, at: float) -> Trouble | None:
    """The trouble that a line of the kernel's or init's tells, if any."""
    for kind in _OF_KERNEL:
        if kind.word in text and (match := kind.pattern.match(text)):
            return Trouble(kind.cause(match).strip(), at, kind.is_end)
    return None


def of_firmware(text: str, at: float) -> Trouble | None:
    """The trouble that a line of the firmware's tells, if any: what is no system, what it refuses, and what breaks it."""
    if (entry := _ENTRY.match(text)) and (entry["verb"], entry["why"]) != ("load", "Not Found"):
        # Behind the first, which is the image's own where it has one, come the firmware's.
        why = f"the firmware refused the EFI binary ({entry['why']}): {text.strip()}"
        return Trouble(why, at, is_end=entry["number"] == "0000")
    if _NO_SYSTEM.match(text):
        return Trouble(f"the firmware found nothing to boot: {text.strip()}", at, is_end=True)
    if crash := _CRASH.match(text):
        return Trouble(f"the firmware, or the EFI binary that it started, crashed: {crash['why']}", at, is_end=True)
    if stub := _STUB.match(text):
        return Trouble(f"the kernel's EFI stub: {stub['why'].strip()}", at, is_end=False)
    return None


def _how_init_ended(why: str) -> str:
    """What the kernel tells as init's status, as wait(2) has it: a signal, or what it ended with."""
    if not (found := _INIT_STATUS.search(why)):
        return ""
    status = int(found[1], 16)
    return f", by {signal_name(status & 0x7F)}" if status & 0x7F else f", with {in_words(status >> 8 & 0xFF)}"
