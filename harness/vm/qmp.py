"""QEMU's machine protocol (QMP) over one end of a socket pair, for synchronous callers.

The library `qemu.qmp` speaks the protocol, in an event loop on a thread of its own. A session ends in only one way, by a
hang-up: QEMU's death, `quit` and `close` all end the stream.
"""

import asyncio
import concurrent.futures
import contextlib
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path

from qemu.qmp import ExecuteError, Message, QMPClient, QMPError, Runstate

from harness.errors import HarnessError
from harness.verdict.feed import Feed, QmpEvent

_CLOSE_SECONDS = 10.0
# The library logs as errors what `connect` and `execute` raise, and what callers may expect.
logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL)


class _Client(QMPClient):
    """A client that reports every message, including greeting and negotiation, through the library's hooks."""

    def __init__(self, sent: Callable[[Message], None], received: Callable[[Message], None]) -> None:
        super().__init__()
        self._sent = sent
        self._received = received

    def _cb_outbound(self, msg: Message) -> Message:
        self._sent(msg)
        return super()._cb_outbound(msg)

    def _cb_inbound(self, msg: Message) -> Message:
        self._received(msg)
        return super()._cb_inbound(msg)


class Qmp:
    """A QMP session over a connected stream socket, which it owns from now on.

    Events go to `feed` before a reply that QEMU sent after them is returned. `transcript` gets one JSON object per line:
    `at` (seconds, as `time.monotonic`, and so as in the feed), `way` (`sent` or `received`) and `message`.
    """

    def __init__(self, sock: socket.socket, feed: Feed, transcript: Path) -> None:
        self._sock = sock
        self._feed = feed
        self._transcript = transcript.open("a", buffering=1, encoding="utf-8")
        self._client = _Client(self._note_sent, self._note_received)
        self._greeted: concurrent.futures.Future[asyncio.AbstractEventLoop] = concurrent.futures.Future()
        self._closing: concurrent.futures.Future[None] = concurrent.futures.Future()
        # Held while a command is passed to the loop, so that none is passed after `close`.
        self._handing = threading.Lock()
        self._heard_out = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="qmp", daemon=True)

    def connect(self, timeout: float) -> None:
        """Waits up to `timeout` seconds for QEMU's greeting and negotiates; raises HarnessError if there is none."""
        self._thread.start()
        try:
            self._greeted.result(timeout)
        except TimeoutError as error:
            self.close()
            raise HarnessError(f"QEMU did not greet on its QMP socket within {timeout:.1f} s") from error

    def execute(self, command: str, arguments: Mapping[str, object] | None = None, timeout: float = 10.0) -> object:
        """Executes a QMP command and returns what QEMU returns (mostly a dict, `{}` if there is nothing to say).

        Raises HarnessError if QEMU refuses, if the connection is or gets lost, or after `timeout` seconds.
        """
        return self._reply(command, lambda: self._client.execute(command, arguments), timeout)

    def hand_over(self, file: int, name: str, timeout: float = 10.0) -> None:
        """Passes an open file to QEMU, whose commands then know it by `name`. Raises as `execute`."""

        async def handed() -> object:
            self._client.send_fd_scm(file)
            return await self._client.execute("getfd", {"fdname": name})

        self._reply("getfd", handed, timeout)

    def _reply(self, command: str, ask: Callable[[], Coroutine[object, object, object]], timeout: float) -> object:
        with self._handing:
            if self._closing.done() or not self._greeted.done():
                raise HarnessError(f"QMP command {command}: not connected")
            loop = self._greeted.result()
            reply = asyncio.run_coroutine_threadsafe(ask(), loop)
        try:
            return reply.result(timeout)
        except TimeoutError as error:
            reply.cancel()
            raise HarnessError(f"QMP command {command}: no reply within {timeout:.1f} s") from error
        except ExecuteError as error:
            raise HarnessError(f"QMP command {command}: QEMU refuses: {error}") from error
        except (QMPError, concurrent.futures.CancelledError) as error:
            raise HarnessError(f"QMP command {command}: the connection is gone: {error}") from error

    def hear_out(self, timeout: float) -> None:
        """Waits, after QEMU has ended, up to `timeout` seconds until all that it said is in the feed."""
        if self._thread.ident is not None:
            self._heard_out.wait(timeout)

    def close(self) -> None:
        """Hangs up and waits for the session's end; may be called at any time and more than once."""
        with self._handing:
            if self._closing.done():
                return
            self._closing.set_result(None)
        with contextlib.suppress(OSError):  # QEMU may have hung up first, and the loop closed the socket.
            self._sock.shutdown(socket.SHUT_RDWR)
        if self._thread.ident is not None:
            self._thread.join(_CLOSE_SECONDS)
        if self._thread.is_alive():
            raise HarnessError(f"the QMP session did not end within {_CLOSE_SECONDS:.0f} s")
        self._sock.close()
        self._transcript.close()

    async def _serve(self) -> None:
        try:
            await self._client.connect(self._sock)
        except QMPError as error:
            self._heard_out.set()
            self._greeted.set_exception(HarnessError(f"QMP: {error}"))
            return
        self._greeted.set_result(asyncio.get_running_loop())
        while self._client.runstate is Runstate.RUNNING:
            await self._client.runstate_changed()
        self._heard_out.set()
        # The error only says that the session ended; QemuExit and SHUTDOWN say more.
        with contextlib.suppress(EOFError, OSError, QMPError):
            await self._client.disconnect()
        # The loop lives on, so that the client refuses a later command in the same way as one that the end cut off.
        await asyncio.wrap_future(self._closing)

    def _note_sent(self, message: Message) -> None:
        self._note("sent", message, time.monotonic())

    def _note_received(self, message: Message) -> None:
        at = time.monotonic()
        self._note("received", message, at)
        if "event" in message:
            data = message.get("data")
            self._feed.publish(QmpEvent(str(message["event"]), data if isinstance(data, dict) else {}, at))

    def _note(self, way: str, message: Message, at: float) -> None:
        # A full disk ends no session; the disk watch reports it.
        with contextlib.suppress(OSError):
            self._transcript.write(json.dumps({"at": at, "way": way, "message": dict(message)}) + "\n")
