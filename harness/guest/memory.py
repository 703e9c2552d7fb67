"""What a daemon wrote, found in the memory of its node: where a kubelet or CRI-O ends as soon as it starts, nobody else has it.

A line stays in the pages of the pipe that nobody reads, and in those of the process that wrote it, until they are used again.
"""

import mmap
import re
from collections.abc import Callable, Mapping
from pathlib import Path

_TEXT = rb'(?:[^"\\\x00-\x1f]|\\.){1,2000}'
# klog's header: severity, month and day, time (k8s.io/klog, formatHeader); then the words with which the command ends, in
# quotes, or between <> where they have lines of their own (k8s.io/klog, serialize.KVListFormat).
_FAILED = rb'"command failed" err=(?:"(?P<words>' + _TEXT + rb')"|<\n(?P<lines>(?:\t[^\x00-\x08\x0a-\x1f]{1,2000}\n){1,40}) >)'
_KUBELET = re.compile(rb"[EF](?P<stamp>\d{4} \d\d:\d\d:\d\d\.\d{6}) +\d+ [\w.]+:\d+\] " + _FAILED)
# klog puts the words together before the header stands before them (k8s.io/klog, printS): in a buffer of their own, which
# outlives a long line whose pages lie apart, and begins where Go's objects of that size do (runtime/sizeclasses.go).
_KUBELET_BUFFER = re.compile(_FAILED + rb"(?=\x00)")
_OBJECT = 64
# The words of a panic, and what ran into it, as `util/runtime.HandleCrash` logs them (k8s.io/apimachinery) with klog.
_PANIC = re.compile(
    rb"[EF](?P<stamp>\d{4} \d\d:\d\d:\d\d\.\d{6}) +\d+ [\w.]+:\d+\] \"Observed a panic\" "
    rb'panic="(?P<words>' + _TEXT + rb')"(?:[^\x00]{1,8000}?\n\tpanic\([^\n]*\n[^\n]*\n\t(?P<where>[^\s\x00]{1,300})\()?'
)
# logrus's text format.
_CRIO = re.compile(rb'time="(?P<stamp>[^"\x00-\x1f]{10,40})" level=fatal msg="(?P<words>' + _TEXT + rb')"')
# What each line has in it, which is found a hundred times as fast as the line.
_REASONS = {
    "kubelet": (
        (b'"command failed" err=', _KUBELET),
        (b'"command failed" err=', _KUBELET_BUFFER),
        (b'"Observed a panic" panic=', _PANIC),
    ),
    "crio": ((b" level=fatal msg=", _CRIO),),
}
_BEFORE, _BEHIND = 100, 80_000
_PIECE = 256 << 20
# Below its hole for devices (QEMU, hw/i386/pc_q35.c).
_LOW = 2 << 30


def reason(daemon: str, size: int, save: Callable[[int, int, Path], None], scratch: Path) -> str:
    """The last words with which a daemon (`kubelet` or `crio`) gave up; empty if there are none in the guest's memory.

    Of its `size` bytes `save` writes a piece to a file, by address and length; the file `scratch` is gone afterwards.
    """
    found: list[tuple[bytes, str]] = []
    for start in range(0, min(size, _LOW), _PIECE):
        try:
            save(start, min(_PIECE, size - start), scratch)
            for mark, pattern in _REASONS[daemon]:
                found += _reasons_in(scratch, mark, pattern)
        finally:
            scratch.unlink(missing_ok=True)
    return max(found)[1] if found else ""


def _reasons_in(piece: Path, mark: bytes, pattern: re.Pattern[bytes]) -> list[tuple[bytes, str]]:
    """With their time; what has none counts only where nothing has one."""
    found: dict[int, tuple[bytes, str]] = {}
    with piece.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        at = content.find(mark)
        while at >= 0:
            if match := pattern.search(content, max(0, at - _BEFORE), at + _BEHIND):
                groups = match.groupdict()
                if "stamp" in groups or match.start() % _OBJECT == 0:
                    found[match.start()] = groups.get("stamp", b""), _plain(groups)
            at = content.find(mark, at + len(mark))
    return list(found.values())


def _plain(found: Mapping[str, bytes | None]) -> str:
    """On one line, without the escapes that the daemon's log has."""
    if lines := found.get("lines"):
        return " ".join(lines.decode(errors="replace").split())
    text = (found["words"] or b"").decode(errors="replace")
    if "where" in found:
        where = (found["where"] or b"").decode(errors="replace")
        text = f"panic: {text}{f', in {where}' if where else ''}"
    return re.sub(r"\\(.)", lambda escaped: {"n": " ", "t": " "}.get(escaped[1], escaped[1]), text)
