"""A disk of generation B whose boot loader hands the initramfs over: what it names, and what a node is given through it."""

from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from harness import tools
from harness.errors import InputError
from harness.guest.credentials import Credentials
from harness.lab import brought as brought_image
from harness.lab import injection
from harness.lab.brought import Brought
from harness.lab.generation import Generation
from harness.lab.initramfs import LOADED
from harness.lab.loader import Entry, entry_on
from harness.lab.order import Order
from harness.manifests.pods import StaticPod
from harness.storage import cpio, esp, overlay
from harness.storage.disk import Disk
from harness.vm.machine import EARLY_CONSOLE, Machine
from tests.lab.loader_disks import ESP_SIZE, GRUB, HOSTS, MIB, START, SYSTEMD_BOOT, USERS, image, with_loader
from tests.storage.small_unified import unified_image


@pytest.mark.parametrize(
    ("files", "entry"),
    [
        (SYSTEMD_BOOT, Entry("kernel", ("user.img",))),
        ({"grub/grub.cfg": GRUB}, Entry("kernel", ("user.img",))),
        ({"grub/grub.cfg": GRUB, **SYSTEMD_BOOT}, Entry("kernel", ("user.img",))),
        ({"a.conf": b"initrd /one\ninitrd \\two\nlinux /EFI/kios.efi\n"}, Entry("EFI/kios.efi", ("one", "two"))),
        ({"a.cfg": b"linux /other\nlinux /kernel\ninitrd /one /two\n"}, Entry("kernel", ("one", "two"))),
        ({"a.conf": b"linux /kernel\n", "a.txt": GRUB}, None),
        ({"a.conf": b"\xff" * (1 << 20) + b"\n", "b.conf": b"linux /kernel\ninitrd /one\n"}, Entry("kernel", ("one",))),
        ({"a.conf": b"#\n" * (1 << 20) + b"linux /far\ninitrd /far\n"}, None),
        ({"a[1].conf": b"linux /kernel\ninitrd /one\n", "a1.conf": b""}, Entry("kernel", ("one",))),
        ({"gr\u00fc\u00dfe/m\u00e4h.conf": b"linux /kernel\ninitrd /one\n"}, Entry("kernel", ("one",))),
        ({}, None),
    ],
)
def test_what_a_loader_starts_is_told_by_its_configuration(
    files: dict[str, bytes], entry: Entry | None, tmp_path: Path
) -> None:
    assert entry_on(Disk.read(image(tmp_path, files), 512)) == entry


@pytest.mark.parametrize(
    "files",
    [
        {"a.conf": b"linux /kernel\ninitrd /one\n", "b.conf": b"linux /kernel\ninitrd /two\n"},
        {"a.cfg": b"linux /kernel\ninitrd /one\nlinux /kernel\ninitrd /two\n"},
    ],
    ids=["files", "one file"],
)
def test_a_loader_with_more_than_one_node_is_refused(files: dict[str, bytes], tmp_path: Path) -> None:
    raw = image(tmp_path, files)
    with pytest.raises(InputError, match=r"b\.img has a boot loader with 2 entries that name an initramfs: leave one"):
        entry_on(Disk.read(raw, 512))


def test_a_configuration_that_cannot_be_read_is_named_to_its_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(esp, "files", lambda _: ["loader/entries/m\ufffdh.conf"])
    with pytest.raises(InputError, match=r"b\.img has loader/entries/.*\.conf on its EFI System .* cannot be read: leave it"):
        entry_on(Disk.read(image(tmp_path, {}), 512))


def test_an_initramfs_of_too_many_files_is_refused(tmp_path: Path) -> None:
    raw = image(tmp_path, {"a.conf": b"linux /kernel\ninitrd" + b" /one" * 17 + b"\n"})
    with pytest.raises(InputError, match=r"b\.img has a boot loader that joins 17 files for one initramfs: no more than 16"):
        entry_on(Disk.read(raw, 512))


def test_an_initramfs_larger_than_all_that_is_there_is_refused(tmp_path: Path) -> None:
    large = cpio.archive({PurePosixPath("/etc/large"): bytes(ESP_SIZE // 3)})
    raw = image(tmp_path, {"a.conf": b"linux /kernel\ninitrd" + b" /user.img" * 4 + b"\n", "user.img": large})
    with pytest.raises(InputError, match=r"b\.img has a boot loader that joins more for one initramfs than there is"):
        brought(tmp_path, raw)


def test_what_a_loader_names_elsewhere_is_its_users_to_bring(tmp_path: Path) -> None:
    raw = image(tmp_path, {"a.conf": b"linux /kernel\ninitrd /boot/initrd.img\n"})
    with pytest.raises(InputError, match=r"starts a node with boot/initrd\.img, and that cannot be read on its EFI System"):
        brought(tmp_path, raw)


@pytest.mark.parametrize("name", ["EFI/Boot/Bootx64.efi", "EFI/Linux/kios.efi"])
def test_a_disk_that_starts_a_unified_kernel_image_is_refused_with_what_to_do(name: str, tmp_path: Path) -> None:
    raw = image(tmp_path, {name: unified_image({".linux": b"kernel", ".initrd": b"070701"})})
    with pytest.raises(InputError, match=rf"b\.img starts {name}, a unified kernel image, .* give --kios-efi FILE and"):
        brought(tmp_path, raw)


def test_a_disk_that_starts_a_kernel_is_refused_for_no_unified_image(tmp_path: Path) -> None:
    raw = image(tmp_path, {"EFI/Boot/Bootx64.efi": unified_image({".text": b"kernel"}), "EFI/Linux/none.efi": b"MZ"})
    assert brought(tmp_path, raw).belief.generation is Generation.A


def test_a_partition_without_a_filesystem_has_no_loader(made: Path) -> None:
    assert entry_on(Disk.read(made, 512)) is None


def brought(folder: Path, raw: Path) -> Brought:
    return brought_image.of_file(raw, folder / "cache")


def ordered(found: Brought) -> Order:
    console = StaticPod("kios-e2e.yaml", {"metadata": {"name": "kios-e2e"}, "spec": {"containers": []}})
    machine = Machine(1 << 30, kernel_arguments=EARLY_CONSOLE)
    return Order(found.disk, machine, [], console, {}, initramfs=found.initramfs, built_in=found.built_in)


def given(folder: Path, raw: Path, order: Order) -> bytes:
    """The initramfs that the loader hands over, after all was put on a node's disk."""
    disk, artifacts = folder / "disk.qcow2", folder / "artifacts"
    artifacts.mkdir()
    overlay.create(raw, disk, 32 * MIB)
    injection.inject(order, Credentials.make(folder), disk, folder / "scratch", artifacts)
    overlay.flatten(disk, folder / "flat.raw")
    return esp.read(Disk.read(folder / "flat.raw", 512), "user.img")


@pytest.mark.parametrize("behind", [b"", bytes(3)], ids=["aligned", "not aligned"])
@pytest.mark.parametrize("configuration", [SYSTEMD_BOOT, {"grub/grub.cfg": GRUB}], ids=["systemd-boot", "GRUB"])
def test_a_node_is_given_its_files_behind_those_that_the_loader_hands_over(
    configuration: dict[str, bytes], behind: bytes, tmp_path: Path
) -> None:
    user = cpio.archive(USERS) + behind
    raw = with_loader(tmp_path, configuration, user)
    found = brought(tmp_path, raw)
    assert (found.belief.generation, found.has_module("nvme")) == (Generation.B, True)
    order = ordered(found)
    whole = given(tmp_path, raw, order)
    assert whole.startswith(user)
    (tmp_path / "whole").write_bytes(whole)
    files = cpio.read(tmp_path / "whole", lambda path: path.is_relative_to("/etc"))
    assert b'"maxPods": 7' in files[PurePosixPath("/etc/kubernetes/config.yaml")], "the user's is merged"
    assert files[HOSTS].startswith(b"192.0.2.1 built-in\n"), "what is in the kernel is merged"
    assert PurePosixPath("/etc/kubernetes/manifests/kios-e2e.yaml") in files
    assert whole.index(b"070701", len(user)) % 4 == 0, "the kernel takes an archive at a multiple of 4 bytes"


def test_all_that_a_loader_joins_is_its_users(tmp_path: Path) -> None:
    configuration = {
        "a.conf": b"linux /kernel\ninitrd /user.img /more.img\n",
        "more.img": cpio.archive({HOSTS: b"192.0.2.3 b\n"}),
    }
    found = brought(tmp_path, with_loader(tmp_path, configuration, cpio.archive(USERS) + b"\0"))
    assert found.initramfs
    assert found.belief.generation is Generation.B, "by the first"
    assert found.initramfs.file_if_there(PurePosixPath("/meta/etc/hosts")) == b"192.0.2.3 b\n", "by the last"
    assert found.initramfs.loaded_as == "more.img"


def test_the_loader_is_started_with_no_words_of_the_harnesss(tmp_path: Path) -> None:
    order = ordered(brought(tmp_path, with_loader(tmp_path, SYSTEMD_BOOT)))
    assert order.initramfs
    assert order.load_options == ()
    assert order.is_silent
    without = replace(order, initramfs=replace(order.initramfs, loaded_as=""))
    assert without.load_options == (*LOADED, *EARLY_CONSOLE)
    assert not without.is_silent


def test_a_partition_without_room_is_its_users(tmp_path: Path) -> None:
    raw = with_loader(tmp_path, {**SYSTEMD_BOOT, "filler": bytes(ESP_SIZE - 200_000)})
    with pytest.raises(InputError, match=r"EFI System Partition of .*b\.img has no room for user\.img of 1 MiB, .*larger"):
        given(tmp_path, raw, replace(ordered(brought(tmp_path, raw)), files={PurePosixPath("/large"): bytes(300_000)}))


def test_a_disk_with_modules_for_its_init_is_not_asked_for_its_loader(tmp_path: Path) -> None:
    raw = image(tmp_path, {"a.cfg": b"linux /kernel\ninitrd /one\nlinux /kernel\ninitrd /two\n"})
    (tmp_path / "list").write_text("kernel/drivers/net/virtio_net.ko:\n")
    jobs = ["mkdir /modules", "mkdir /modules/6.6.1", f"write {tmp_path}/list /modules/6.6.1/modules.dep", ""]
    tools.run("debugfs", "-w", "-f", "-", f"{raw}?offset={START}", input="\n".join(jobs).encode())
    assert brought(tmp_path, raw).belief.generation is Generation.A


def test_a_loader_whose_initramfs_is_of_another_kind_is_no_generation_b(tmp_path: Path) -> None:
    others = cpio.archive({PurePosixPath("/lib/modules/6.6.1/modules.dep"): b"kernel/net/virtio_net.ko:\n"})
    found = brought(tmp_path, with_loader(tmp_path, SYSTEMD_BOOT, others))
    assert (found.belief.generation, found.initramfs) == (Generation.A, None)
