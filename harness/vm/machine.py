"""The emulated machine as values, and QEMU's command line as a pure function of them."""

import sys
from dataclasses import dataclass
from pathlib import Path

from harness.errors import InputError

MIB = 1 << 20
NICS = ("virtio-net-pci", "e1000e", "e1000")
SECTOR_SIZES = (512, 4096)
# Puts the kernel's log on the serial port from its first line, although the port's driver is a module and `quiet` is built in.
EARLY_CONSOLE = ("earlyprintk=serial,ttyS0,115200,keep", "loglevel=7")
# Measured with the reference image in steps of 32 MiB: with 544, its kernel panics as it unpacks the initramfs.
_LEAST_MEMORY = 576 * MIB
# What QEMU's tables can map of a qcow2 file with clusters of 64 KiB (QCOW_MAX_L1_SIZE).
_MOST_DISK = 1 << 51
_MOST_CPUS = 64  # Linux' CONFIG_NR_CPUS on x86-64, where it is not set otherwise
KUBELET_PORT = 10250
SSH_PORT = 22
# Where a node reaches the run's registry of container images: an address for documentation (RFC 5737), beyond its router.
REGISTRY = ("198.51.100.1", 5000)
# The address of this host's loopback in QEMU's user network.
LOOPBACK = "10.0.2.2"
NETWORKS = ("restricted", "open")
# QMP's names for the other end of eth0's cable, the disk, the capture, and the free slot for one more card.
NETWORK = "net"
DISK = "disk"
CAPTURE = "capture"
SLOT = "free-slot"
# The name of the guest's memory in a machine's state. It is QEMU's own name for memory without a file on a q35 (query-machines,
# default-ram-id), so that a state saved from memory in a file can be restored to memory without one.
_RAM = "pc.ram"


@dataclass(frozen=True)
class Machine:
    """A PC of type q35 with UEFI, one NVMe disk and one NIC, which the guest calls eth0.

    `memory` and `disk_size` are bytes, `sector_size` is the size of a logical block (512 or 4096). `kernel_arguments` are
    appended to the kernel's built-in command line; without any, the firmware starts the disk as it does for a user.
    On a `restricted` network the guest has its lease and the harness can reach it, but it cannot open TCP connections (see
    `confine`); on an `open` one it reaches this host's loopback, and whatever this host reaches.
    """

    disk_size: int
    sector_size: int = 512
    memory: int = 1024 * MIB
    cpus: int = 1
    nic: str = "virtio-net-pci"
    network: str = "restricted"
    mac: str = "52:54:00:6b:69:6f"
    kernel_arguments: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises InputError for a machine on which no node could run."""
        if self.memory < _LEAST_MEMORY:
            least = _LEAST_MEMORY // MIB
            raise InputError(
                f"{self.memory // MIB} MiB of memory are too little: the reference image boots from {least} MiB on."
            )
        if self.memory % MIB:
            raise InputError(f"{self.memory} bytes of memory are no whole number of MiB: ask for {self.memory // MIB}M.")
        if self.sector_size not in SECTOR_SIZES:
            raise InputError(f"Logical blocks of {self.sector_size} bytes do not exist on NVMe: use 512 or 4096.")
        if self.disk_size <= 0 or self.disk_size % self.sector_size:
            raise InputError(f"A disk of {self.disk_size} bytes is no whole number of {self.sector_size}-byte blocks.")
        if self.disk_size > _MOST_DISK:
            raise InputError(
                f"The {self.disk_size >> 40} TiB of a disk are too many: QEMU makes one of {_MOST_DISK >> 40} at most."
            )
        if self.nic not in NICS:
            raise InputError(f"The kernel has no driver for the NIC {self.nic}: use one of {', '.join(NICS)}.")
        if self.network not in NETWORKS:
            raise InputError(f"There is no network {self.network!r}: use one of {', '.join(NETWORKS)}.")
        if self.cpus < 1:
            raise InputError(f"A machine with {self.cpus} CPUs does not start.")
        if self.cpus > _MOST_CPUS:
            raise InputError(f"{self.cpus} CPUs are too many: by default, a kernel for x86-64 uses {_MOST_CPUS} at most.")


@dataclass(frozen=True)
class Accelerator:
    """How the guest's instructions run: `kvm` or `tcg`, on which CPU model, and how fast.

    `slowness` is this host's time over the reference host's (2 cores, TCG): the factor of every deadline. `reason` says in
    one line why this accelerator was chosen.
    """

    name: str
    cpu: str
    slowness: float
    reason: str


@dataclass(frozen=True)
class SharedMemory:
    """Guest memory in a file to which the machine writes, so that the file has it when the machine is frozen."""

    path: Path


@dataclass(frozen=True)
class FrozenMemory:
    """Guest memory mapped from a file that other machines map too; what this one writes stays private.

    A machine with it waits for the rest of its state (`migrate-incoming`) instead of starting at its reset vector.
    """

    path: Path


@dataclass(frozen=True)
class CarriedMemory:
    """Guest memory that comes with the rest of a frozen machine's state, for which the machine waits as well."""


Memory = SharedMemory | FrozenMemory | CarriedMemory | None
"""Where a machine's memory is; None for private memory that is empty at first."""


@dataclass(frozen=True)
class Files:
    """The files with which a machine is started: firmware code, which is shared, and its own variables, disk and capture."""

    code: Path
    variables: Path
    disk: Path
    capture: Path
    memory: Memory = None


@dataclass(frozen=True)
class Channels:
    """File descriptors of the open sockets that QEMU inherits: for QMP, and for the serial ports.

    The first port is the console; the second is the harness's agent's, None for a machine without one.
    """

    qmp: int
    console: int
    agent: int | None = None

    @property
    def all(self) -> tuple[int, ...]:
        """All of them."""
        return (self.qmp, self.console, *(() if self.agent is None else (self.agent,)))


def argv(
    qemu: Path,
    machine: Machine,
    accelerator: Accelerator,
    files: Files,
    channels: Channels,
    registry: int | None = None,
) -> list[str]:
    """Returns the command line of a machine that is stopped before its first instruction (`-S`).

    The guest's ports of the kubelet and of SSH are forwarded from ports on 127.0.0.1 that the kernel chooses. `registry` is
    the only port on 127.0.0.1 to which the guest may connect, through `LOOPBACK`; a `Wire` redirects there what it sends to
    `REGISTRY`. QEMU's own way to serve an address of its network needs connections to ports that cannot be known beforehand.
    """
    return [
        *_confined(machine, registry),
        str(qemu),
        *("-nodefaults", "-no-user-config", "-display", "none", "-S"),
        # An image under test is not trusted.
        *("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"),
        *("-machine", "q35,pflash0=code,pflash1=variables" + _backend(files.memory)),
        *_memory(machine, files.memory),
        *("-accel", accelerator.name, "-cpu", accelerator.cpu),
        *("-smp", str(machine.cpus), "-m", f"{machine.memory // MIB}M"),
        *("-rtc", "base=utc"),
        *("-blockdev", f"driver=raw,node-name=code,read-only=on,file.driver=file,file.filename={option_value(files.code)}"),
        *("-blockdev", f"driver=raw,node-name=variables,file.driver=file,file.filename={option_value(files.variables)}"),
        *(
            "-blockdev",
            f"driver=qcow2,node-name={DISK},discard=unmap,file.driver=file,file.filename={option_value(files.disk)}",
        ),
        *("-device", _nvme(machine)),
        *("-netdev", _network()),
        *("-device", f"{machine.nic},netdev={NETWORK},mac={machine.mac}"),
        *("-object", f"filter-dump,id={CAPTURE},netdev={NETWORK},file={option_value(files.capture)}"),
        *("-device", f"pcie-root-port,id={SLOT},chassis=1"),
        *("-device", "VGA"),
        *("-chardev", f"socket,id=qmp,fd={channels.qmp}", "-mon", "chardev=qmp,mode=control"),
        *("-chardev", f"socket,id=console,fd={channels.console}", "-serial", "chardev:console"),
        *_second_port(channels.agent),
    ]


def _second_port(agent: int | None) -> list[str]:
    return [] if agent is None else ["-chardev", f"socket,id=agent,fd={agent}", "-serial", "chardev:agent"]


def _confined(machine: Machine, registry: int | None) -> list[str]:
    if machine.network == "open":
        return []
    confine = str(Path(__file__).with_name("confine.py"))
    return [sys.executable, "-S", "-E", confine, *([] if registry is None else [str(registry)]), "--"]


def _network() -> str:
    return ",".join([f"user,id={NETWORK}", *(f"hostfwd=tcp:127.0.0.1:0-:{port}" for port in (KUBELET_PORT, SSH_PORT))])


def _nvme(machine: Machine) -> str:
    size = machine.sector_size
    return f"nvme,serial=kios-e2e,drive={DISK},logical_block_size={size},physical_block_size={size}"


def _backend(memory: Memory) -> str:
    return f",memory-backend={_RAM}" if isinstance(memory, SharedMemory | FrozenMemory) else ""


def _memory(machine: Machine, memory: Memory) -> list[str]:
    match memory:
        case None:
            return []
        case SharedMemory(path):
            return ["-object", f"{_memory_file(machine, path)},share=on"]
        case FrozenMemory(path):
            return ["-object", f"{_memory_file(machine, path)},share=off,readonly=on,rom=off", "-incoming", "defer"]
        case CarriedMemory():
            return ["-incoming", "defer"]


def _memory_file(machine: Machine, path: Path) -> str:
    return f"memory-backend-file,id={_RAM},size={machine.memory},mem-path={option_value(path)}"


def option_value(path: Path) -> str:
    """A path as a value in a comma-separated option, in which commas are doubled."""
    return str(path).replace(",", ",,")
