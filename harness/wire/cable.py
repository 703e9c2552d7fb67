"""A cable with a man in the middle: frames pass from one end to the other through the test's hands.

Each of its four ends is a stream of Ethernet frames, each after its length in four bytes, big-endian (QEMU's
net/filter-mirror.c). Everything happens in one thread of its own. What cannot be passed on at once is kept up to a limit, and
lost beyond it, as in a switch.
"""

import asyncio
import concurrent.futures
import contextlib
import functools
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from harness.errors import HarnessError, InputError
from harness.wire.frame import Frame, Way

Onward = Callable[[Frame, float], None]
"""Passes a frame on, after so many seconds."""
Say = Callable[[bytes, float], None]
"""Sends a frame to the guest, after so many seconds."""

_LENGTH_BYTES = 4
# QEMU's own bound (NET_BUFSIZE).
_LONGEST = 4096 + 65536
_MOST_WAITING = 4096
_MOST_UNSENT = 4 << 20
_CLOSE_SECONDS = 10.0


class Hand(Protocol):
    """Something that frames pass through in both directions: it passes each on once, more than once, later, changed, or not."""

    def take(self, frame: Frame, onward: Onward) -> None: ...


class Station(Protocol):
    """Something else on the guest's network, between the guest and QEMU's network."""

    def hear(self, content: bytes, say: Say) -> bool:
        """Hears a frame that the guest sent, and may answer it.

        Returns whether the frame was for this station alone; then it does not reach QEMU's network.
        """


@dataclass(frozen=True)
class Ends:
    """Connected stream sockets that a cable owns from now on."""

    from_guest: socket.socket
    to_network: socket.socket
    from_network: socket.socket
    to_guest: socket.socket


class Cable:
    """A cable in use. Without hands and stations it passes on everything."""

    def __init__(self, ends: Ends) -> None:
        self._ends = ends
        self._hands: tuple[Hand, ...] = ()
        self._stations: tuple[Station, ...] = ()
        self._waiting = 0
        self._fault: Exception | None = None
        self.lost = 0
        self._outlets: dict[Way, asyncio.WriteTransport] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._up: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._closing = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="cable", daemon=True)
        self._thread.start()
        self._up.result(_CLOSE_SECONDS)

    def put_in(self, hand: Hand) -> None:
        """Makes frames pass through a hand, in both directions, after the hands that were put in before."""
        self._change(lambda: setattr(self, "_hands", (*self._hands, hand)))

    def take_out(self, hand: Hand) -> None:
        """Takes a hand out; does nothing if it is not there."""
        self._change(lambda: setattr(self, "_hands", tuple(each for each in self._hands if each is not hand)))

    def join(self, station: Station) -> None:
        """Puts a station on the network."""
        self._change(lambda: setattr(self, "_stations", (*self._stations, station)))

    def leave(self, station: Station) -> None:
        """Takes a station off the network; does nothing if it is not there."""
        self._change(lambda: setattr(self, "_stations", tuple(each for each in self._stations if each is not station)))

    def say(self, content: bytes) -> None:
        """Sends an unrequested frame to the guest."""
        self._change(lambda: self._pass(Frame(Way.RECEIVED, content), 0))

    def check(self) -> None:
        """Raises InputError if a hand or a station failed on a frame; that frame was passed on unchanged."""
        if self._fault is not None:
            fault = self._fault
            raise InputError(f"What was put on the wire failed on a frame: {type(fault).__name__}: {fault}") from fault

    def close(self) -> None:
        """Cuts the cable; may be called more than once."""
        if self._loop is not None and self._thread.is_alive():
            with contextlib.suppress(RuntimeError):  # The loop has ended meanwhile.
                self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join(_CLOSE_SECONDS)
        if self._thread.is_alive():
            raise HarnessError(f"the cable's thread did not end within {_CLOSE_SECONDS:.0f} s")

    def _change(self, change: Callable[[], None]) -> None:
        """Makes a change between two frames; it is done when this returns."""
        done: concurrent.futures.Future[None] = concurrent.futures.Future()

        def in_turn() -> None:
            change()
            done.set_result(None)

        if self._loop is None or not self._thread.is_alive():
            raise HarnessError("The cable was cut: the machine has ended.")
        try:
            self._loop.call_soon_threadsafe(in_turn)
            done.result(_CLOSE_SECONDS)
        except (RuntimeError, TimeoutError) as gone:
            raise HarnessError("The cable does not answer: the machine has ended.") from gone

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        inlets = []
        try:
            for way, end in ((Way.SENT, self._ends.to_network), (Way.RECEIVED, self._ends.to_guest)):
                self._outlets[way], _ = await self._loop.create_unix_connection(asyncio.Protocol, sock=end)
            for way, end in ((Way.SENT, self._ends.from_guest), (Way.RECEIVED, self._ends.from_network)):
                inlet, _ = await self._loop.create_unix_connection(functools.partial(_Inlet, way, self._enter), sock=end)
                inlets.append(inlet)
        except OSError as error:
            self._up.set_exception(HarnessError(f"The cable cannot be laid: {error}"))
            return
        self._up.set_result(None)
        await self._closing.wait()
        for transport in (*inlets, *self._outlets.values()):
            transport.abort()

    def _enter(self, frame: Frame) -> None:
        """Starts a frame on its way: from the guest to the hands, the stations, the network; and back through the hands."""
        self._pass(frame, 0)

    def _pass(self, frame: Frame, position: int) -> None:
        hands = self._hands
        if position >= len(hands):
            self._leave(frame)
            return
        passed = False

        def onward(next_frame: Frame, delay: float) -> None:
            nonlocal passed
            passed = True
            self._later(delay, lambda: self._pass_behind(hands[position], next_frame))

        try:
            hands[position].take(frame, onward)
        except Exception as fault:  # A match is the test's code: whatever it raises must not cut the cable.
            self._fault = self._fault or fault
            if not passed:
                self._pass(frame, position + 1)

    def _pass_behind(self, hand: Hand, frame: Frame) -> None:
        """Passes a frame on after a hand, which may have been taken out meanwhile."""
        position = self._hands.index(hand) + 1 if hand in self._hands else len(self._hands)
        self._pass(frame, position)

    def _leave(self, frame: Frame) -> None:
        if frame.way is Way.RECEIVED or not self._heard(frame.content):
            self._put(frame)

    def _heard(self, content: bytes) -> bool:
        """Tells all stations, each of which hears every frame; returns whether one of them took it."""
        taken = False
        for station in self._stations:
            try:
                taken |= station.hear(content, self._said)
            except Exception as fault:  # As above.
                self._fault = self._fault or fault
        return taken

    def _said(self, content: bytes, delay: float) -> None:
        self._later(delay, lambda: self._pass(Frame(Way.RECEIVED, content), 0))

    def _later(self, delay: float, act: Callable[[], None]) -> None:
        if delay <= 0:
            act()
        elif self._waiting >= _MOST_WAITING:
            self.lost += 1
        else:
            assert self._loop is not None
            self._waiting += 1
            self._loop.call_later(delay, self._now, act)

    def _now(self, act: Callable[[], None]) -> None:
        self._waiting -= 1
        act()

    def _put(self, frame: Frame) -> None:
        outlet = self._outlets[frame.way]
        if outlet.is_closing() or outlet.get_write_buffer_size() > _MOST_UNSENT:
            self.lost += 1
            return
        outlet.write(len(frame.content).to_bytes(_LENGTH_BYTES) + frame.content)


class _Inlet(asyncio.Protocol):
    """Cuts a stream into frames."""

    def __init__(self, way: Way, enter: Callable[[Frame], None]) -> None:
        self._way, self._enter = way, enter
        self._rest = bytearray()
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._rest += data
        at = 0
        while len(self._rest) - at >= _LENGTH_BYTES:
            start = at + _LENGTH_BYTES
            length = int.from_bytes(self._rest[at:start])
            if length > _LONGEST:
                # Not a stream of frames any more.
                assert isinstance(self._transport, asyncio.Transport)
                self._transport.abort()
                return
            if len(self._rest) < start + length:
                break
            self._enter(Frame(self._way, bytes(self._rest[start : start + length])))
            at = start + length
        del self._rest[:at]
