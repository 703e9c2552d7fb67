"""The accelerator of this host, chosen by proof: the firmware runs on it for a moment.

That `/dev/kvm` opens proves nothing: the guest may die at its first instruction, or QEMU with it.
"""

import contextlib
import hashlib
import json
import os
import platform
import shutil
import socket
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness import told, whole_file
from harness.errors import HarnessError
from harness.serial.console import Console
from harness.verdict.feed import ConsoleLine, Feed, Happening
from harness.verdict.judge import Patience, wait
from harness.verdict.outcome import Met, Outcome, QemuDied
from harness.vm.firmware import Firmware
from harness.vm.machine import Accelerator, Channels, option_value
from harness.vm.process import QemuProcess
from harness.vm.qemu import version_of
from harness.vm.qmp import Qmp

WISHES = ("auto", "kvm", "tcg")
# The cheapest under TCG of the models tried. It has RDRAND, without which Go programs wait, and no 5-level page tables. With
# ERMS, kernels copy byte by byte, which takes TCG twice as long as words.
_TCG_CPU = "Haswell-noTSX,-erms"
# The firmware's first words on the reference host: 2 cores, TCG, OVMF of Debian 12.
_REFERENCE_SECONDS = 6.0
# Beyond this factor, the host was busy when it was measured, or is busy now.
_FAR_OFF = 2.0
# A host that is fast at this moment may be busy later, so deadlines become shorter only with proven KVM.
_LEAST_SLOWNESS = {"kvm": 0.25, "tcg": 1.0}
_PROOF = {"kvm": Patience(within=15, silence=15), "tcg": Patience(within=120, silence=120)}


def choose(wish: str, qemu: Path, firmware: Firmware, memory_file: Path, scratch: Path) -> Accelerator:
    """Returns the accelerator for `auto`, `kvm` or `tcg`, proven now, or earlier on this same host (`memory_file`).

    The proof leaves nothing in the folder `scratch`.
    Raises HarnessError if KVM was asked for by name and does not run a guest, or if nothing does.
    """
    key = _host_key(wish, qemu, firmware)
    remembered = _remembered(memory_file).get(key)
    if remembered is not None:
        return remembered
    chosen = _prove(wish, qemu, firmware, scratch)
    _remember(memory_file, key, chosen)
    return chosen


def forget_if_wrong(memory_file: Path, accelerator: Accelerator, seconds: float) -> None:
    """Makes the next run measure the host again if the firmware of a boot took `seconds`, far from the remembered time."""
    off_by = _slowness(accelerator.name, seconds) / accelerator.slowness
    if not 1 / _FAR_OFF <= off_by <= _FAR_OFF:
        _write(memory_file, {key: entry for key, entry in _remembered(memory_file).items() if entry != accelerator})


def _prove(wish: str, qemu: Path, firmware: Firmware, scratch: Path) -> Accelerator:
    why_not_kvm = "asked for" if wish == "tcg" else _why_kvm_cannot()
    if not why_not_kvm:
        seconds, fault = _try(qemu, firmware, "kvm", "host", scratch)
        if seconds is not None:
            return Accelerator("kvm", "host", _slowness("kvm", seconds), f"KVM ran the firmware in {seconds:.1f} s")
        why_not_kvm = fault
    if wish == "kvm":
        raise HarnessError(f"KVM was asked for, but {why_not_kvm}.\nMend that, or run with --accelerator=tcg.")
    seconds, fault = _try(qemu, firmware, "tcg", _TCG_CPU, scratch)
    if seconds is None:
        raise HarnessError(f"QEMU cannot even emulate the firmware: {fault}.\nCheck {qemu} and {firmware.code}.")
    reason = "TCG as asked for" if wish == "tcg" else f"TCG, because {why_not_kvm}"
    return Accelerator("tcg", _TCG_CPU, _slowness("tcg", seconds), reason)


def _why_kvm_cannot() -> str:
    device = Path("/dev/kvm")
    if not device.exists():
        return "/dev/kvm does not exist"
    if not os.access(device, os.R_OK | os.W_OK):
        return "/dev/kvm may not be opened by this user (sudo adduser $USER kvm)"
    return ""


def _slowness(name: str, seconds: float) -> float:
    return max(_LEAST_SLOWNESS[name], seconds / _REFERENCE_SECONDS)


def _try(qemu: Path, firmware: Firmware, name: str, cpu: str, scratch: Path) -> tuple[float | None, str]:
    """Returns the seconds to the firmware's first words, or None and what went wrong."""
    with tempfile.TemporaryDirectory(prefix="proof-", dir=scratch) as folder, contextlib.ExitStack() as stack:
        variables = Path(folder) / "variables.fd"
        shutil.copyfile(firmware.variables, variables)
        feed = Feed()
        ends = [socket.socketpair(), socket.socketpair()]
        for ours, theirs in ends:
            stack.callback(ours.close)
            stack.callback(theirs.close)
        (qmp_end, qmp_theirs), (console_end, console_theirs) = ends
        channels = Channels(qmp_theirs.fileno(), console_theirs.fileno())
        argv = proof_argv(qemu, firmware, variables, name, cpu, channels)
        began = time.monotonic()
        process = QemuProcess.start(argv, [channels.qmp, channels.console], Path(folder) / "qemu.log", feed)
        stack.callback(process.kill)
        for _, theirs in ends:
            theirs.close()
        console = Console(console_end, feed, Path(folder) / "console.log")
        stack.callback(console.close)
        qmp = Qmp(qmp_end, feed, Path(folder) / "qmp.log")
        stack.callback(qmp.close)
        try:
            qmp.connect(10)
            qmp.execute("cont")
        except HarnessError:
            outcome = wait(feed, lambda _: False, Patience(5, 5))
        else:
            outcome = wait(feed, _firmware_speaks, _PROOF[name])
        if isinstance(outcome, Met) and outcome.happening:
            return outcome.happening.at - began, ""
        return None, _fault(name, outcome)


def proof_argv(qemu: Path, firmware: Firmware, variables: Path, name: str, cpu: str, channels: Channels) -> list[str]:
    """The smallest machine that can run the firmware: no disk, no network."""
    return [
        str(qemu),
        *("-nodefaults", "-no-user-config", "-display", "none", "-S", "-m", "256M"),
        *("-machine", "q35,pflash0=code,pflash1=variables", "-accel", name, "-cpu", cpu),
        *("-blockdev", f"driver=raw,node-name=code,read-only=on,file.driver=file,file.filename={option_value(firmware.code)}"),
        *("-blockdev", f"driver=raw,node-name=variables,file.driver=file,file.filename={option_value(variables)}"),
        *("-chardev", f"socket,id=qmp,fd={channels.qmp}", "-mon", "chardev=qmp,mode=control"),
        *("-chardev", f"socket,id=console,fd={channels.console}", "-serial", "chardev:console"),
    ]


def _firmware_speaks(happening: Happening) -> bool:
    return isinstance(happening, ConsoleLine) and bool(happening.text.strip())


def _fault(name: str, outcome: Outcome) -> str:
    match outcome:
        case QemuDied(status, words):
            last = words.strip().splitlines()[-1:] or ["without a word"]
            return f"QEMU ended with status {status} on it ({last[0]})"
        case _ if name == "kvm":
            return "/dev/kvm opens, but a guest does not run on it (KVM internal error)"
        case _:
            return "its firmware says nothing"


def _host_key(wish: str, qemu: Path, firmware: Firmware) -> str:
    code = firmware.code.stat()
    facts: Sequence[object] = (
        wish,
        _TCG_CPU,
        version_of(qemu),
        firmware.code,
        (code.st_size, code.st_mtime_ns),
        platform.node(),
        platform.release(),
        os.cpu_count(),
        os.access("/dev/kvm", os.R_OK | os.W_OK),
    )
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def _remembered(memory_file: Path) -> dict[str, Accelerator]:
    try:
        entries = {key: told.value(Accelerator, entry) for key, entry in json.loads(memory_file.read_text()).items()}
    except (OSError, ValueError, AttributeError, RecursionError):
        return {}
    # No host is infinitely fast, nor runs backwards.
    return {key: entry for key, entry in entries.items() if entry.slowness > 0}


def _remember(memory_file: Path, key: str, accelerator: Accelerator) -> None:
    _write(memory_file, {**_remembered(memory_file), key: accelerator})


def _write(memory_file: Path, entries: Mapping[str, Accelerator]) -> None:
    content = {name: vars(entry) for name, entry in entries.items()}
    # A cache that cannot be written costs a proof each time.
    with contextlib.suppress(OSError):
        memory_file.parent.mkdir(parents=True, exist_ok=True)
        whole_file.write(memory_file, json.dumps(content, indent=1))
