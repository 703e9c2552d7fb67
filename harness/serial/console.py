"""The serial console: everything the guest writes is logged, published line by line and lent to pexpect."""

import codecs
import contextlib
import queue
import re
import select
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pexpect
from pexpect.spawnbase import SpawnBase

from harness.errors import HarnessError
from harness.verdict.feed import ConsoleLine, Feed, Happening

if TYPE_CHECKING:
    _TextSpawn = SpawnBase[str]
else:
    _TextSpawn = SpawnBase

# Lines with this are offered to `reads`: looking for it costs little, even in a flood.
_SIGNATURE = "kios-e2e"
# Limits for a console that writes without end: of its log, and of what an attachment that is not read holds.
_LOG_BYTES = 64 << 20
_UNREAD_BYTES = 32 << 20
_LOG_ENDS = b"\r\nkios-e2e: this log ends here; the console went on\r\n"
_READ_BYTES = 65536
_LINE_CHARACTERS = 65536
_SEND_SECONDS = 10.0
_CLOSE_SECONDS = 10.0

# ECMA-48: a control sequence (CSI), a string with its end (OSC, DCS, SOS, PM, APC), or a single escaped character.
_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[]PX^_][^\x07\x1b\n]*(?:\x07|\x1b\\)|[ -/]*[0-~])?")


Reader = Callable[[ConsoleLine], Happening | None]


class Console:
    """The harness's end of the stream socket that is the guest's serial port; owns the socket from now on.

    What arrives is appended to `log` unchanged and published to `feed` as `ConsoleLine`s: without escape sequences and
    carriage returns, decoded as UTF-8 with replacement, in pieces of 65536 characters if longer. What `reads` makes of a
    line is published after it.
    """

    def __init__(self, sock: socket.socket, feed: Feed, log: Path, reads: Reader = lambda _: None) -> None:
        self._sock = sock
        self._feed = feed
        self._log = log
        self._reads = reads
        self._partial = b""
        self._attachments: list[Attachment] = []
        self._ended = False
        self._attaching = threading.Lock()
        self._sending = threading.Lock()
        self._pump = threading.Thread(target=self._run, name="console", daemon=True)
        self._pump.start()

    def send(self, data: bytes) -> None:
        """Types `data`; raises HarnessError if the console has ended or the guest does not take it within 10 seconds."""
        deadline = time.monotonic() + _SEND_SECONDS
        with self._sending:
            while data:
                remaining = deadline - time.monotonic()
                try:
                    if remaining <= 0 or not select.select([], [self._sock], [], remaining)[1]:
                        raise HarnessError(f"the guest took no more input on its console for {_SEND_SECONDS:.0f} s")
                    data = data[self._sock.send(data, socket.MSG_DONTWAIT) :]
                except BlockingIOError:
                    continue
                except (OSError, ValueError) as error:
                    raise HarnessError(f"the console ended, nothing can be sent to it: {error}") from error

    def attach(self) -> "Attachment":
        """Returns an object for pexpect's `expect`. It sees what arrives from now on, and so does everybody else."""
        attachment = Attachment(self)
        with self._attaching:
            self._attachments.append(attachment)
            if self._ended:
                attachment.put(b"")
        return attachment

    def detach(self, attachment: "Attachment") -> None:
        """Passes nothing more to `attachment`; its `close` calls this."""
        with self._attaching:
            if attachment in self._attachments:
                self._attachments.remove(attachment)

    def close(self) -> None:
        """Hangs up and waits until what arrived before is logged and published; may be called more than once."""
        with contextlib.suppress(OSError):  # The guest's side may have hung up first.
            self._sock.shutdown(socket.SHUT_RDWR)
        self._pump.join(_CLOSE_SECONDS)
        if self._pump.is_alive():
            raise HarnessError(f"the console's reader did not end within {_CLOSE_SECONDS:.0f} s")
        self._sock.close()

    def _run(self) -> None:
        try:
            with self._log.open("ab", buffering=0) as log:
                left = _LOG_BYTES - log.tell()
                while chunk := self._receive():
                    # A full disk ends no console; the disk watch reports it.
                    with contextlib.suppress(OSError):
                        if left > 0:
                            log.write(chunk if len(chunk) < left else chunk[:left] + _LOG_ENDS)
                    left -= len(chunk)
                    self._lend(chunk)
                    self._publish_lines(chunk)
        finally:
            # Even if the log cannot be written: whoever waits for the console must learn that nothing more will come.
            if self._partial:
                self._publish_lines(b"\n")
            self._ended = True
            self._lend(b"")

    def _receive(self) -> bytes:
        try:
            return self._sock.recv(_READ_BYTES)
        except OSError:
            return b""

    def _lend(self, chunk: bytes) -> None:
        with self._attaching:
            for attachment in self._attachments:
                attachment.put(chunk)

    def _publish_lines(self, chunk: bytes) -> None:
        at = time.monotonic()
        ended, newline, self._partial = (self._partial + chunk).rpartition(b"\n")
        text = _plain(ended) if newline else None
        if text is not None and len(text) > _LINE_CHARACTERS:
            text = "\n".join(piece for line in text.split("\n") for piece in _pieces(line))
        if len(self._partial) >= _LINE_CHARACTERS:
            pieces = "\n".join(_pieces(_plain(self._partial)))
            text = pieces if text is None else f"{text}\n{pieces}"
            self._partial = b""
        if text is None:
            return
        self._feed.publish_text(text, at)
        if _SIGNATURE in text:
            signed = [self._reads(ConsoleLine(line, at)) for line in text.split("\n") if _SIGNATURE in line]
            self._feed.publish_all(told for told in signed if told is not None)


class Attachment(_TextSpawn):
    """A console as one of pexpect's children: UTF-8 text, sent without a delay.

    `expect` raises pexpect.EOF once the console has ended. Matches may be up to 65536 characters long.
    """

    def __init__(self, console: Console) -> None:
        # pexpect searches only the last `searchwindowsize` characters, so a read must leave room for earlier ones.
        super().__init__(maxread=_READ_BYTES, searchwindowsize=2 * _READ_BYTES, encoding="utf-8")
        self._text = codecs.getincrementaldecoder("utf-8")("replace")
        self.delaybeforesend = None
        self.delayafterread = None
        self.closed = False
        self._console = console
        self._arrived: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._unread = b""
        self._waiting, self._lost, self._counting = 0, False, threading.Lock()

    def put(self, chunk: bytes) -> None:
        """Adds what arrived; an empty chunk is the end. For the console's reader."""
        with self._counting:
            self._waiting += len(chunk)
            self._lost = self._lost or self._waiting > _UNREAD_BYTES
        if not (chunk and self._lost):
            self._arrived.put(chunk)

    def read_nonblocking(self, size: int = 1, timeout: float | None = -1) -> str:
        """Returns up to `size` bytes' worth of text; raises pexpect.TIMEOUT after `timeout` seconds (-1: the default).

        Raises HarnessError if so much was left unread that some of it was dropped.
        """
        if self.flag_eof:
            raise pexpect.EOF("the console ended")
        if not self._unread:
            wait = self.timeout if timeout == -1 else timeout
            try:
                self._unread = self._arrived.get(timeout=None if wait is None else max(0.0, wait))
            except queue.Empty:
                if self._lost:
                    raise HarnessError(f"the console wrote over {_UNREAD_BYTES >> 20} MiB that nobody read") from None
                raise pexpect.TIMEOUT("nothing more on the console") from None
            with self._counting:
                self._waiting -= len(self._unread)
        if not self._unread:
            self.flag_eof = True
            raise pexpect.EOF("the console ended")
        data, self._unread = self._unread[:size], self._unread[size:]
        return self._text.decode(data)

    def send(self, text: str) -> int:
        """Types `text`; returns the number of bytes."""
        data = text.encode()
        self._console.send(data)
        return len(data)

    def sendline(self, text: str = "") -> int:
        """Types `text` and a line end; returns the number of bytes."""
        return self.send(text + self.linesep)

    def close(self) -> None:
        """Stops listening; the console goes on. Leaving a `with` block calls this."""
        self._console.detach(self)
        self.closed = True

    def isalive(self) -> bool:
        """Says whether there may be more to read."""
        return not self.flag_eof


def _plain(data: bytes) -> str:
    text = data.translate(None, b"\r").decode(errors="replace")
    return _ESCAPE.sub("", text) if "\x1b" in text else text


def _pieces(line: str) -> list[str]:
    return [line[start : start + _LINE_CHARACTERS] for start in range(0, len(line) or 1, _LINE_CHARACTERS)]
