"""The link to the harness's agent on a node: frames on the second serial port, in order and without loss in both directions.

A frame, little-endian: two bytes of magic, the payload's length, the frame's number (0: outside the sequence), the other side's
last number that came in sequence, the request that the frame belongs to, its kind; the payload; and a CRC-32 over token,
session, header and payload. Anything else on the port is skipped. The guest's side is images' link.c.
"""

import contextlib
import enum
import secrets
import select
import socket
import struct
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from harness.errors import HarnessError

PAYLOAD = 2048
_MAGIC = b"\xa5\x4b"
_HEADER = struct.Struct("<2sHHHHB")
_CHECKSUM = struct.Struct("<I")
_NUMBERS = 65535
_WINDOW = 8
_READ_BYTES = 65536
# Every fourth frame is acknowledged at once, any other when nothing more has come for a while.
_HEARD_FRAMES = 4
_HEARD_SECONDS = 0.05
_AGAIN_SECONDS = 3.0
_HELLO_SECONDS = 1.0
_CLOSE_SECONDS = 10.0


class Kind(enum.IntEnum):
    """What a frame is."""

    HELLO = 1
    HEARD = 2
    RUN = 3
    READ = 4
    WRITE = 5
    DATA = 6
    KILL = 7
    OUTPUT = 8
    STATUS = 9
    ENDED = 10


@dataclass(frozen=True)
class Frame:
    """A frame that arrived whole, or is to be sent."""

    kind: int
    number: int
    heard: int
    job: int
    payload: bytes


@dataclass(frozen=True)
class Keys:
    """What a frame's checksum covers first: the run's token, and in all frames but greetings the session too."""

    token: bytes
    session: bytes

    def of(self, kind: int) -> int:
        """The checksum's initial value."""
        begin = zlib.crc32(self.token)
        return begin if kind == Kind.HELLO else zlib.crc32(self.session, begin)


def encode(frame: Frame, keys: Keys) -> bytes:
    """A frame as the bytes on the port."""
    header = _HEADER.pack(_MAGIC, len(frame.payload), frame.number, frame.heard, frame.job, frame.kind)
    return header + frame.payload + _CHECKSUM.pack(zlib.crc32(header + frame.payload, keys.of(frame.kind)))


class Decoder:
    """Finds frames in what arrives; keeps less than one frame of it for later."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._held = b""

    def take(self, data: bytes) -> list[Frame]:
        """Returns the frames that are complete by now.

        What looks like the beginning of a frame is discarded once a whole frame is found after it.
        """
        data = self._held + data
        frames: list[Frame] = []
        begun: int | None = None
        at = 0
        while (at := data.find(_MAGIC[:1], at)) >= 0:
            found = self._read(data, at)
            if isinstance(found, Frame):
                frames.append(found)
                begun = None
                at += _HEADER.size + len(found.payload) + _CHECKSUM.size
                continue
            if found and begun is None:
                begun = at
            at += 1
        self._held = b"" if begun is None else data[begun:]
        return frames

    def _read(self, data: bytes, at: int) -> Frame | bool:
        """The frame at this place; else whether one may have begun there."""
        if not data.startswith(_MAGIC[: len(data) - at], at):
            return False
        if len(data) - at < _HEADER.size:
            return True
        _, length, number, heard, job, kind = _HEADER.unpack_from(data, at)
        end = at + _HEADER.size + length
        if length > PAYLOAD or len(data) < end + _CHECKSUM.size:
            return bool(length <= PAYLOAD)
        if _CHECKSUM.unpack_from(data, end)[0] != zlib.crc32(data[at:end], self._keys.of(kind)):
            return False
        return Frame(kind, number, heard, job, data[at + _HEADER.size : end])


class Link:
    """The harness's end; owns the socket from now on.

    `greeted` is called when the agent has accepted this session, and again after it was restarted; `heard` with each frame
    in sequence; `ended` once nothing more will come. All three are called from the link's own thread.
    """

    def __init__(
        self,
        sock: socket.socket,
        token: bytes,
        greeted: Callable[[], None],
        heard: Callable[[Frame], None],
        ended: Callable[[], None],
    ) -> None:
        self._sock, self._token = sock, token
        self._greeted, self._heard, self._ended = greeted, heard, ended
        self._changing = threading.Lock()
        self._wake, self._woken = socket.socketpair()
        for end in (sock, self._wake, self._woken):
            end.setblocking(False)
        self._unsent = bytearray()
        self._begin_session()
        self._wants_past = False
        self._calling_since: float | None = None
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="link", daemon=True)
        self._thread.start()

    def call(self) -> None:
        """Greets an agent that is already there, once a second until it answers; one that is starting greets by itself."""
        with self._changing:
            self._calling_since = 0.0
        self._poke()

    def send(self, kind: Kind, job: int, content: bytes = b"") -> None:
        """Sends content as full frames and a last one that is not full, perhaps empty; raises HarnessError if it cannot."""
        with self._changing:
            if self._closing or not self._is_open:
                raise HarnessError("the harness's agent on the node is not there")
            for start in range(0, len(content) + 1, PAYLOAD):
                self._waiting.append((kind, job, content[start : start + PAYLOAD]))
            self._fill_window()
        self._poke()

    def close(self) -> None:
        """Ends the link; may be called more than once."""
        self._closing = True
        self._poke()
        self._thread.join(_CLOSE_SECONDS)
        if self._thread.is_alive():
            raise HarnessError(f"the reader of the agent's port did not end within {_CLOSE_SECONDS:.0f} s")
        for end in (self._sock, self._wake, self._woken):
            end.close()

    def _begin_session(self) -> None:
        self._keys = Keys(self._token, secrets.token_bytes(8))
        self._decoder = Decoder(self._keys)
        self._is_open = False
        self._sent: deque[Frame] = deque()
        self._waiting: deque[tuple[Kind, int, bytes]] = deque()
        self._last_sent = self._last_heard = 0
        self._sent_at = self._heard_at = 0.0
        self._owed = 0

    def _poke(self) -> None:
        with contextlib.suppress(OSError):
            self._wake.send(b"!")

    def _run(self) -> None:
        try:
            while not self._closing:
                with self._changing:
                    self._tend(time.monotonic())
                    wanted = [self._sock] if self._unsent else []
                readable, writable, _ = select.select([self._sock, self._woken], wanted, [], self._due())
                if self._woken in readable:
                    self._woken.recv(4096)
                if writable:
                    self._write()
                if self._sock in readable and not self._read():
                    return
        except OSError:
            return
        finally:
            self._is_open = False
            self._ended()

    def _read(self) -> bool:
        data = self._sock.recv(_READ_BYTES)
        for frame in self._decoder.take(data):
            if frame.kind == Kind.HELLO:
                self._meet(frame.payload)
            elif self._is_open and self._in_turn(frame):
                self._heard(frame)
        return bool(data)

    def _meet(self, session: bytes) -> None:
        """An agent that starts greets without a session; it answers a greeting with the session that it has accepted."""
        if session == self._keys.session:
            with self._changing:
                self._calling_since = None
                news, self._is_open = not self._is_open, True
            if news:
                self._greeted()
        elif not session:
            with self._changing:
                self._begin_session()
                self._wants_past = True
                self._calling_since = 0.0

    def _in_turn(self, frame: Frame) -> bool:
        with self._changing:
            numbers = [sent.number for sent in self._sent]
            if frame.heard in numbers:
                for _ in range(numbers.index(frame.heard) + 1):
                    self._sent.popleft()
                self._sent_at = time.monotonic()
                self._fill_window()
            if not frame.number:
                return False
            self._owed += 1
            self._heard_at = time.monotonic()
            if frame.number != self._last_heard % _NUMBERS + 1:
                return False
            self._last_heard = frame.number
            return True

    def _fill_window(self) -> None:
        while self._waiting and len(self._sent) < _WINDOW:
            kind, job, payload = self._waiting.popleft()
            self._last_sent = self._last_sent % _NUMBERS + 1
            frame = Frame(kind, self._last_sent, 0, job, payload)
            if not self._sent:
                self._sent_at = time.monotonic()
            self._sent.append(frame)
            self._put(frame)

    def _put(self, frame: Frame) -> None:
        self._owed = 0
        self._unsent += encode(Frame(frame.kind, frame.number, self._last_heard, frame.job, frame.payload), self._keys)

    def _tend(self, now: float) -> None:
        if self._calling_since is not None and now - self._calling_since >= _HELLO_SECONDS:
            self._calling_since = now
            self._put(Frame(Kind.HELLO, 0, 0, 0, self._keys.session + bytes([self._wants_past])))
        if self._sent and not self._unsent and now - self._sent_at >= _AGAIN_SECONDS:
            self._sent_at = now
            for frame in self._sent:
                self._put(frame)
        if self._owed >= _HEARD_FRAMES or (self._owed and now - self._heard_at >= _HEARD_SECONDS):
            self._put(Frame(Kind.HEARD, 0, 0, 0, b""))

    def _due(self) -> float | None:
        times = []
        if self._calling_since is not None:
            times.append(self._calling_since + _HELLO_SECONDS)
        if self._sent:
            times.append(self._sent_at + _AGAIN_SECONDS)
        if self._owed:
            times.append(self._heard_at + _HEARD_SECONDS)
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _write(self) -> None:
        with self._changing, contextlib.suppress(BlockingIOError):
            del self._unsent[: self._sock.send(self._unsent)]
