"""A unified kernel image in the place of kiOS's EFI binary: taken apart, and what its stub would have done, done otherwise."""

from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from harness.errors import DamagedImageError, InputError
from harness.lab import builder, unified
from harness.lab.generation import Generation
from harness.lab.initramfs import LOADED
from harness.lab.order import Order
from harness.lab.wanted import Wanted
from harness.storage import cpio
from harness.vm.machine import EARLY_CONSOLE, Machine
from tests.lab.loader_disks import HOSTS, USERS, kernel
from tests.lab.small_images import make_disk, make_modules
from tests.storage.small_unified import unified_image

INITRAMFS = cpio.archive(USERS)
KERNEL = kernel({HOSTS: b"192.0.2.1 built-in\n"})
PARTS = {".text": b"stub", ".linux": KERNEL, ".initrd": INITRAMFS, ".cmdline": b"quiet  mem=1G\n\0"}


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What the program that makes disks was asked for."""
    asked: list[tuple[Any, ...]] = []
    made = make_disk(tmp_path / "made.img")

    def ask(*words: Any) -> str:
        asked.append(words)
        return str(made)

    monkeypatch.setattr(builder, "ask", ask)
    return asked


def wanted(folder: Path, parts: dict[str, bytes], modules: str = "kernel/nvme.ko:\n", **more: Any) -> Wanted:
    efi, listed = folder / "kios.efi", folder / "modules/6.12.9/modules.dep"
    efi.write_bytes(unified_image(parts))
    listed.parent.mkdir(parents=True)
    listed.write_text(modules)
    return Wanted(efi=efi, modules=folder / "modules", **more)


def test_its_kernel_and_its_initramfs_are_booted_by_an_entry_of_the_harnesss(
    tmp_path: Path, asked: list[tuple[Any, ...]]
) -> None:
    named = wanted(tmp_path, PARTS)
    named.check()
    with pytest.warns(
        UserWarning, match=r"kios\.efi is a unified kernel image: .* \(quiet mem=1G\) are started by the harness"
    ):
        found = named.bring(tmp_path / "cache")
    assert found
    assert found.initramfs
    assert found.belief.generation is Generation.B
    options = dict(zip(asked[0][1::2], asked[0][2::2], strict=True))
    assert options["--efi"].read_bytes() == KERNEL
    assert options["--initramfs"].read_bytes() == INITRAMFS
    assert found.digests.keys() == {"kios.efi", "modules/"}
    assert b"maxPods: 7" in (found.initramfs.file_if_there(PurePosixPath("/meta/etc/kubernetes/config.yaml")) or b"")
    assert found.built_in[HOSTS] == b"192.0.2.1 built-in\n"
    nothing: Any = None
    machine = Machine(1 << 30, kernel_arguments=EARLY_CONSOLE)
    order = Order(found.disk, machine, [], nothing, {}, initramfs=found.initramfs)
    assert order.load_options == (*LOADED, "quiet", "mem=1G", *EARLY_CONSOLE)


@pytest.mark.parametrize(
    ("parts", "modules", "initrd", "why"),
    [
        (PARTS, "kernel/nvme.ko:\n", True, "has the initramfs of its user: leave --kios-initrd out"),
        (PARTS, "kernel/overlay.ko:\n", False, "with an initramfs, and its modules are of generation A"),
        ({".linux": KERNEL}, "kernel/nvme.ko:\n", True, r"without an initramfs: give the kernel that is in it \(objcopy"),
        ({**PARTS, ".profile": b"ID=one"}, "kernel/nvme.ko:\n", False, "of more than one profile"),
    ],
    ids=["two of them", "generation A", "no initramfs", "profiles"],
)
def test_one_that_is_no_node_of_generation_b_is_refused(
    parts: dict[str, bytes], modules: str, initrd: bool, why: str, tmp_path: Path
) -> None:
    (tmp_path / "initrd").write_bytes(INITRAMFS)
    named = wanted(tmp_path, parts, modules, initrd=tmp_path / "initrd" if initrd else None)
    with pytest.raises(InputError, match=rf"kios\.efi is a unified kernel image.* {why}"):
        named.check()


@pytest.mark.parametrize("whole", [PARTS, {".setup": b"kernel", ".data": b"packed"}], ids=["unified", "kernel"])
def test_a_binary_that_was_cut_off_is_damaged(whole: dict[str, bytes], tmp_path: Path) -> None:
    efi = tmp_path / "kios.efi"
    efi.write_bytes(unified_image(whole)[:-1])
    with pytest.raises(DamagedImageError, match=r"kios\.efi is truncated: it ends before what its sections have"):
        Wanted(efi=efi, modules=make_modules(tmp_path / "modules")).check()


def test_one_that_is_cut_off_in_a_part_is_not_taken_apart(tmp_path: Path) -> None:
    (tmp_path / "kios.efi").write_bytes(unified_image(PARTS)[:1600])
    with pytest.raises(DamagedImageError, match=r"kios\.efi is truncated: it ends before what its sections have"):
        unified.parts_of(tmp_path / "kios.efi", tmp_path / "cache")


@pytest.mark.parametrize(
    "binary",
    [b"", b"MZ", KERNEL, unified_image({".text": b"kernel"}), unified_image(PARTS)[:500], b"MZ" + b"\xff" * 4094],
    ids=["nothing", "short", "kernel", "other sections", "cut off in its headers", "headers nowhere"],
)
def test_any_other_binary_is_none(binary: bytes, tmp_path: Path) -> None:
    (tmp_path / "kios.efi").write_bytes(binary)
    assert not unified.is_one(tmp_path / "kios.efi")


def test_a_kernel_of_its_own_goes_on_as_before(tmp_path: Path, asked: list[tuple[Any, ...]]) -> None:
    (tmp_path / "kios.efi").write_bytes(KERNEL)
    found = Wanted(efi=tmp_path / "kios.efi", modules=make_modules(tmp_path / "modules")).bring(tmp_path / "cache")
    assert found
    assert asked[0][asked[0].index("--efi") + 1] == tmp_path / "kios.efi"
