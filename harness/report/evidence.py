"""What a failed test left, read from its artifacts for the report: bounded, and whatever is missing or broken left out."""

import base64
import contextlib
import errno
import json
import math
import os
import stat
import struct
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from markupsafe import escape

from harness.escape import shown
from harness.report.picture import png
from harness.vm.machine import KUBELET_PORT, LOOPBACK, SSH_PORT
from harness.wire import dhcp, frame

_MOST_LINES, _MOST_LINE = 400, 400
_MOST_FRAMES, _MOST_EVENTS = 200, 30
_MOST_DATA, _MOST_FILES = 400, 200
# A screen full of noise has megabytes: it is among the artifacts.
_MOST_SCREEN = 1 << 20
# What `kios-e2e enter` takes (docs/bundles.md).
_BUNDLE = "FAIL.tar.zst"
_MOST_MANIFEST = 20_000
# What surrounds a value on the page.
_MARKUP = 30
_MOST_READ = 64 << 20
# pcap-savefile(5): seconds, microseconds, bytes captured, bytes on the wire.
_FILE_HEADER, _RECORD = 24, struct.Struct("<IIII")
# Four times what QEMU takes of a frame: a record that says more is torn.
_MOST_FRAME = 1 << 18
# draft-ietf-opsawg-pcapng: type and length of a block, interface, time in microseconds, bytes captured and on the wire.
_PACKET, _ENHANCED_PACKET, _LEAST_BLOCK = struct.Struct("<IIIIIII"), 6, 12
_FLAGS = {2: "SYN", 16: "ACK", 1: "FIN", 4: "RST", 8: "PSH"}


@dataclass(frozen=True)
class Line:
    """A line on the console, in seconds after QEMU's start."""

    after: float | None
    text: str


@dataclass(frozen=True)
class Sent:
    """A frame on the wire, in seconds after the first."""

    after: float
    source: str
    destination: str
    what: str


@dataclass(frozen=True)
class Event:
    """An event of QEMU's, in seconds after the first message of its protocol."""

    after: float
    name: str
    data: str


@dataclass(frozen=True)
class Left:
    """What one boot left; `screen` is a PNG in base64, nothing where none was taken.

    `before` counts the lines that came before those on the console here, `frames_before` the frames before these. `own_frames`
    counts the harness's own in all of the capture, which are left out.
    """

    name: str
    console: Sequence[Line]
    before: int
    screen: str
    frames: Sequence[Sent]
    frames_before: int
    own_frames: int
    events: Sequence[Event]
    files: Sequence[str]


@dataclass(frozen=True)
class Evidence:
    """What is left of a failed test: its boots, the manifests of its nodes by their names, its bundles, other files.

    `more_boots` counts those for which there was no room.
    """

    boots: Sequence[Left]
    manifests: Sequence[tuple[str, str]]
    files: Sequence[str]
    bundles: Sequence[str] = ()
    more_boots: int = 0


def of(artifacts: Path, root: Path, room: int) -> Evidence:
    """Reads what is left of a test; names of files are relative to `root`.

    The last boots are taken for which there is `room`, in bytes on a page.
    """
    folders = [folder for folder in sorted(artifacts.glob("*/boot-*"), key=_place) if folder.is_dir()]
    boots: list[Left] = []
    for folder in reversed(folders):
        boot = _left(folder, artifacts, root)
        room -= weight(asdict(boot))
        if room < 0:
            break
        boots.insert(0, boot)
    manifests = [
        (str(file.relative_to(artifacts)), _content(file)[:_MOST_MANIFEST].decode(errors="replace"))
        for file in sorted(artifacts.glob("*/manifests/*"))[:_MOST_FILES]
        if (room := room - _MOST_MANIFEST) >= 0
    ]
    others = [file for file in sorted(artifacts.rglob("*")) if file.is_file() and "boot-" not in str(file.parent)]
    bundles = [file for file in others if file.name == _BUNDLE]
    plain = [relative(file, root) for file in others if file not in bundles]
    more = len(folders) - len(boots)
    return Evidence(boots, manifests, plain[:_MOST_FILES], [relative(file, root) for file in bundles], more)


def weight(left: object) -> int:
    """About how many bytes some values take on a page, where a guest's words are escaped."""
    match left:
        case str():
            return len(escape(shown(left))) + _MARKUP
        case dict():
            return sum(map(weight, left.values()))
        case list() | tuple():
            return sum(map(weight, left))
    return _MARKUP


def _place(folder: Path) -> tuple[str, int, str]:
    """Orders boots as they were: the tenth behind the ninth."""
    number = folder.name.rpartition("-")[2]
    return str(folder.parent), int(number) if number.isdecimal() else 0, folder.name


def _left(folder: Path, artifacts: Path, root: Path) -> Left:
    console, before = _console(folder)
    frames, frames_before, own_frames = _frames(folder)
    return Left(
        str(folder.relative_to(artifacts)),
        console,
        before,
        _screen(folder / "screen.ppm"),
        frames,
        frames_before,
        own_frames,
        _events(folder / "qmp.jsonl"),
        [relative(file, root) for file in sorted(folder.iterdir())[:_MOST_FILES]],
    )


def _console(folder: Path) -> tuple[list[Line], int]:
    timed = [
        Line(_number(told.get("after")), str(told.get("text"))[:_MOST_LINE])
        for told in _json_lines(folder / "console.jsonl")
        if isinstance(told, dict)
    ]
    if not timed:
        content = _content(folder / "console.log").decode(errors="replace").replace("\r", "")
        timed = [Line(None, text[:_MOST_LINE]) for text in content.splitlines()]
    return timed[-_MOST_LINES:], max(0, len(timed) - _MOST_LINES)


def _screen(file: Path) -> str:
    picture = png(_content(file))
    return base64.b64encode(picture).decode() if len(picture) <= _MOST_SCREEN else ""


def _events(file: Path) -> list[Event]:
    messages = [
        (at, told["message"])
        for told in _json_lines(file)
        if isinstance(told, dict) and isinstance(told.get("message"), dict) and (at := _number(told.get("at"))) is not None
    ]
    first = messages[0][0] if messages else 0.0
    events = [(at, message) for at, message in messages if "event" in message]
    return [
        Event(round(at - first, 3), str(message["event"])[:_MOST_DATA], json.dumps(message.get("data", {}))[:_MOST_DATA])
        for at, message in events[-_MOST_EVENTS:]
    ]


def _number(told: object) -> float | None:
    return float(told) if isinstance(told, int | float) and math.isfinite(told) else None


def _frames(folder: Path) -> tuple[list[Sent], int, int]:
    """The last frames of what was kept, or of QEMU's own capture where a run was cut off before that.

    And how many came before them, and how many are the harness's own, which asks the kubelet twice a second: they are left out.
    Of a capture of more than 64 MiB, only those are read.
    """
    kept, plain = folder / "wire.pcapng", folder / "wire.pcap"
    last = deque[tuple[float, bytes]](maxlen=_MOST_FRAMES)
    first, own, others = 0.0, 0, 0
    for at, content in _packets(kept) if kept.exists() else _records(plain):
        first = first if own + others else at
        if _is_harness(content):
            own += 1
        else:
            others += 1
            last.append((at, content))
    return [Sent(round(at - first, 3), *_told_of(content)) for at, content in last], others - len(last), own


def _is_harness(content: bytes) -> bool:
    """Whether a frame belongs to a connection of the harness's to the kubelet or to an sshd: QEMU passes them on as its own."""
    part = frame.segment(content)
    if part is None:
        return False
    ends = (str(part.source), part.source_port), (str(part.destination), part.destination_port)
    (here, _), (_, port) = ends if ends[0][0] == LOOPBACK else ends[::-1]
    return here == LOOPBACK and port in (KUBELET_PORT, SSH_PORT)


def _records(file: Path) -> Iterator[tuple[float, bytes]]:
    with contextlib.suppress(OSError), _opened(file) as capture:
        capture.seek(_FILE_HEADER)
        while capture.tell() < _MOST_READ and len(head := capture.read(_RECORD.size)) == _RECORD.size:
            seconds, micros, captured, _ = _RECORD.unpack(head)
            if not (content := _captured(capture, captured)):
                return
            yield seconds + micros / 1e6, content


def _packets(file: Path) -> Iterator[tuple[float, bytes]]:
    position = 0
    with contextlib.suppress(OSError), _opened(file) as capture:
        while position < _MOST_READ and len(head := capture.read(_PACKET.size)) == _PACKET.size:
            kind, length, _, high, low, captured, _ = _PACKET.unpack(head)
            if kind == _ENHANCED_PACKET:
                if not (content := _captured(capture, captured)):
                    return
                yield ((high << 32) + low) / 1e6, content
            # No block is shorter than its own frame: a broken one ends it.
            if length < _LEAST_BLOCK:
                return
            position += length
            capture.seek(position)


def _captured(capture: BinaryIO, size: int) -> bytes:
    """The frame that comes next; nothing where it is torn, or none."""
    content = capture.read(size) if size <= _MOST_FRAME else b""
    return content if len(content) == size else b""


def _told_of(content: bytes) -> tuple[str, str, str]:
    if asked := frame.arp(content):
        if asked.operation == 1:
            return asked.sender, "everybody", f"ARP who has {asked.target_address}? tell {asked.sender_address}"
        return asked.sender, str(asked.target_address), f"ARP {asked.sender_address} is at {asked.sender}"
    if message := dhcp.message_in(content):
        server = f" by {message.server}" if message.server else ""
        return message.client_mac, "DHCP", f"{message.kind.name} xid {message.xid:08x} for {message.yiaddr}{server}"
    if (part := frame.segment(content)) is not None:
        flags = " ".join(name for bit, name in _FLAGS.items() if part.flags & bit)
        ends = f"{part.source}:{part.source_port}", f"{part.destination}:{part.destination_port}"
        return *ends, f"TCP {flags}, {len(part.payload)} bytes"
    if (datagram := frame.datagram(content)) is not None:
        ends = f"{datagram.source}:{datagram.source_port}", f"{datagram.destination}:{datagram.destination_port}"
        return *ends, f"UDP, {len(datagram.payload)} bytes"
    if (packet := frame.packet(content)) is not None:
        return str(packet.source), str(packet.destination), f"IP protocol {packet.protocol}, {len(packet.payload)} bytes"
    return content[6:12].hex(":"), content[:6].hex(":"), f"type 0x{content[12:14].hex()}, {len(content)} bytes"


def _json_lines(file: Path) -> Iterator[Any]:
    for line in _content(file).splitlines():
        try:
            yield json.loads(line)
        except (ValueError, RecursionError):
            continue


def _content(file: Path) -> bytes:
    """The end of a file, nothing where there is none."""
    try:
        with _opened(file) as opened:
            opened.seek(max(0, opened.seek(0, 2) - _MOST_READ))
            return opened.read(_MOST_READ)
    except OSError:
        return b""


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[BinaryIO]:
    """A regular file, open; raises OSError for what is none.

    Artifacts may come from elsewhere: a link in them shows nothing of this host, and nothing waits for a pipe.
    """
    with os.fdopen(os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as opened:
        if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
            raise OSError(errno.EINVAL, "no regular file", str(file))
        yield opened


def relative(file: Path, root: Path) -> str:
    """A path as a link on a page in the folder `root`."""
    return os.path.relpath(file, root)
