"""The initramfs inside a Linux kernel for x86 with an EFI stub, such as kiOS's EFI binary.

The kernel's boot header names the packed payload (Documentation/arch/x86/boot.rst). In the unpacked kernel, which has no
symbols any more, the archive is found by the bytes with which an archive begins.
"""

import bz2
import io
import lzma
import re
import struct
import sys
import zlib
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath

from harness import tools
from harness.errors import HarnessError
from harness.storage import cpio

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_MAGIC, _PROTOCOL = b"HdrS", 0x208
_SECTOR = 512
# The kernel's build appends the unpacked size to everything that it packs (scripts/Makefile.lib, size_append).
_SIZE = 4
# The first file of an archive; kiOS's archive is not compressed separately inside the kernel.
_ARCHIVE = re.compile(rb"07070[12][0-9A-Fa-f]{104}")
_WITHIN = 120.0
# The file is not trusted; kiOS's kernel has 180 MiB. LZ4's old format has blocks of 8 MiB (lz4's lz4_Frame_format.md).
_MOST = 1 << 30
_LZ4_BLOCK = 8 << 20
# Of what cannot be packed (lz4.h, LZ4_COMPRESSBOUND).
_LARGEST_LZ4_BLOCK = _LZ4_BLOCK + _LZ4_BLOCK // 255 + 16
_DAMAGE = (lzma.LZMAError, zlib.error, zstd.ZstdError, struct.error, OSError, EOFError, ValueError, MemoryError, HarnessError)


class KernelError(Exception):
    """No initramfs can be read from a kernel; in words, why."""


def initramfs_in(kernel: bytes, wanted: Callable[[PurePosixPath], bool]) -> Mapping[PurePosixPath, bytes]:
    """Returns the `wanted` regular files of the initramfs that was built into a kernel; raises KernelError."""
    unpacked = _unpacked(_payload(kernel))
    begin = _ARCHIVE.search(unpacked)
    if not begin:
        raise KernelError("no initramfs is inside it that is not packed once more")
    try:
        return cpio.first(io.BufferedReader(io.BytesIO(unpacked[begin.start() :])), wanted)
    except cpio.UnfitError as unfit:
        raise KernelError(f"the initramfs inside it is damaged: {unfit}") from unfit


def _payload(kernel: bytes) -> bytes:
    try:
        sectors, magic, protocol = kernel[0x1F1], kernel[0x202:0x206], struct.unpack_from("<H", kernel, 0x206)[0]
        offset, length = struct.unpack_from("<II", kernel, 0x248)
    except (IndexError, struct.error) as short:
        raise KernelError("it is too short for a kernel") from short
    if magic != _MAGIC or protocol < _PROTOCOL:
        raise KernelError("it is no Linux kernel for x86")
    # Zero sectors means four (boot.rst, setup_sects).
    begin = ((sectors or 4) + 1) * _SECTOR + offset
    payload = kernel[begin : begin + length]
    if len(payload) < length or length < _SIZE:
        raise KernelError("it ends in the middle of the kernel")
    return payload[:-_SIZE]


def _unpacked(payload: bytes) -> bytes:
    for magic, unpack in _PACKERS.items():
        if payload.startswith(magic):
            try:
                return unpack(payload)
            except _DAMAGE as damaged:
                raise KernelError(f"it cannot be unpacked: {damaged}") from damaged
    raise KernelError(f"it is packed in a way that is not known here, beginning with {payload[:6].hex()}")


def _lzma(payload: bytes) -> bytes:
    return lzma.LZMADecompressor(format=lzma.FORMAT_ALONE, memlimit=_MOST).decompress(payload, _MOST)


def _xz(payload: bytes) -> bytes:
    return lzma.LZMADecompressor(memlimit=_MOST).decompress(payload, _MOST)


def _gzip(payload: bytes) -> bytes:
    return zlib.decompressobj(wbits=zlib.MAX_WBITS | 16).decompress(payload, _MOST)


def _zstd(payload: bytes) -> bytes:
    return zstd.ZstdDecompressor().decompress(payload, _MOST)


def _bzip2(payload: bytes) -> bytes:
    return bz2.BZ2Decompressor().decompress(payload, _MOST)


def _lz4(payload: bytes) -> bytes:
    at, blocks = 4, 0
    # What no block is begins another frame, which may unpack to anything.
    while at + 4 <= len(payload) and (size := int(struct.unpack_from("<I", payload, at)[0])) <= _LARGEST_LZ4_BLOCK:
        at, blocks = at + 4 + size, blocks + 1
    if blocks * _LZ4_BLOCK > _MOST:
        raise KernelError(f"it unpacks to more than {_MOST >> 30} GiB")
    return tools.run("lz4", "-d", "-c", input=payload[:at], timeout=_WITHIN).stdout


_PACKERS: Mapping[bytes, Callable[[bytes], bytes]] = {
    b"\x5d\x00\x00": _lzma,
    b"\xfd7zXZ": _xz,
    b"\x1f\x8b": _gzip,
    b"\x28\xb5\x2f\xfd": _zstd,
    b"BZh": _bzip2,
    b"\x02!L\x18": _lz4,
    b"\x7fELF": bytes,
}
