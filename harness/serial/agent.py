"""The harness's agent on a node, behind the second serial port: commands, files, and how containers end.

So the console stays free for its users. Several commands may run at once, from several threads.
"""

import contextlib
import itertools
import json
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import HarnessError, NodeFailure
from harness.serial.link import Frame, Kind, Link
from harness.serial.result import Result, brief
from harness.verdict.feed import ConsolePodOpen, ContainerState, Feed
from harness.verdict.judge import Clock
from harness.verdict.outcome import Outcome, delay, error

PORT = "ttyS1"
_LOOK_SECONDS = 0.2
# The reason for the port's end becomes known a moment later.
_REASON_SECONDS = 2.0
_JOBS = 65535
_STATUS = struct.Struct("<i")
# At most this much output or content: a node must not fill this host's memory.
_MOST_BYTES = 64 << 20
_LOG_BYTES = 4 << 20

Abort = Callable[[], None]


@dataclass
class _Job:
    output: bytearray = field(default_factory=bytearray)
    status: int | None = None
    words: str = ""
    lost: str = ""

    @property
    def is_over(self) -> bool:
        return self.status is not None or bool(self.lost) or len(self.output) > _MOST_BYTES


class Agent:
    """The harness's end; owns the socket from now on.

    That the agent answers, and how containers ended, is published to `feed`; each command with its status is a line of `log`.
    `abort` is called at least every 0.2 s of a wait, and ends it by raising. `lost` says for how many seconds the host has kept
    QEMU from running so far: a wait is extended by them (see `Judge`), and one that lost most of its time is a HarnessError.
    `where` says what a node that did not answer in time was doing.
    """

    def __init__(
        self,
        sock: socket.socket,
        token: bytes,
        feed: Feed,
        log: Path,
        abort: Abort = lambda: None,
        lost: Callable[[], float] = lambda: 0.0,
        where: Callable[[], str] = str,
    ) -> None:
        self._feed, self._log, self._abort, self._lost, self._where = feed, log, abort, lost, where
        self._numbers = itertools.cycle(range(1, _JOBS + 1))
        self._jobs: dict[int, _Job] = {}
        self._changed = threading.Condition()
        self._answers = False
        self._over: float | None = None
        self._link = Link(sock, token, self._greeted, self._heard, self._ended)

    @property
    def answers(self) -> bool:
        """Whether the agent has answered."""
        return self._answers

    def call(self) -> None:
        """Calls an agent that is already running, as on a clone; one that is starting greets by itself."""
        self._link.call()

    def run(self, command: str, timeout: float) -> Result:
        """Runs `command` with a `sh` of its own, stdin empty, and returns its status and output.

        Raises NodeFailure if it does not end within `timeout` seconds (it is then killed) or writes more than 64 MiB;
        HarnessError if the port ends or the agent is restarted meanwhile.
        """
        began, clock = time.monotonic(), Clock.of(timeout, self._lost)
        number, job = self._begin(Kind.RUN, command)
        try:
            self._wait(job, clock, f"{brief(command)} did not end within {timeout:.0f} s", brief(command))
        except BaseException:
            self._kill(number)
            raise
        finally:
            self._jobs.pop(number, None)
            self._write_down(command, job, began)
        if job.words:
            raise HarnessError(f"{brief(command)} could not be started on the node: {job.words}")
        return Result(job.status or 0, bytes(job.output))

    def read(self, path: str, timeout: float) -> bytes:
        """Returns a file's content; `path` is the console container's. Raises as `run`, and NodeFailure if the node refuses."""
        clock = Clock.of(timeout, self._lost)
        number, job = self._begin(Kind.READ, path)
        try:
            self._wait(job, clock, f"{path} was not read within {timeout:.0f} s", path)
        finally:
            self._jobs.pop(number, None)
        if job.status:
            raise NodeFailure(job.words)
        return bytes(job.output)

    def write(self, path: str, content: bytes, timeout: float) -> None:
        """Writes a file and the folders above it; the file appears only when it is whole. Raises as `read`."""
        clock = Clock.of(timeout, self._lost)
        number, job = self._begin(Kind.WRITE, path)
        try:
            self._link.send(Kind.DATA, number, content)
            self._wait(job, clock, f"{path} was not written within {timeout:.0f} s", path)
        finally:
            self._jobs.pop(number, None)
        if job.status:
            raise NodeFailure(job.words)

    def close(self) -> None:
        """Ends the link; may be called more than once."""
        self._link.close()

    def _begin(self, kind: Kind, text: str) -> tuple[int, _Job]:
        if "\0" in text:
            raise HarnessError(f"{brief(text)} has a NUL in it: neither a command nor a path may.")
        number, job = next(self._numbers), _Job()
        self._jobs[number] = job
        try:
            self._link.send(kind, number, text.encode())
        except HarnessError:
            self._jobs.pop(number, None)
            self._give_the_reason()
            raise
        return number, job

    def _give_the_reason(self) -> None:
        """Raises why the port ended, as soon as that is known; returns if it does not become known."""
        while self._over is not None and time.monotonic() - self._over <= _REASON_SECONDS:
            self._abort()
            time.sleep(_LOOK_SECONDS)

    def _wait(self, job: _Job, clock: Clock, late: str, what: str) -> None:
        over: Outcome | None = None
        with self._changed:
            while not job.is_over and over is None:
                self._abort()
                if self._over is not None and time.monotonic() - self._over > _REASON_SECONDS:
                    raise HarnessError(f"the agent's port ended while {what} was awaited")
                if (over := clock.over()) is None:
                    self._changed.wait(min(_LOOK_SECONDS, clock.left()))
        if over is not None:
            raise error(over, "; ".join(filter(None, (late + delay(over), self._where()))))
        if job.lost:
            raise HarnessError(f"{job.lost} while {what} was awaited")
        if len(job.output) > _MOST_BYTES:
            raise NodeFailure(f"{what} brought more than {_MOST_BYTES >> 20} MiB")

    def _kill(self, number: int) -> None:
        try:
            self._link.send(Kind.KILL, number)
        except HarnessError:
            return

    def _greeted(self) -> None:
        with self._changed:
            for job in self._jobs.values():
                job.lost = "the harness's agent on the node was started anew"
            self._answers = True
            self._changed.notify_all()
        self._feed.publish(ConsolePodOpen(PORT))

    def _heard(self, frame: Frame) -> None:
        if frame.kind == Kind.ENDED:
            if (state := _state_in(frame.payload)) is not None:
                self._feed.publish(state)
            return
        job = self._jobs.get(frame.job)
        if job is None:
            return
        if frame.kind == Kind.OUTPUT and len(job.output) <= _MOST_BYTES:
            job.output += frame.payload
        elif frame.kind == Kind.STATUS and len(frame.payload) >= _STATUS.size:
            job.words = frame.payload[_STATUS.size :].decode(errors="replace")
            job.status = _STATUS.unpack_from(frame.payload)[0]
        if job.is_over:
            with self._changed:
                self._changed.notify_all()

    def _ended(self) -> None:
        with self._changed:
            self._over = time.monotonic()
            self._changed.notify_all()

    def _write_down(self, command: str, job: _Job, began: float) -> None:
        line = {
            "command": command[:1000],
            "status": job.status,
            "bytes": len(job.output),
            "seconds": round(time.monotonic() - began, 3),
        }
        # A full disk ends no command; the disk watch reports it.
        with contextlib.suppress(OSError), self._changed, self._log.open("a") as log:
            if log.tell() < _LOG_BYTES:
                log.write(json.dumps(line) + "\n")


def _state_in(told: bytes) -> ContainerState | None:
    fields = told.decode(errors="replace").split("\0")
    if len(fields) < 5 or not fields[3].strip().isdigit():
        return None
    namespace, pod, container, status, words = fields[:5]
    return ContainerState(
        pod=pod,
        namespace=namespace,
        container=container,
        state="terminated",
        reason=words.strip(),
        exit_code=int(status),
    )
