"""A command in a container, run through the kubelet's own endpoint, which `kubectl exec` uses too.

The kubelet streams over WebSocket (RFC 6455): the first byte of a message is its channel, and the last message on channel 3
is a v1 Status with the exit status (Kubernetes, v4.channel.k8s.io).
"""

import json
import socket
import ssl
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake, InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from harness.errors import NodeFailure
from harness.serial.result import Result
from harness.verdict.judge import Clock
from harness.verdict.outcome import delay, error

_PROTOCOL = Subprotocol("v4.channel.k8s.io")
_STDOUT, _STDERR, _STATUS = b"\x01", b"\x02", b"\x03"
_MESSAGE = (Opcode.TEXT, Opcode.BINARY, Opcode.CONT)
_LOOK_SECONDS, _SHAKE_SECONDS = 0.2, 10.0
# If QEMU ends, the broken connection is noticed before QEMU's end.
_AFTERMATH_SECONDS = 2.0
_READ_BYTES, _MOST_BYTES_A_MESSAGE, _MOST_BYTES = 1 << 16, 1 << 20, 64 << 20

Abort = Callable[[], None]
Lost = Callable[[], float]


@dataclass(frozen=True)
class RemoteCommand:
    """A program and its arguments, for a container; no shell interprets them."""

    namespace: str
    pod: str
    container: str
    words: Sequence[str]

    def __str__(self) -> str:
        """The command and its container, for an error message."""
        return f"`{' '.join(self.words)}` in container {self.container} of pod {self.pod}"

    def run(self, port: int, context: ssl.SSLContext, within: float, abort: Abort, lost: Lost = lambda: 0.0) -> Result:
        """Runs it through the kubelet at a port on 127.0.0.1, without input, and returns its status and output.

        Raises NodeFailure if it cannot be run, or if it does not end within so many seconds; it then goes on in the container,
        because the kubelet ends nothing. `abort` is called every 0.2 s, and ends the wait by raising. `lost` says for how many
        seconds the host has kept QEMU from running so far: the wait is extended by them, and is a HarnessError if it lost most
        of its time.
        """
        clock = Clock.of(within, lost)
        output = bytearray()
        try:
            with closing(self._messages(port, context, Clock.of(_SHAKE_SECONDS, lost))) as messages:
                for message in messages:
                    channel, said = message[:1], message[1:]
                    if channel in (_STDOUT, _STDERR):
                        output += said
                    elif channel == _STATUS:
                        return Result(self._status_in(said), bytes(output))
                    if len(output) > _MOST_BYTES:
                        raise NodeFailure(f"{self} wrote more than {_MOST_BYTES >> 20} MiB")
                    _look(abort)
                    if over := clock.over():
                        last = bytes(output[-500:]).decode(errors="replace").strip() or "nothing"
                        raise error(over, f"{self} did not end within {within:.0f} s{delay(over)}; it wrote: {last}")
        except InvalidStatus as refused:
            words = (refused.response.body or b"").decode(errors="replace").strip()[:500]
            raise NodeFailure(f"the kubelet does not run {self}: {refused.response.status_code} {words}") from refused
        except (InvalidHandshake, OSError) as broken:
            _look(abort, _AFTERMATH_SECONDS)
            raise NodeFailure(f"the kubelet broke off {self}: {broken}") from broken
        raise AssertionError("unreachable: messages end with an error")

    def _messages(self, port: int, context: ssl.SSLContext, handshake: Clock) -> Generator[bytes, None, None]:
        """Yields each message, and an empty one after every 0.2 s without any; raises OSError or InvalidHandshake at the end.

        It uses one thread, because Python's TLS connections do not support a reader and a writer at once.
        """
        protocol = ClientProtocol(parse_uri(self._url(port)), subprotocols=[_PROTOCOL], max_size=_MOST_BYTES_A_MESSAGE)
        protocol.send_request(protocol.connect())
        message = bytearray()
        with (
            socket.create_connection(("127.0.0.1", port), timeout=_SHAKE_SECONDS) as plain,
            context.wrap_socket(plain, do_handshake_on_connect=False) as connection,
        ):
            connection.settimeout(_LOOK_SECONDS)
            # QEMU accepts a connection even if the guest does not.
            while not _is_shaken(connection):
                if over := handshake.over():
                    words = f"the kubelet broke off {self}: it did not shake hands within {handshake.within:.0f} s"
                    raise error(over, words + delay(over))
                yield b""
            while protocol.state in (State.CONNECTING, State.OPEN):
                for data in protocol.data_to_send():
                    connection.sendall(data)
                try:
                    received = connection.recv(_READ_BYTES)
                except TimeoutError:
                    yield b""
                    continue
                protocol.receive_data(received) if received else protocol.receive_eof()
                if protocol.handshake_exc:
                    raise protocol.handshake_exc
                for event in protocol.events_received():
                    if isinstance(event, Frame) and event.opcode in _MESSAGE:
                        message += event.data
                        if event.fin:
                            yield bytes(message)
                            message.clear()
        raise ConnectionAbortedError(f"the connection was closed: {protocol.parser_exc or 'without a status'}")

    def _url(self, port: int) -> str:
        place = "/".join(quote(part, safe="") for part in (self.namespace, self.pod, self.container))
        asked = urlencode([*(("command", word) for word in self.words), ("output", "1"), ("error", "1")])
        return f"wss://127.0.0.1:{port}/exec/{place}?{asked}"

    def _status_in(self, said: bytes) -> int:
        """The exit status in a v1 Status; raises NodeFailure if it says that the command was not run."""
        try:
            status = json.loads(said)
            if status["status"] == "Success":
                return 0
            if status.get("reason") == "NonZeroExitCode":
                return next(int(cause["message"]) for cause in status["details"]["causes"] if cause["reason"] == "ExitCode")
            words = status["message"]
        except (ValueError, KeyError, TypeError, AttributeError, StopIteration, RecursionError):
            words = said[:500].decode(errors="replace")
        raise NodeFailure(f"the kubelet does not run {self}: {words}")


def _is_shaken(connection: ssl.SSLSocket) -> bool:
    """Continues a handshake for 0.2 s; returns whether it is complete."""
    try:
        connection.do_handshake()
    except TimeoutError:
        return False
    return True


def _look(abort: Abort, seconds: float = 0.0) -> None:
    """Calls `abort`, which may raise, until so many seconds are over."""
    deadline = time.monotonic() + seconds
    while True:
        abort()
        if time.monotonic() >= deadline:
            return
        time.sleep(_LOOK_SECONDS)
