"""The harness's options of pytest: declared, and refused before collection if no node could be made from them."""

import json
from pathlib import Path

import pytest

from harness import named, tools, user_file
from harness.errors import HarnessError, InputError
from harness.lab import builder, bundle, cache, capacity, digest
from harness.lab.generation import THE_REFERENCE, Belief, Generation
from harness.lab.host import FIRMWARES
from harness.lab.own_files import OwnPods
from harness.lab.size import size_in_bytes
from harness.lab.wanted import Wanted
from harness.qualification.matrix import TIERS
from harness.shard import Shard
from harness.vm.accelerator import WISHES
from harness.vm.machine import NETWORKS, NICS, SECTOR_SIZES

_MEMORY = "1G"
_DEFAULTS = {"memory": _MEMORY, "nic": NICS[0], "cpus": 1, "firmware": FIRMWARES[0]}


def add(parser: pytest.Parser) -> None:
    """Adds the harness's options."""
    group = parser.getgroup("kios", "kiOS end-to-end harness")
    group.addoption(
        "--kios-image",
        type=named.path,
        metavar="FILE",
        help="disk image to test: raw, qcow2, or raw and compressed with gzip, xz or zstd; it is only read "
        "(default: the reference image, built if missing)",
    )
    group.addoption(
        "--kios-efi", type=named.path, metavar="FILE", help="instead of an image, kiOS's EFI binary, with --kios-modules"
    )
    group.addoption(
        "--kios-modules", type=named.path, metavar="DIR", help="kiOS's lib/modules, for the disk that is made from both"
    )
    group.addoption(
        "--kios-initrd", type=named.path, metavar="FILE", help="with those two, for kiOS of generation B, the user's initramfs"
    )
    group.addoption(
        "--generation",
        type=Generation,
        choices=[Generation.A, Generation.B],
        help="the generation of the kiOS under test (default: judged by its modules)",
    )
    group.addoption(
        "--own-pods",
        type=OwnPods,
        choices=list(OwnPods),
        default=OwnPods.LEFT_OUT,
        help="whether pods that the image brings run beside a test's (default: %(default)s)",
    )
    group.addoption(
        "--container",
        type=named.path,
        action="append",
        default=[],
        metavar="FILE",
        help="OCI archive of a container image that manifests name and the image lacks; may be given more than once",
    )
    group.addoption("--image-cache", type=named.path, metavar="DIR", help="where the reference image's parts are kept")
    group.addoption(
        "--disk-size",
        type=named.word,
        metavar="SIZE",
        help="size of a node's disk if the scenario names none, as 2G (default: twice the image)",
    )
    group.addoption("--memory", default=_MEMORY, metavar="SIZE", help="memory of a node (default: %(default)s)")
    group.addoption("--nic", choices=NICS, default=NICS[0], help="a node's NIC (default: %(default)s)")
    group.addoption("--cpus", type=int, default=1, metavar="N", help="CPUs of a node (default: %(default)s)")
    group.addoption(
        "--sector-size",
        type=int,
        choices=SECTOR_SIZES,
        help="bytes in a block of a node's disk (default: the image's)",
    )
    group.addoption(
        "--firmware",
        choices=FIRMWARES,
        default=FIRMWARES[0],
        help="`newest` comes with the QEMU in the cache, `system` is the distribution's (default: %(default)s)",
    )
    group.addoption(
        "--accelerator",
        choices=WISHES,
        default="auto",
        help="what runs the guest's instructions (default: KVM if it is proven to work, else TCG)",
    )
    group.addoption(
        "--network",
        choices=NETWORKS,
        default="restricted",
        help="`restricted` denies a node TCP connections to this host and beyond; `open` denies nothing",
    )
    group.addoption(
        "--qemu", type=named.word, metavar="PROGRAM", help="QEMU 10 or newer (default: the one in the cache, else the system's)"
    )
    group.addoption(
        "--boot-anyway",
        action="store_true",
        help="boot again for each test what did not come up in an earlier one (default: such tests are blocked)",
    )
    group.addoption("--cold", action="store_true", help="boot every node instead of cloning one that was booted once")
    group.addoption("--repeat", type=int, default=1, metavar="N", help="run each test N times, and report how often it passed")
    group.addoption(
        "--tier",
        choices=TIERS,
        default=TIERS[-1],
        help="`presubmit` runs only the tests marked so, if any is; the others run all tests (default: %(default)s)",
    )
    group.addoption(
        "--shard",
        type=named.word,
        metavar="K/N",
        help="run the K-th of N parts of the tests; the parts together are all of them",
    )
    group.addoption(
        "--artifacts",
        type=named.path,
        default=Path("artifacts"),
        metavar="DIR",
        help="logs of every node, by test (default: %(default)s)",
    )
    group.addoption(
        "--page", type=named.path, metavar="FILE", help="kiOS's documentation page on static pods, to be run as it is written"
    )
    group.addoption(
        "--keep-on-failure",
        action="store_true",
        help="keep a failed test's nodes running, with the ways in and their consoles on this terminal; then keep their disks",
    )
    group.addoption(
        "--bundle-on-failure",
        action="store_true",
        help="when a node fails a test, freeze each of the test's nodes into a file that `kios-e2e enter` resumes",
    )
    group.addoption(
        "--bundle-limit",
        default=f"{bundle.LIMIT >> 30}G",
        metavar="SIZE",
        help="the total size of such files among the artifacts, 0 for none (default: %(default)s)",
    )


def check(config: pytest.Config) -> None:
    """Refuses options that no node could be made from: raises pytest.UsageError."""
    try:
        wanted(config).check()
        if page := config.getoption("page"):
            user_file.head(page)
        if config.getoption("repeat") < 1:
            raise InputError("--repeat takes 1 or more.")
        if config.getoption("shard"):
            Shard.parse(config.getoption("shard"))
        size_in_bytes(config.getoption("bundle_limit"))
        if config.getoption("disk_size"):
            _refuse_less_than_the_image(config)
        # A project whose tests need no node may run where none fits.
        if config.getoption("memory") != _MEMORY:
            capacity.refuse_what_never_fits(size_in_bytes(config.getoption("memory")), capacity.capacity())
    except HarnessError as refused:
        raise pytest.UsageError(str(refused)) from refused


def believed_generation(config: pytest.Config) -> Belief | None:
    """What the options alone say about the generation under test; None if a disk image has yet to be read."""
    is_read_later = config.getoption("kios_image") and not config.getoption("kios_efi")
    return None if is_read_later else wanted(config).belief() or THE_REFERENCE


def _refuse_less_than_the_image(config: pytest.Config) -> None:
    """Raises InputError for a --disk-size that cannot hold the image, if that is there already."""
    if config.getoption("kios_efi"):
        return
    try:
        image = config.getoption("kios_image") or Path(builder.ask("find", "--cache", cache_of(config))) / "kios.img"
    except HarnessError:
        return
    size = json.loads(tools.run("qemu-img", "info", "--output=json", image.absolute()).stdout)["virtual-size"]
    if (asked := config.getoption("disk_size")) and size_in_bytes(asked) < size:
        raise InputError(f"--disk-size {asked} cannot hold {image}, which has {size >> 20} MiB.")


def wanted(config: pytest.Config) -> Wanted:
    """What the options want of nodes."""
    return Wanted.named_by(config.option)


def bundle_limit(config: pytest.Config) -> int:
    """The total size that bundles of the run may have, in bytes; 0 if none are asked for."""
    return size_in_bytes(config.getoption("bundle_limit")) if config.getoption("bundle_on_failure") else 0


def dimensions(config: pytest.Config) -> dict[str, str]:
    """The options that choose something of a machine other than its default, as they are written."""
    asked = {name: config.getoption(name) for name in ("disk_size", "sector_size", "nic", "cpus", "memory", "firmware")}
    chosen = {name.replace("_", "-"): str(value) for name, value in asked.items() if value and value != _DEFAULTS.get(name)}
    if config.getoption("accelerator") != "auto":
        chosen["accelerator"] = config.getoption("accelerator")
    return {**chosen, **({"start": "cold"} if config.getoption("cold") else {})}


def tested_beside(config: pytest.Config) -> dict[str, str]:
    """The SHA-256 digests of what is tested beside an image: container images, and the page."""
    page: Path | None = config.getoption("page")
    return {str(file): digest.of(file) for file in (*config.getoption("container"), *([page] if page else []))}


def cache_of(config: pytest.Config) -> Path:
    return cache.folder(config.getoption("image_cache"))
