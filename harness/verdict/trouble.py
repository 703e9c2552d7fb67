"""Troubles that the firmware, the kernel and init report on the console: each line, and the cause that it stands for.

After some of them nothing more can be expected. A node may survive others, which then explain later failures.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from harness.verdict.exit_status import in_words, signal_name

# The beginning of a kernel line: printk's stamp, with the caller's id if the kernel adds it. A shell's echo has none. The
# kernel's first line after a prompt that waits for somebody to type stands behind it.
STAMP = r"^(?:[\w.@~:/-]* ?(?:[#$>]|login:|[Pp]assword:) )?\[ *\d+\.\d{6}\](?:\[ *[TC]\d+\])? "


@dataclass(frozen=True)
class Trouble:
    """A trouble's cause, in words; `is_end` says that nothing more can come after it."""

    cause: str
    at: float
    is_end: bool


@dataclass(frozen=True)
class _Kind:
    """A kind of trouble; `word` is in every line of it, and the longer it is, the faster a flood is searched for it."""

    word: str
    pattern: re.Pattern[str]
    cause: Callable[[re.Match[str]], str]
    is_end: bool = False


def _kernel(word: str, pattern: str, cause: str) -> _Kind:
    """A kind that the kernel reports; the groups of the pattern are filled into `cause` by name."""
    return _Kind(word, re.compile(STAMP + pattern), lambda match: cause.format(**match.groupdict("?")))


def _kernel_end(word: str, pattern: str, cause: str) -> _Kind:
    return replace(_kernel(word, pattern, cause), is_end=True)


_INIT_STATUS = re.compile(r"Attempted to kill init! exitcode=0x([0-9a-f]{8})")
# Reasons for which a mount is refused; other troubles with a filesystem may occur at any time.
_UNMOUNTABLE = (
    r"VFS: Can't find ext4 filesystem|unable to read superblock|bad (?:geometry|block size).*|[Uu]nsupported .*|"
    # That it is no ext3 is what a mount without a type finds out first.
    r"[Cc](?:ouldn't mount(?! as ext[23])|an't mount with) .*|.*cannot be mounted.*|filesystem too large.*|Cannot load .*|"
    r"write access unavailable.*|required journal recovery.*|.*journal (?:superblock|inode).*|no journal found|"
    r"error loading journal|ext4_check_descriptors: .*|.*root inode.*|.*corrupted.*|"
    r".*[Cc]hecksum.*(?:invalid|failed).*|.*invalid.*checksum.*"
)
_NIC_DRIVER = r"(?:virtio[\w-]*|e1000e?|igb|ena)"
_MODULE = "module {who} does not fit: {why}"
_SIGNATURE = "the kernel loads no module with such a signature: {why}"
_OF_KERNEL = (
    replace(
        # Where its first words were lost, the last line of its report has them too.
        _kernel_end(
            "Kernel panic - not syncing",
            r"(?:.*: )?(?:---\[ end )?Kernel panic - not syncing: ?(?P<why>.*?)(?: \]---)?$",
            "",
        ),
        cause=lambda panic: f"kernel panic: {panic['why']}{_how_init_ended(panic['why'])}",
    ),
    _kernel_end("Unable to mount root fs", r"(?P<why>.*Unable to mount root fs.*)", "the kernel finds no root: {why}"),
    _kernel_end("BUG: ", r"(?:.*: )?(?P<why>BUG: (?:unable to handle|kernel NULL).*)", "kernel oops: {why}"),
    _kernel_end("kernel BUG at ", r"(?:.*: )?(?P<why>kernel BUG at .*)", "kernel oops: {why}"),
    # After any trap in the kernel: its name, the error code, and its number (x86, __die_header).
    _kernel_end(" [#1]", r"(?P<why>.*: [0-9a-f]+ \[#1\].*)", "kernel oops: {why}"),
    _kernel_end("kiOS: cannot mount the data partition", r"kiOS: (?P<why>cannot mount the data partition.*)", "init {why}"),
    _kernel_end("System halted", r"reboot: (?:.*: )?System halted", "it was halted, and not switched off"),
    # These may also be caused by a host that is too busy.
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
        ": page allocation failure: ",
        r"(?:.*: )?(?P<who>.+): page allocation failure: ",
        "out of memory: the kernel had none for {who}",
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
        # A mount's options may have such words too.
        r"EXT4-fs(?: warning)? \((?:device )?(?P<where>[^)]*)\): "
        r"(?P<why>(?!(?:re-)?mounted\b).*(?:error|fail|lost|loss|aborted|can't|Cannot).*)",
        "trouble with the filesystem on {where}: {why}",
    ),
    _kernel(
        "Aborting journal on device ", r"Aborting journal on device (?P<where>\S+)\.", "the journal of {where} was given up"
    ),
    _kernel("JBD2: ", r"JBD2: (?P<why>.*(?:error|fail|corrupt|[Ii]nvalid|no valid).*)", "trouble with a journal: {why}"),
    _kernel("Primary GPT is invalid", r"(?P<why>Primary GPT is invalid.*)", "the disk's partition table is damaged: {why}"),
    _kernel(
        "unable to read partition table",
        r"(?P<where>\S+): unable to read partition table",
        "the kernel cannot read the partition table of {where}",
    ),
    _kernel(
        "FAT-fs ",
        r"FAT-fs \((?P<where>[^)]*)\): (?P<why>error, .*|Filesystem has been set read-only)",
        "filesystem error on {where}: {why}",
    ),
    # What was unpacked before stays, so a node may come up without the user's files.
    _kernel("nitramfs unpacking", r"Initramfs unpacking failed: (?P<why>.*)", "the kernel cannot unpack an initramfs: {why}"),
    _kernel(
        "is not initramfs", r"rootfs image is not initramfs \((?P<why>.*)\)", "the kernel cannot unpack an initramfs: {why}"
    ),
    _kernel(
        "check access for rdinit=", r"check access for rdinit=(?P<where>\S+) failed", "the kernel finds no init at {where}"
    ),
    _kernel("Failed to execute ", r"Failed to execute (?P<why>.* \(error .*)", "the kernel cannot start its init: {why}"),
    _kernel("Starting init: ", r"Starting init: (?P<why>.*)", "the kernel cannot start its init: {why}"),
    # All errors of the block layer, except for operations that a disk does not support.
    _kernel(
        "error, dev ", r"(?!.*operation not supported).* error, dev (?P<where>[^\s,]+),.*", "input/output error on {where}"
    ),
    _kernel("Buffer I/O error", r"Buffer I/O error on dev(?:ice)? (?P<where>[^\s,]+),.*", "input/output error on {where}"),
    _kernel(
        "nvme ",
        r"nvme (?P<where>\S+): (?P<why>.*(?:timeout(?! set)|is down|not ready|[Ff]ail|error|Disabling).*)",
        "{where}: {why}",
    ),
    _kernel("transmit queue ", r"(?P<why>.*NETDEV WATCHDOG: .*transmit queue \d+ timed out.*)", "a NIC sends nothing: {why}"),
    _kernel("TX timeout on queue", r"(?P<why>.* TX timeout on queue.*)", "a NIC sends nothing: {why}"),
    _kernel("Detected Hardware Unit Hang", r"(?P<why>.*: Detected Hardware Unit Hang)", "a NIC sends nothing: {why}"),
    _kernel("Reset adapter unexpectedly", r"(?P<why>.*: Reset adapter unexpectedly)", "a NIC was reset: {why}"),
    _kernel(
        " failed with error ",
        rf"(?P<why>{_NIC_DRIVER}\b.*: probe .*failed with error .*)",
        "a NIC has no driver: {why}",
    ),
    _kernel("version magic '", r"(?P<who>\S+): (?P<why>version magic '.*' should be '.*')", _MODULE),
    _kernel("disagrees about version of symbol ", r"(?P<who>\S+): (?P<why>disagrees about version of symbol .*)", _MODULE),
    _kernel("Unknown symbol ", r"(?P<who>\S+): (?P<why>Unknown symbol .*)", _MODULE),
    _kernel("Loading of ", r"(?P<why>Loading of (?:unsigned )?module .*is rejected)", _SIGNATURE),
    _kernel("module loading is restricted", r"(?P<why>.*: unsigned module loading is restricted)", _SIGNATURE),
)
# What the firmware (EDK II, BdsDxe) says about a disk's boot entry that it cannot load or start; the kernel never says it. An
# entry that was started had been found, even if it ends with "Not Found".
_ENTRY = re.compile(
    r"^BdsDxe: failed to (?P<verb>load|start) Boot(?P<number>[0-9A-F]{4}) (?!.*/MAC\().*: (?P<why>[A-Z][\w ]*)$"
)
_NO_SYSTEM = re.compile(r"^(?:UEFI Interactive Shell|Shell> ?$|BdsDxe: No bootable option|BdsDxe: failed to load Boot0000)")
_CRASH = re.compile(r"^!!!! (?P<why>X64 Exception Type - .*?) *(?:CPU Apic ID|!!!!)")
# The kernel's own loader, which the firmware starts; it may go on without an initramfs that it cannot load.
_STUB = re.compile(r"^EFI stub: ERROR: (?P<why>.*)")
# A compressed kernel unpacks itself, and stands still where it cannot (lib/decompress_*.c); it says so before its first stamp.
_UNPACKING = re.compile(r"^(?P<why>(?:\S+ )?data (?:is corrupt|corrupted))$")
# GRUB's words where it finds not even its own files, and where its configuration names a file that is not there.
_RESCUE, _NO_FILE = "Entering rescue mode...", re.compile(r"^error: (?P<why>file .* not found)")
_OF_FIRMWARE = (
    "UEFI Interactive Shell",
    "Shell>",
    "BdsDxe: ",
    "!!!! X64 Exception",
    "EFI stub: ERROR",
    "data is corrupt",
    "data corrupted",
    _RESCUE,
    "error: file ",
)

WORDS = (*(kind.word for kind in _OF_KERNEL), *_OF_FIRMWARE)


def of_kernel(text: str, at: float) -> Trouble | None:
    """The trouble in a line of the kernel or of init, if any."""
    for kind in _OF_KERNEL:
        if kind.word in text and (match := kind.pattern.match(text)):
            return Trouble(kind.cause(match).strip(), at, kind.is_end)
    return None


def of_firmware(text: str, at: float) -> Trouble | None:
    """The trouble in a line of the firmware, if any: no system, a refused one, or a crash."""
    if (entry := _ENTRY.match(text)) and (entry["verb"], entry["why"]) != ("load", "Not Found"):
        # The first entry is the image's own, if it has one; the firmware's own entries follow.
        why = f"the firmware refused the EFI binary ({entry['why']}): {text.strip()}"
        return Trouble(why, at, is_end=entry["number"] == "0000")
    if _NO_SYSTEM.match(text):
        return Trouble(f"the firmware found nothing to boot: {text.strip()}", at, is_end=True)
    if crash := _CRASH.match(text):
        return Trouble(f"the firmware, or the EFI binary that it started, crashed: {crash['why']}", at, is_end=True)
    if stub := _STUB.match(text):
        return Trouble(f"the kernel's EFI stub: {stub['why'].strip()}", at, is_end=False)
    if unpacking := _UNPACKING.match(text):
        return Trouble(f"the kernel could not unpack itself: {unpacking['why']}", at, is_end=True)
    if text.startswith(_RESCUE):
        return Trouble("the boot loader GRUB found nothing to start: it entered its rescue mode", at, is_end=True)
    if no_file := _NO_FILE.match(text):
        return Trouble(f"the boot loader: {no_file['why']}", at, is_end=False)
    return None


def _how_init_ended(why: str) -> str:
    """How init ended, by the status in the kernel's words, which is that of wait(2): a signal or an exit status."""
    if not (found := _INIT_STATUS.search(why)):
        return ""
    status = int(found[1], 16)
    return f", by {signal_name(status & 0x7F)}" if status & 0x7F else f", with {in_words(status >> 8 & 0xFF)}"
