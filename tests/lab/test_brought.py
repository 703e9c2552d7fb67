"""Images that are brought: small ones of each kind, made here; what is taken, what is refused, and nothing written to."""

import os
import shutil
import stat
from collections.abc import Container
from pathlib import Path, PurePosixPath

import pytest

from harness import tools
from harness.errors import DamagedImageError, HarnessError, InputError
from harness.lab import brought as brought_image
from harness.lab import builder
from harness.lab.wanted import Wanted
from harness.storage import overlay
from tests.lab.small_images import ESP, MIB, START, digest, make_disk, make_modules


def test_a_raw_image_is_taken_where_it_is(raw: Path, made: Path, tmp_path: Path) -> None:
    brought = brought_image.of_file(raw, tmp_path / "cache")
    assert brought.digests == {"kios.img": digest(made)}
    assert brought.disk.path == raw
    assert brought.disk.data.first * 512 == START
    assert digest(raw) == digest(made)
    assert not (tmp_path / "cache").exists()


def test_a_qcow2_image_is_unpacked_in_the_cache(qcow2: Path, raw: Path, tmp_path: Path) -> None:
    before = digest(qcow2)
    brought = brought_image.of_file(qcow2, tmp_path / "cache")
    assert brought.digests == {"kios.qcow2": before}
    assert brought.disk.path.is_relative_to(tmp_path / "cache")
    assert brought.disk.path.read_bytes() == raw.read_bytes()
    assert digest(qcow2) == before


def test_a_qcow2_image_is_unpacked_once(qcow2: Path, tmp_path: Path) -> None:
    first = brought_image.of_file(qcow2, tmp_path / "cache").disk.path
    there = first.stat()
    second = brought_image.of_file(qcow2.rename(tmp_path / "renamed.qcow2"), tmp_path / "cache").disk.path
    assert (second, second.stat().st_ino, second.stat().st_mtime_ns) == (first, there.st_ino, there.st_mtime_ns)
    assert list(first.parent.glob("*.img")) == [first]


def test_another_qcow2_image_of_the_name_is_another_disk(qcow2: Path, tmp_path: Path) -> None:
    first = brought_image.of_file(qcow2, tmp_path / "cache")
    tools.run("qemu-io", "-f", "qcow2", "-c", "write -q -P 7 7864320 512", qcow2)
    second = brought_image.of_file(qcow2, tmp_path / "cache")
    assert second.digests != first.digests
    assert second.disk.path.read_bytes()[7864320:][:512] == b"\7" * 512


def test_an_unpacking_that_fails_leaves_nothing(qcow2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tools.run

    def fail_half_way(name: str, *args: str | Path, timeout: float = 60, ok: Container[int] = (0,)) -> object:
        if "convert" in args:
            Path(args[-1]).write_bytes(b"half")
            raise HarnessError("no room")
        return run(name, *args, timeout=timeout, ok=ok)

    monkeypatch.setattr(tools, "run", fail_half_way)
    with pytest.raises(HarnessError, match="no room"):
        brought_image.of_file(qcow2, tmp_path / "cache")
    assert [file.suffix for file in (tmp_path / "cache/images").iterdir()] == [".lock"]


@pytest.mark.parametrize("option", ["backing_file={},backing_fmt=raw", "data_file={}"], ids=["backing file", "data file"])
def test_a_qcow2_image_that_is_not_whole_is_refused(raw: Path, tmp_path: Path, option: str) -> None:
    rest = Path(shutil.copyfile(raw, tmp_path / "rest.img"))
    part = tmp_path / "part.qcow2"
    tools.run("qemu-img", "create", "-q", "-f", "qcow2", "-o", option.format(rest), part, "8M")
    with pytest.raises(HarnessError, match=r"part\.qcow2 is not whole: .* qemu-img convert -O qcow2"):
        brought_image.of_file(part, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_an_encrypted_qcow2_image_is_not_damaged(qcow2: Path, tmp_path: Path) -> None:
    with qcow2.open("r+b") as file:
        file.seek(32)
        file.write((1).to_bytes(4))  # QEMU's docs/interop/qcow2.rst: crypt_method, AES
    with pytest.raises(InputError, match=r"kios\.qcow2 is encrypted: ") as refused:
        brought_image.of_file(qcow2, tmp_path / "cache")
    assert not isinstance(refused.value, DamagedImageError)


def test_a_qcow2_image_for_which_the_cache_has_no_room_leaves_nothing(qcow2: Path, small_disk: Path) -> None:
    tools.run("qemu-io", "-f", "qcow2", "-c", "write -q -P 7 7864320 262144", "-c", "write -q -P 7 0 5242880", qcow2)
    with pytest.raises(HarnessError, match=f"No space is left in {small_disk}/images"):
        brought_image._raw(qcow2, small_disk, lambda _: None)
    assert [file.suffix for file in (small_disk / "images").iterdir()] == [".lock"]


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"KDMV\1\0\0\0", "VMDK"),
        (b"vhdxfile", "VHDX"),
        (b"conectix", "VHD"),
        (b"BZh91AY", "bzip2"),
        (b"\x04\x22\x4d\x18", "lz4"),
        (b"PK\x03\x04", "zip"),
        (b"7z\xbc\xaf\x27\x1c", "7z"),
        (b"<<< Oracle VM VirtualBox Disk Image >>>", "VDI"),
        (b"# Disk DescriptorFile", "the description of a VMDK"),
    ],
)
def test_another_format_is_refused_by_its_name(tmp_path: Path, head: bytes, name: str) -> None:
    file = tmp_path / "kios.img"
    file.write_bytes(head.ljust(4096, b"\0"))
    with pytest.raises(HarnessError, match=rf"kios\.img is {name}: unpack it, or have `qemu-img convert`"):
        brought_image.of_file(file, tmp_path / "cache")


@pytest.mark.parametrize(
    ("size", "words"), [(0, "is an empty file"), (4096, "is not a GPT disk image")], ids=["empty", "zeros"]
)
def test_what_is_no_disk_is_refused(tmp_path: Path, size: int, words: str) -> None:
    file = tmp_path / "kios.img"
    file.write_bytes(bytes(size))
    with pytest.raises(HarnessError, match=rf"kios\.img {words}"):
        brought_image.of_file(file, tmp_path / "cache")


def test_a_file_that_is_not_there_is_named(raw: Path, tmp_path: Path) -> None:
    (tmp_path / "dangling.img").symlink_to("nowhere")
    for path in (tmp_path / "none.img", tmp_path / "dangling.img", raw / "inside.img"):
        with pytest.raises(InputError, match=f"There is no file {path}."):
            brought_image.of_file(path, tmp_path / "cache")


def test_what_is_no_file_is_called_what_it_is(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path, kind in ((tmp_path, "folder"), (tmp_path / "fifo", "FIFO"), (Path("/dev/null"), "character device")):
        with pytest.raises(InputError, match=f"{path} is no regular file: it is a {kind}"):
            brought_image.check_file(path)


def test_a_block_device_is_to_be_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = os.stat_result((stat.S_IFBLK | 0o600, *[0] * 9))
    monkeypatch.setattr(Path, "stat", lambda _: device)
    with pytest.raises(InputError, match=r"/dev/sdx is a block device, no regular file\. Copy it to one: dd bs=1M if=/dev/sdx"):
        brought_image.check_file(Path("/dev/sdx"))


@pytest.mark.parametrize("left", [100, 65536, 70_000, 300_000, -100_000])
def test_a_truncated_qcow2_image_is_called_so_before_it_is_unpacked(qcow2: Path, tmp_path: Path, left: int) -> None:
    os.truncate(qcow2, left % qcow2.stat().st_size)
    with pytest.raises(InputError, match=r"kios\.qcow2 is truncated: .* Copy it again"):
        brought_image.check_file(qcow2)


def test_a_damaged_qcow2_image_is_called_so(qcow2: Path) -> None:
    with qcow2.open("r+b") as file:
        file.seek(40)
        file.write(b"\xff" * 8)  # where the table of its clusters is
    with pytest.raises(InputError, match=r"kios\.qcow2 is damaged: qemu-img info says: "):
        brought_image.check_file(qcow2)


def test_a_truncated_raw_image_is_called_so(raw: Path) -> None:
    raw.chmod(0o600)
    os.truncate(raw, 7 * MIB)
    with pytest.raises(InputError, match=r"kios\.img is damaged: it is truncated: its table is of a disk of 16384 sectors"):
        brought_image.check_file(raw)


def test_an_enlarged_image_is_taken(raw: Path, tmp_path: Path) -> None:
    raw.chmod(0o600)
    os.truncate(raw, 9 * MIB + 102)
    enlarged = brought_image.of_file(raw, tmp_path / "cache").disk
    assert enlarged.size == 9 * MIB + 512
    overlay.create(raw, tmp_path / "overlay", enlarged.size)


def test_an_image_without_an_esp_is_refused(raw: Path) -> None:
    raw.chmod(0o600)
    tools.run("sfdisk", "-q", "--delete", raw, "2")
    with pytest.raises(InputError, match=r"kios\.img is no image of a kiOS disk: the disk has no EFI System Partition"):
        brought_image.check_file(raw)


def test_a_disk_that_kioss_build_makes_of_generation_b_is_told_by_its_modules(tmp_path: Path) -> None:
    """Its data partition is of kiOS's type, and has the modules where the build has left them: below lib."""
    raw = make_disk(tmp_path / "b.img")
    (tmp_path / "list").write_text("kernel/drivers/nvme/host/nvme.ko:\n")
    jobs = ["rm /modules/6.1.0/modules.dep", "rmdir /modules/6.1.0", "rmdir /modules"]
    jobs += [
        "mkdir /lib",
        "mkdir /lib/modules",
        "mkdir /lib/modules/6.12.9",
        f"write {tmp_path}/list /lib/modules/6.12.9/modules.dep",
    ]
    tools.run("debugfs", "-w", "-f", "-", f"{raw}?offset={START}", input="\n".join([*jobs, ""]).encode())
    with pytest.raises(InputError, match=r"b\.img is a disk of generation B: nvme is one of its modules \(6\.12\.9\)"):
        brought_image.of_file(raw, tmp_path / "cache")


def test_an_image_without_a_data_partition_is_of_generation_b(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"b\.img has no data partition .* generation B, .* give --kios-efi, --kios-initrd"):
        brought_image.of_file(make_disk(tmp_path / "b.img", ESP), tmp_path / "cache")


def test_a_damaged_image_is_refused(raw: Path, tmp_path: Path) -> None:
    raw.chmod(0o600)
    with raw.open("r+b") as file:
        file.seek(-512, os.SEEK_END)
        file.write(b"X")
    with pytest.raises(InputError, match=r"kios\.img is damaged: the backup is bad"):
        brought_image.of_file(raw, tmp_path / "cache")


class Images:
    """In place of `python -m images disk`: hands out a disk made before, and tells what it was asked for."""

    def __init__(self, made: Path) -> None:
        self.made = made
        self.asked: list[tuple[str | Path, ...]] = []

    def __call__(self, *words: str | Path) -> str:
        self.asked.append(words)
        return str(self.made)


@pytest.fixture
def images(made: Path, monkeypatch: pytest.MonkeyPatch) -> Images:
    images = Images(made)
    monkeypatch.setattr(builder, "ask", images)
    return images


@pytest.fixture
def efi(tmp_path: Path) -> Path:
    """An EFI binary, as far as it is looked at."""
    (tmp_path / "Bootx64.efi").write_bytes(b"MZ" + bytes(100))
    return tmp_path / "Bootx64.efi"


def test_a_disk_is_made_of_outputs(
    images: Images, made: Path, efi: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_modules(tmp_path / "modules")
    (tmp_path / "modules/6.1.0/build").symlink_to("/nowhere")
    monkeypatch.chdir(tmp_path)
    brought = brought_image.of_outputs(Path(efi.name), Path("modules"), Path("cache"))
    dep = tmp_path / "modules/6.1.0/modules.dep"
    assert brought.digests == {"Bootx64.efi": digest(efi), "modules/": digest(dep)}
    assert brought.disk.path == made
    # `images` runs in another folder.
    places = ("--cache", tmp_path / "cache", "--efi", efi, "--modules", tmp_path / "modules")
    assert images.asked == [("disk", *places, "--sector-size", "512")]


@pytest.mark.parametrize(("wished", "made_for"), [(None, "512"), (512, "512"), (4096, "4096")])
def test_outputs_become_a_disk_of_the_blocks_that_are_wanted(
    images: Images, efi: Path, tmp_path: Path, wished: int | None, made_for: str
) -> None:
    wanted = Wanted(efi=efi, modules=make_modules(tmp_path / "modules"), sector_size=wished)
    wanted.bring(tmp_path / "cache")
    wanted.of_large_blocks().bring(tmp_path / "cache")
    assert [words[-2:] for words in images.asked] == [("--sector-size", made_for), ("--sector-size", "4096")]


@pytest.mark.parametrize("content", [b"", b"M", b"\x7fELF"], ids=["empty", "short", "ELF"])
def test_a_binary_that_is_not_efi_is_refused(images: Images, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "kernel").write_bytes(content)
    with pytest.raises(HarnessError, match=r"kernel is no EFI binary: it does not begin with MZ"):
        brought_image.of_outputs(tmp_path / "kernel", make_modules(tmp_path / "modules"), tmp_path / "cache")
    assert not images.asked


def test_a_binary_that_is_not_there_is_named(images: Images, tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"There is no file .*/none\.efi\."):
        brought_image.of_outputs(tmp_path / "none.efi", make_modules(tmp_path / "modules"), tmp_path / "cache")


@pytest.mark.parametrize("folder", ["none", "empty", "modules/6.1.0"], ids=["missing", "empty", "one version"])
def test_a_folder_without_modules_is_refused(images: Images, efi: Path, tmp_path: Path, folder: str) -> None:
    (tmp_path / "empty/6.1.0").mkdir(parents=True)
    make_modules(tmp_path / "modules")
    with pytest.raises(HarnessError, match=f"{folder} holds no modules: wanted is kiOS's lib/modules"):
        brought_image.of_outputs(efi, tmp_path / folder, tmp_path / "cache")
    assert not images.asked


def test_a_list_of_modules_that_cannot_be_read_is_named(images: Images, efi: Path, tmp_path: Path) -> None:
    make_modules(tmp_path / "modules")
    (tmp_path / "modules/6.2.0/modules.dep").mkdir(parents=True)
    with pytest.raises(InputError, match=r"6\.2\.0/modules\.dep is no regular file: it is a folder"):
        brought_image.of_outputs(efi, tmp_path / "modules", tmp_path / "cache")
    assert not images.asked


@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("overlay", True),
        ("nf-tables", True),
        ("nf_tables", True),
        ("usb-storage", True),
        ("usb_storage", True),
        ("overlayfs", False),
        ("over", False),
        ("nfnetlink", False),
        ("", False),
    ],
)
def test_a_module_is_found_by_its_name(raw: Path, tmp_path: Path, name: str, there: bool) -> None:
    assert brought_image.of_file(raw, tmp_path / "cache").disk.has_module(name) is there


@pytest.mark.parametrize("left", ["/modules", "/modules/6.1.0", ""], ids=["empty", "no list", "none"])
def test_a_disk_without_modules_has_none(raw: Path, tmp_path: Path, left: str) -> None:
    raw.chmod(0o600)
    jobs = ["rm /modules/6.1.0/modules.dep", "rmdir /modules/6.1.0", "rmdir /modules"]
    done = jobs[: {"/modules/6.1.0": 1, "/modules": 2, "": 3}[left]]
    tools.run("debugfs", "-w", "-f", "-", f"{raw}?offset={START}", input="\n".join([*done, ""]).encode())
    found = brought_image.of_file(raw, tmp_path / "cache").disk
    assert found.file_if_there(PurePosixPath("/modules/6.1.0/modules.dep")) is None
    assert not found.has_module("overlay")
