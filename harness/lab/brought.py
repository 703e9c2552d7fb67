"""A kiOS image that a user brings: raw, qcow2 or compressed, or the outputs of kiOS's build. It is only read."""

import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from harness import tools, user_file
from harness.errors import DamagedImageError, InputError
from harness.lab import builder, compression, data_disk, digest, loader, unified
from harness.lab.built_in import BuiltIn
from harness.lab.cache import hold
from harness.lab.generation import Belief, Generation, believed, refuse_alphas
from harness.lab.initramfs import Initramfs
from harness.storage import disk, esp, gpt, modules, overlay
from harness.storage.disk import MODULES_SINCE_B, Disk
from harness.storage.gpt import GptError

_QCOW2 = b"QFI\xfb"
# The end of a GPT header, for the larger of the two block sizes.
_HEAD = 8192
_USUAL_BLOCKS = 512
_BEYOND_THE_END = "exceeding the end of the file"
_OTHERS = {
    b"KDMV": "VMDK",
    b"vhdxfile": "VHDX",
    b"conectix": "VHD",
    b"BZh": "bzip2",
    b"\x04\x22\x4d\x18": "lz4",
    b"PK\x03\x04": "zip",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"<<< ": "VDI",
    b"# Disk D": "the description of a VMDK",
}


@dataclass(frozen=True)
class Brought:
    """What was brought: the SHA-256 digests of its files, by name, and the raw disk from which nodes are made.

    `initramfs` is the user's, for generation B; A has none. `built_in` are the files of the initramfs inside the EFI binary.
    """

    digests: dict[str, str]
    disk: Disk
    belief: Belief
    initramfs: Initramfs | None = None
    built_in: Mapping[PurePosixPath, bytes] = field(default_factory=dict)

    def has_module(self, name: str) -> bool:
        """Whether its nodes have a kernel module of that name, with - or _ in it."""
        return modules.has(self.initramfs.modules() if self.initramfs else self.disk.modules(), name)


def check_file(file: Path) -> None:
    """Raises InputError for a disk image from which no node could be made, as far as can be seen without reading all of it.

    It is a DamagedImageError if the image itself is at fault, and not how it is used.
    """
    _check(file, _of_generation_a)


def check_data_disk(file: Path) -> None:
    """As `check_file`, for a user's own disk beside a kiOS of generation B."""
    _check(file, data_disk.partition_of)


def _check(file: Path, fits: Callable[[Path], object]) -> None:
    head = user_file.head(file)
    if compression.is_compressed(head):
        _check_compressed(file)
        return
    for magic, name in _OTHERS.items():
        if head.startswith(magic):
            raise InputError(f"{file} is {name}: unpack it, or have `qemu-img convert` make a raw or qcow2 image of it.")
    if not head.startswith(_QCOW2):
        fits(file)
        return
    described = _told_of(file, "info")
    if "backing-filename" in described or "data-file" in described.get("format-specific", {}).get("data", {}):
        raise InputError(f"{file} is not whole: the rest of it is in another file. Make one: qemu-img convert -O qcow2 ...")
    if described.get("encrypted"):
        raise InputError(f"{file} is encrypted: have `qemu-img convert` make one that is not, with its key.")
    _told_of(file, "check")


def check_outputs(efi: Path, folder: Path, initrd: Path | None = None, overruled: Generation | None = None) -> Belief:
    """Returns the generation for which build outputs are taken; `folder` is kiOS's lib/modules.

    Raises InputError for outputs from which no node could be made.
    """
    if user_file.head(efi)[:2] != b"MZ":
        raise InputError(f"{efi} is no EFI binary: it does not begin with MZ (UEFI 2.10, 2.1.1). kiOS's is Bootx64.efi.")
    lists = list(folder.glob("*/modules.dep"))
    if not lists:
        raise InputError(f"{folder} holds no modules: wanted is kiOS's lib/modules, with VERSION/modules.dep in it.")
    for file in lists:
        user_file.head(file)
    belief = believed(modules.in_folder(folder), overruled)
    refuse_alphas(belief, efi)
    if unified.is_one(efi):
        _check_unified(efi, initrd, belief)
    elif belief.generation is Generation.B and initrd is None:
        raise InputError(f"{efi} is of {belief.words()}. Its configuration is a second initramfs: give it, --kios-initrd FILE.")
    if belief.generation is not Generation.B and initrd is not None:
        raise InputError(f"--kios-initrd is for generation B, and {efi} is of {belief.words()}.")
    if initrd is not None:
        user_file.head(initrd)
    return belief


def _check_unified(efi: Path, initrd: Path | None, belief: Belief) -> None:
    if belief.generation is not Generation.B:
        raise InputError(f"{efi} is a unified kernel image, with an initramfs, and its modules are of {belief.words()}.")
    if initrd is not None:
        raise InputError(f"{efi} is a unified kernel image, which has the initramfs of its user: leave --kios-initrd out.")


def of_file(file: Path, cache: Path, overruled: Generation | None = None) -> Brought:
    """Opens a disk image; a qcow2 or compressed one is unpacked in the cache, once.

    Raises InputError for an image from which no node could be made.
    """
    check_file(file)
    raw = _raw(file, cache, _of_generation_a)
    opened = disk.open_image(raw)
    may_be_loaded = overruled is Generation.B or not opened.modules()
    if entry := loader.entry_on(opened) if may_be_loaded else None:
        initramfs = _handed_over(opened, entry, cache / "images" / f"{digest.of(file)}.initramfs")
        belief = believed(initramfs.modules(), overruled)
        if belief.generation is Generation.B:
            return Brought({file.name: digest.of(file)}, opened, belief, initramfs, initramfs.built_in)
    if may_be_loaded and (name := loader.unified_image_on(opened)):
        raise InputError(
            f"{file} starts {name}, a unified kernel image, in which nothing can be put beside what it carries: take it off "
            "the disk (mcopy), and give --kios-efi FILE and --kios-modules in the place of the disk."
        )
    return _of_disk(file, cache, opened, overruled)


def _raw(file: Path, cache: Path, fits: Callable[[Path], object]) -> Path:
    """The raw disk of an image: the image itself, or unpacked in the cache. `fits` raises InputError for an unusable one."""
    head = user_file.head(file)
    packed = compression.is_compressed(head)
    if not packed and not head.startswith(_QCOW2):
        return file

    def unpack(raw: Path) -> None:
        if packed:
            compression.unpack(file, raw)
        else:
            overlay.flatten(file, raw)
        try:
            fits(raw)
        except InputError as unfit:
            # The user knows it by the name that they gave.
            raise type(unfit)(str(unfit).replace(str(raw), str(file))) from unfit

    return _kept(cache, digest.of(file), unpack)


def of_outputs(
    efi: Path,
    folder: Path,
    cache: Path,
    initrd: Path | None = None,
    overruled: Generation | None = None,
    sector_size: int | None = None,
    data: Path | None = None,
) -> Brought:
    """Makes a disk from an EFI binary and a folder of modules (kiOS contract: build outputs), with nothing else on it.

    Its blocks have `sector_size` bytes. A disk of generation B has the user's initramfs on its EFI System Partition, with
    room beside it, and on partition 2 the content of the user's disk `data`. A unified kernel image is taken apart.
    """
    belief = check_outputs(efi, folder, initrd, overruled)
    contents = sorted(file for file in folder.rglob("*") if file.is_file() and not file.is_symlink())
    digests = {efi.name: digest.of(efi), f"{folder.name}/": digest.of(*contents)}
    if initrd is not None:
        digests[initrd.name] = digest.of(initrd)
    for_kernel: tuple[str, ...] = ()
    if unified.is_one(efi):
        parts = unified.parts_of(efi, cache)
        arguments = f", with its arguments ({' '.join(parts.kernel_arguments)})" if parts.kernel_arguments else ""
        warnings.warn(
            f"{efi} is a unified kernel image: the kernel and the initramfs in it{arguments} are started by the harness's own "
            "boot entry; its stub is not tested",
            stacklevel=2,
        )
        efi, initrd, for_kernel = parts.kernel, parts.initramfs, parts.kernel_arguments
    words: list[str | Path] = ["--cache", cache.absolute(), "--efi", efi.absolute(), "--modules", folder.absolute()]
    theirs = data_disk.partition_of(raw := _raw(data, cache, data_disk.partition_of)) if data else None
    if theirs and data:
        if sector_size not in (None, theirs.sector_size):
            raise InputError(f"{data} is made for blocks of {theirs.sector_size} bytes, not {sector_size}.")
        words += ["--data", raw.absolute(), "--data-start", str(theirs.start), "--data-size", str(theirs.size)]
        digests[data.name] = digest.of(data)
    words += ["--sector-size", str(sector_size or (theirs.sector_size if theirs else _USUAL_BLOCKS))]
    built_in = BuiltIn(efi, efi.read_bytes, cache / "images" / digest.of(efi))
    if initrd is None:
        return Brought(digests, disk.open_image(Path(builder.ask("disk", *words))), belief, built_in=built_in)
    initramfs = replace(Initramfs.read(initrd, built_in), kernel_arguments=for_kernel)
    words += ["--initramfs", initrd.absolute()]
    made = disk.open_image(Path(builder.ask("disk", *words)))
    return Brought(digests, made, belief, initramfs, built_in)


def _handed_over(opened: Disk, entry: loader.Entry, kept: Path) -> Initramfs:
    """The initramfs that a boot loader on a disk passes to the kernel, joined in the file `kept`."""

    _, most = opened.extent(opened.esp)

    def join(place: Path) -> None:
        with place.open("wb") as whole:
            for name in entry.initramfs:
                whole.write(loader.file_of(opened, name))
                if whole.tell() > most:
                    raise InputError(
                        f"{opened.path} has a boot loader that joins more for one initramfs than there is on its EFI System "
                        "Partition: name each file once."
                    )

    built_in = BuiltIn(opened.path, lambda: esp.read(opened, entry.kernel), kept)
    return Initramfs.read(hold(kept, Path.exists, join), built_in, entry.initramfs[-1])


def _of_disk(file: Path, cache: Path, opened: Disk, overruled: Generation | None) -> Brought:
    belief = believed(opened.modules() or opened.modules(MODULES_SINCE_B), overruled)
    refuse_alphas(belief, file)
    if belief.generation is Generation.B:
        raise InputError(
            f"{file} is a disk of {belief.words()}. No disk has the configuration of such a node: give --kios-efi, "
            "--kios-initrd and --kios-modules in its place."
        )
    key = digest.of(file)
    built_in = BuiltIn(file, lambda: esp.loader(opened), cache / "images" / key)
    return Brought({file.name: key}, opened, belief, built_in=built_in)


def _check_compressed(file: Path) -> None:
    head = compression.head_of(file, _HEAD)
    for magic, name in {_QCOW2: "qcow2", **_OTHERS}.items():
        if head.startswith(magic):
            raise InputError(
                f"{file} holds a file that is {name}: unpack it. Of what is compressed, raw images only are taken."
            )
    if not any(head[size:].startswith(gpt.SIGNATURE) for size in gpt.SECTOR_SIZES):
        raise InputError(
            f"{file} holds no GPT disk image: 'EFI PART' is expected at byte 512 or 4096 of what is compressed in it."
        )


def _told_of(file: Path, question: str) -> dict[str, Any]:
    """What qemu-img says about a qcow2 image; raises InputError for a truncated or damaged one."""
    # A check ends with 2 if the image is damaged, and with 3 if it only takes more space than it needs.
    done = tools.run("qemu-img", question, "--output=json", "-f", "qcow2", file.absolute(), timeout=600, ok=(0, 1, 2, 3))
    said = tools.words(done)
    if done.returncode in (0, 3):
        described: dict[str, Any] = json.loads(done.stdout)
        return described
    if _BEYOND_THE_END in said or "header too short" in said:
        raise DamagedImageError(f"{file} is truncated: a part of this qcow2 image lies behind the file's end. Copy it again.")
    raise DamagedImageError(
        f"{file} is damaged: qemu-img {question} says: {done.stderr.decode(errors='replace').strip()[:500]}"
    )


def _of_generation_a(file: Path) -> None:
    try:
        table = gpt.read(file, gpt.sector_size_of(file))
    except GptError as unfit:
        raise DamagedImageError(f"{file} is no image of a kiOS disk: {unfit}.") from unfit
    if not table.of_type(gpt.DATA_PARTITION):
        raise InputError(
            f"{file} has no data partition (type {gpt.DATA_PARTITION}). kiOS of generation B, since April 2025, is made so, "
            "with its configuration in a second initramfs: give --kios-efi, --kios-initrd and --kios-modules in its place."
        )
    disk.open_image(file)


def _kept(cache: Path, key: str, make: Callable[[Path], None]) -> Path:
    """The raw disk that is kept in the cache under a key, made now if it is missing: whole or not at all."""
    return hold(cache / "images" / f"{key}.img", Path.exists, make)
