"""The initramfs inside a kernel: kernels made here, of a header and a packed payload, as the kernel's build lays them out."""

import bz2
import contextlib
import gzip
import lzma
import random
import shutil
import struct
import sys
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

import pytest

from harness import tools
from harness.storage import cpio, kernel
from harness.storage.kernel import KernelError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_CONFIG = PurePosixPath("/etc/kubernetes/config.yaml")
_FILES = {_CONFIG: b"kind: KubeletConfiguration\n", PurePosixPath("/bin/kubelet"): b"\x7fELF" * 1000}
# As init/initramfs.c has it beside the archive.
_VMLINUX = b"\x7fELF" + bytes(1000) + b"070701\0070702\0no cpio magic\0" + cpio.archive(_FILES) + bytes(5000)


def lz4(content: bytes) -> bytes:
    if not shutil.which("lz4"):
        pytest.skip("lz4 is not installed")
    return tools.run("lz4", "-l", "-c", input=content).stdout


def efi(packed: bytes, magic: bytes = b"HdrS", protocol: int = 0x20F) -> bytes:
    """A binary with one sector of setup code; the payload begins 100 bytes behind it, its unpacked size at its end."""
    head = bytearray(2 * 512)
    head[0x1F1], head[0x202:0x206] = 1, magic
    struct.pack_into("<H", head, 0x206, protocol)
    struct.pack_into("<II", head, 0x248, 100, len(packed) + 4)
    return bytes(head) + bytes(100) + packed + struct.pack("<I", len(_VMLINUX)) + bytes(4000)


def read(binary: bytes) -> dict[PurePosixPath, bytes]:
    return dict(kernel.initramfs_in(binary, lambda path: path == _CONFIG))


@pytest.mark.parametrize(
    "pack",
    [
        lambda content: lzma.compress(content, lzma.FORMAT_ALONE),
        lzma.compress,
        gzip.compress,
        zstd.compress,
        bz2.compress,
        lz4,
        bytes,
    ],
    ids=["lzma", "xz", "gzip", "zstd", "bzip2", "lz4", "plain"],
)
def test_its_files_are_found_however_it_is_packed(pack: Callable[[bytes], bytes]) -> None:
    assert read(efi(pack(_VMLINUX))) == {_CONFIG: _FILES[_CONFIG]}


@pytest.mark.parametrize(
    ("binary", "words"),
    [
        (b"MZ", "too short for a kernel"),
        (efi(b"", magic=b"MZMZ"), "no Linux kernel for x86"),
        (efi(b"", protocol=0x207), "no Linux kernel for x86"),
        (efi(_VMLINUX)[:5000], "ends in the middle of the kernel"),
        (efi(b"??????"), "packed in a way that is not known here, beginning with 3f3f3f3f3f3f"),
        (efi(lzma.compress(_VMLINUX)[:100] + bytes(100)), "no initramfs is inside it|cannot be unpacked"),
        (efi(b"\x7fELF" + bytes(5000)), "no initramfs is inside it"),
        (efi(_VMLINUX[: _VMLINUX.index(b"KubeletConf")]), "the initramfs inside it is damaged: its archive ends in the middle"),
        (efi(b"\x02!L\x18" + b"\1\0\0\0x" * 200), "it unpacks to more than 1 GiB"),
    ],
)
def test_what_cannot_be_read_is_told(binary: bytes, words: str) -> None:
    with pytest.raises(KernelError, match=words):
        read(binary)


def test_another_frame_behind_lz4s_blocks_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[bytes] = []
    run, whole = tools.run, lz4(_VMLINUX)
    bomb = tools.run("lz4", "-9", "-c", input=bytes(8 << 20)).stdout

    def note(*args: str, **how: Any) -> object:
        given.append(how["input"])
        return run(*args, **how)

    monkeypatch.setattr(tools, "run", note)
    assert read(efi(whole + bomb)) == {_CONFIG: _FILES[_CONFIG]}
    assert given == [whole]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(
    "pack",
    [lambda content: lzma.compress(content, lzma.FORMAT_ALONE), zstd.compress, bz2.compress],
    ids=["lzma", "zstd", "bzip2"],
)
def test_a_damaged_one_is_read_or_refused_in_words(pack: Callable[[bytes], bytes], seed: int) -> None:
    chance, binary = random.Random(seed), bytearray(efi(pack(_VMLINUX)))
    for _ in range(chance.choice([1, 10, 100])):
        binary[chance.randrange(len(binary))] = chance.randrange(256)
    with contextlib.suppress(KernelError):
        read(bytes(binary))
