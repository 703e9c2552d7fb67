"""What a daemon wrote, found in its node's memory: if a kubelet or CRI-O ends as soon as it starts, it is nowhere else.

A line stays in the pages of the pipe, which nobody reads, and of the process that wrote it, until they are reused.
"""

import mmap
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_TEXT = rb'(?:[^"\\\x00-\x1f]|\\.){1,2000}'
# What a kubelet says last before it gives up (Kubernetes: component-base/cli, pkg/kubelet and its server, before os.Exit).
_LAST_WORDS = (
    b"command failed",
    b"Failed to start ContainerManager",
    b"Failed to start cAdvisor",
    b"Failed to initialize internal modules",
    b"Failed to listen and serve",
    b"Kubelet failed to get node info",
)
# klog's header: severity, month and day, time (k8s.io/klog, formatHeader); then the words with which the command ends, in
# quotes, or between <> where they have lines of their own (k8s.io/klog, serialize.KVListFormat).
_FAILED = (
    rb'"(?:' + b"|".join(_LAST_WORDS) + rb')" err=(?:"(?P<words>' + _TEXT + rb')"|'
    rb"<\n(?P<lines>(?:\t[^\x00-\x08\x0a-\x1f]{1,2000}\n){1,40}) >)"
)
_KUBELET = re.compile(rb"[EF](?P<stamp>\d{4} \d\d:\d\d:\d\d\.\d{6}) +\d+ [\w.]+:\d+\] " + _FAILED)
# klog composes the words in a buffer of their own before it writes the header (k8s.io/klog, printS). The buffer survives a long
# line whose pages are apart, and is aligned as Go's objects of that size are (runtime/sizeclasses.go).
_KUBELET_BUFFER = re.compile(_FAILED + rb"(?=\x00)")
_OBJECT = 64
# The words of a panic and the function in which it happened, as `util/runtime.HandleCrash` (k8s.io/apimachinery) logs them.
_PANIC = re.compile(
    rb"[EF](?P<stamp>\d{4} \d\d:\d\d:\d\d\.\d{6}) +\d+ [\w.]+:\d+\] \"Observed a panic\" "
    rb'panic="(?P<words>' + _TEXT + rb')"(?:[^\x00]{1,8000}?\n\tpanic\([^\n]*\n[^\n]*\n\t(?P<where>[^\s\x00]{1,300})\()?'
)
# What Go's runtime ends a program with, a signal's line in between or not (Go, runtime/panic.go). It has no time, and counts
# only where nothing else is found: it may be another program's.
_GO = re.compile(
    rb"(?P<stamp>)(?P<words>(?:panic|fatal error): [^\x00-\x1f]{1,500})\n"
    rb"(?:\[signal [^\x00-\x1f]{1,300}\]\n)?\ngoroutine \d+ "
)
# logrus's text format.
_CRIO = re.compile(rb'time="(?P<stamp>[^"\x00-\x1f]{10,40})" level=fatal msg="(?P<words>' + _TEXT + rb')"')
# Patterns by a word that is in all of their lines: searching for the word first is a hundred times faster.
_REASONS: Mapping[str, Mapping[bytes, Sequence[re.Pattern[bytes]]]] = {
    "kubelet": {
        **{b'"%s" err=' % words: (_KUBELET, _KUBELET_BUFFER) for words in _LAST_WORDS},
        b'"Observed a panic" panic=': (_PANIC,),
        b"panic: ": (_GO,),
        b"fatal error: ": (_GO,),
    },
    "crio": {b" level=fatal msg=": (_CRIO,), b"panic: ": (_GO,), b"fatal error: ": (_GO,)},
}
_BEFORE, _BEHIND = 100, 80_000
_PIECE = 256 << 20
# Memory below the hole for devices (QEMU, hw/i386/pc_q35.c).
_LOW = 2 << 30


def reason(daemon: str, size: int, save: Callable[[int, int, Path], None], scratch: Path) -> str:
    """The last words with which a daemon (`kubelet` or `crio`) gave up; empty if there are none in the guest's memory.

    The memory has `size` bytes; `save` writes a piece of it, given by address and length, to a file. The file `scratch` is
    removed afterwards.
    """
    found: list[tuple[bytes, str]] = []
    for start in range(0, min(size, _LOW), _PIECE):
        try:
            save(start, min(_PIECE, size - start), scratch)
            for mark, patterns in _REASONS[daemon].items():
                found += _reasons_in(scratch, mark, patterns)
        finally:
            scratch.unlink(missing_ok=True)
    return max(found)[1] if found else ""


def _reasons_in(piece: Path, mark: bytes, patterns: Sequence[re.Pattern[bytes]]) -> list[tuple[bytes, str]]:
    """The reasons in a piece of memory, with their times; an empty time sorts before all others."""
    found: dict[int, tuple[bytes, str]] = {}
    with piece.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        at = content.find(mark)
        while at >= 0:
            for match in filter(None, (each.search(content, max(0, at - _BEFORE), at + _BEHIND) for each in patterns)):
                groups = match.groupdict()
                if "stamp" in groups or match.start() % _OBJECT == 0:
                    found[match.start()] = groups.get("stamp", b""), _plain(groups)
            at = content.find(mark, at + len(mark))
    return list(found.values())


def _plain(found: Mapping[str, bytes | None]) -> str:
    """The words on one line, without the escapes of the daemon's log."""
    if lines := found.get("lines"):
        return " ".join(lines.decode(errors="replace").split())
    text = (found["words"] or b"").decode(errors="replace")
    if "where" in found:
        where = (found["where"] or b"").decode(errors="replace")
        text = f"panic: {text}{f', in {where}' if where else ''}"
    return re.sub(r"\\(.)", lambda escaped: {"n": " ", "t": " "}.get(escaped[1], escaped[1]), text)
