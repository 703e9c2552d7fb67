"""Commands for a POSIX shell on the console, with results that survive everything else on that line.

The line also carries the shell's echo, wrapped at its idea of the terminal's width, and the kernel's messages, which
may cut into any other line. So the guest keeps a command's output in a file and shows it in a frame: as base64, with its
checksum and the exit status twice. A frame that arrives damaged is shown again; the command is never run again.
Markers are typed with quotes inside (`'@''1f'`), so that an echo never looks like an answer.

A shell that edits lines resets its terminal for each of them, which takes an emulated node 20 ms. So it is told
to read plain lines in a loop, and taught two functions; `leave` gives it back to other users of the console.
"""

import base64
import binascii
import hashlib
import itertools
import re
import secrets
import shlex
from collections.abc import Callable
from dataclasses import dataclass

import pexpect

from harness.errors import HarnessError, NodeFailure
from harness.serial.console import Attachment, Console
from harness.serial.result import Result, brief
from harness.verdict.judge import Clock
from harness.verdict.outcome import Outcome, delay, error

# busybox ash takes at most 1023 characters a line while it edits lines (CONFIG_FEATURE_EDITING_MAX_LEN=1024);
# 300 of them are for what surrounds a command.
_COMMAND_CHARACTERS = 700
_CHUNK_CHARACTERS = 700
# What line editing takes as text: a tab would complete a word, other control characters would edit.
_TYPEABLE = re.compile(r"[ -~]*")
_TRIES = 4
_POLL_SECONDS = 0.2
_READ_BYTES = 65536
# A frame is shown in one go: one that pauses for so long has lost its end marker.
_TORN_SECONDS = 3.0
# Probes that are typed before there is a shell may be lost; those that are not take time when it reads them.
_PROBE_SECONDS = 5.0

_KERNEL_LINE = re.compile(r"\[ *\d+\.\d+\][^\n]*\n")
_OPEN_BRACKET = re.compile(r"\[[^\n]*\Z")
_BASE64_LINE = re.compile(r"[A-Za-z0-9+/]+=*")
# The longest end marker, with room to spare: one that is complete only now began no further back.
_MARKER_CHARACTERS = 256

Abort = Callable[[], None]


@dataclass(frozen=True)
class _Frame:
    """What arrived between two markers, and what the second one says about it."""

    lines: str
    status: str
    again: str
    md5: str


class _Untaught(Exception):  # noqa: N818 - not an error: shells come and go
    """The shell does not know the functions: it has replaced the one that was taught them."""


class Shell:
    """A shell on a console, used by one caller at a time.

    `abort` is called at least every 0.2 s of a wait, and ends it by raising. `greeting` is what the console says when the shell
    starts, if anything. `lost` says for how many seconds the host has kept QEMU from running so far: a wait is extended by
    them, and one that lost most of its time is a HarnessError.
    The guest needs the applets sh, base64, sed and md5sum, and a writable `folder` with a short path. The output of the last
    command stays there, and an empty file for each command before it.
    """

    def __init__(
        self,
        console: Console,
        abort: Abort = lambda: None,
        folder: str = "/tmp",
        greeting: str | None = None,
        lost: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._console = console
        self._abort = abort
        self._greeting = greeting
        self._lost = lost
        self._token = secrets.token_hex(3)
        self._numbers = itertools.count(1)
        self._files = f"{folder}/shell-{self._token}"
        self._ready = False

    def wait_ready(self, timeout: float) -> None:
        """Types a probe, now, at the greeting and every 5 s, until the shell answers one; then teaches it.

        Raises NodeFailure after `timeout` seconds, HarnessError if the console ends.
        """
        clock = Clock.of(timeout, self._lost)
        answered = f"(?P<answer>@{self._token}p\\d+;)"
        heard = answered + (f"|{re.escape(self._greeting)}" if self._greeting else "")
        with self._console.attach() as attachment:
            answer = _Answer(attachment, self._abort)
            while True:
                # The leading line end completes what was typed before; by itself it is an empty command.
                self._type(f"\necho '@''{self._token}p{next(self._numbers)};'")
                found = answer.wait(re.compile(heard.encode()), clock, Clock.of(_PROBE_SECONDS, self._lost))
                if found and found["answer"]:
                    break
                if found:
                    heard = answered
                if (over := clock.over()) is not None:
                    raise _late(over, f"no shell answered on the console within {timeout:.0f} s", answer.last_words())
        for line in self._lessons():
            self._type(line)
        # If the machine were frozen before it has read what was typed, it would never read it.
        self._ask(":", "", clock)
        self._ready = True

    def leave(self) -> None:
        """Lets the shell prompt and edit lines again, for others who type on its console, until the next command here."""
        if self._ready:
            self._type("break 99")
            self._ready = False

    def run(self, command: str, timeout: float) -> Result:
        """Runs `command` with a `sh` of its own, stdin empty, and returns its status and output.

        None of its state (working directory, variables) is kept for the next command. Raises NodeFailure if it does not end
        within `timeout` seconds (it is then interrupted); HarnessError if the console ends or the result arrives damaged
        four times.
        """
        clock = Clock.of(timeout, self._lost)
        if not self._ready:
            self.wait_ready(timeout)
        what, kept = brief(command), next(self._numbers)
        if len(shlex.quote(command)) > _COMMAND_CHARACTERS or not _TYPEABLE.fullmatch(command):
            self._upload(command, clock)
            command = f". {self._files}-script.sh"
        request, shown_as = f"run_{self._token} {kept} {shlex.quote(command)}", kept
        for _ in range(_TRIES):
            try:
                if result := self._result_of(request, shown_as, clock):
                    return result
            except _Untaught:
                self.wait_ready(clock.left())
                continue
            if (over := clock.over()) is not None:
                self._interrupt()
                raise _late(over, f"{what} did not end within {timeout:.0f} s")
            shown_as = next(self._numbers)
            request = f"show_{self._token} {shown_as} {kept}"
        raise HarnessError(f"the result of {what} arrived damaged {_TRIES} times: see the console's log")

    def read(self, path: str, timeout: float) -> bytes:
        """Returns a file's content; `path` is the shell's. Raises as `run`, and NodeFailure if the node refuses."""
        done = self.run(f"cat {shlex.quote(path)}", timeout)
        if done.status:
            raise NodeFailure(done.text.strip())
        return done.output

    def write(self, path: str, content: bytes, timeout: float) -> None:
        """Writes a file and the folders above it; the file appears only when it is whole. Raises as `read`."""
        folder, _, name = path.rpartition("/")
        # The kubelet's file source ignores names that begin with a dot.
        there, making = shlex.quote(path), shlex.quote(f"{folder}/.{name}.making")
        encoded = base64.encodebytes(content).decode()
        make = f"mkdir -p {shlex.quote(folder)} && base64 -d > {making} <<'.' && mv {making} {there}\n{encoded}."
        done = self.run(make, timeout)
        if done.status:
            raise NodeFailure(done.text.strip())

    def _lessons(self) -> list[str]:
        """What a shell is taught, as lines: to listen, to show a result, and to run a command and keep its output.

        Each command has a file of its own, because children of the last one may still write to theirs. The last file is
        emptied, not removed, which needs no program. Each line of a result is marked, because others write to that line too.
        """
        token, files = self._token, self._files
        marked = f'base64 {files}.$2 | sed "s/^/@""{token}./"'
        show = f'echo; echo "@""{token}r$1<"; {marked}; echo "@""{token}r$1>" $status $status $(md5sum <{files}.$2)'
        run = f'>$kept; kept={files}.$1; sh -c "$2" >$kept 2>&1 </dev/null; status=$?; show_{token} $1 $1'
        return [
            'kept=/dev/null; while read -r line; do eval "$line"; done',
            f"show_{token}() {{ {show}; }}",
            f"run_{token}() {{ {run}; }}",
        ]

    def _result_of(self, request: str, shown_as: int, clock: Clock) -> Result | None:
        """Types a request and returns the result that is shown; None if it is damaged or late."""
        mark = f"@{self._token}r{shown_as}"
        with self._console.attach() as attachment:
            self._type(f"{request} || echo '@''{self._token}?'")
            answer = _Answer(attachment, self._abort)
            end = re.compile(rf"{mark}> (\d+) (\d+) ([0-9a-f]{{32}})|@{self._token}\?".encode())
            frame = answer.wait_framed(f"{mark}<".encode(), end, clock, lambda: Clock.of(_TORN_SECONDS, self._lost))
        return _unpack(frame, self._token) if frame else None

    def _upload(self, command: str, clock: Clock) -> None:
        """Writes `command` to a script in the guest, in acknowledged chunks, and verifies its checksum."""
        script = command.encode() + b"\n"
        encoded = base64.b64encode(script).decode()
        checksum = hashlib.md5(script).hexdigest()
        for _ in range(_TRIES):
            redirect = ">"
            for start in range(0, len(encoded), _CHUNK_CHARACTERS):
                chunk = encoded[start : start + _CHUNK_CHARACTERS]
                self._ask(f"echo {chunk} {redirect}{self._files}-script.b64", "", clock)
                redirect = ">>"
            decode = f"base64 -d {self._files}-script.b64 >{self._files}-script.sh"
            if self._ask(decode, f"$(cat {self._files}-script.sh | md5sum)", clock) == checksum:
                return
        raise HarnessError(f"the script {brief(command)} did not reach the guest whole in {_TRIES} tries")

    def _ask(self, line: str, question: str, clock: Clock) -> str:
        """Types `line`, waits until the guest has done it and returns the first word that `question` expands to."""
        mark = f"{self._token}a{next(self._numbers)}"
        with self._console.attach() as attachment:
            self._type(f"{line}; echo '@''{mark}:' {question} ';'")
            answer = _Answer(attachment, self._abort)
            found = answer.wait(re.compile(f"@{mark}: ([^ ;]*)[^;\n]*;".encode()), clock)
            if found is None:
                self._interrupt()
                raise _late(clock.over(), "the shell did not take what was typed in time", answer.last_words())
        return found[1].decode()

    def _type(self, line: str) -> None:
        self._console.send(line.encode() + b"\n")

    def _interrupt(self) -> None:
        self._ready = False
        self._console.send(b"\x03")


class _Answer:
    """What arrives on a console during the wait for an answer, without the kernel's lines and carriage returns."""

    def __init__(self, attachment: Attachment, abort: Abort) -> None:
        self._attachment = attachment
        self._abort = abort
        self._held = ""
        # Bytes, because a bytearray grows in place; answers are ASCII.
        self._heard = bytearray()

    def wait(self, pattern: re.Pattern[bytes], *clocks: Clock) -> re.Match[bytes] | None:
        """Waits until `pattern` (of at most 256 characters) is heard; returns None as soon as one of the clocks is over."""
        searched = 0
        while True:
            if found := pattern.search(self._heard, max(0, searched - _MARKER_CHARACTERS)):
                return found
            searched = len(self._heard)
            if any(clock.over() for clock in clocks):
                return None
            self._listen()

    def wait_framed(self, begin: bytes, end: re.Pattern[bytes], clock: Clock, until_torn: Callable[[], Clock]) -> _Frame | None:
        """Waits for a frame; the groups of its `end` are what it says. Returns None if it is torn or late.

        Raises _Untaught if the `end` that is heard has no groups.
        """
        while True:
            heard = len(self._heard)
            found = self.wait(end, clock, until_torn())
            if found and found[1] is None:
                raise _Untaught
            start = self._heard.find(begin)
            if found and start < 0:
                return None
            if found:
                lines = self._heard[start + len(begin) : found.start()]
                return _Frame(lines.decode(), *(group.decode() for group in found.groups()))
            if clock.over() or (start >= 0 and len(self._heard) == heard):
                return None

    def last_words(self) -> str:
        """Returns what was heard last, to end an error message."""
        heard = (self._heard[-500:].decode() + self._held).strip()
        return f"; heard last: {heard!r}" if heard else "; nothing was heard"

    def _listen(self) -> None:
        self._abort()
        try:
            chunk = self._attachment.read_nonblocking(_READ_BYTES, _POLL_SECONDS)
        except pexpect.TIMEOUT:
            return
        except pexpect.EOF:
            raise HarnessError(f"the console ended while the shell was awaited{self.last_words()}") from None
        text = _KERNEL_LINE.sub("", (self._held + chunk).replace("\r", ""))
        # A bracket may begin a kernel line whose rest is still to come.
        opened = _OPEN_BRACKET.search(text)
        heard, self._held = (text[: opened.start()], opened[0]) if opened else (text, "")
        if heard:
            self._heard += heard.encode("ascii", errors="replace")


def _late(over: Outcome | None, words: str, behind: str = "") -> HarnessError | NodeFailure:
    """The failure of a wait that is over: the host's if it took most of the time."""
    return error(over, words + delay(over) + behind) if over else NodeFailure(words + behind)


def _unpack(frame: _Frame, token: str) -> Result | None:
    # Other programs' lines come between those of the frame, not inside them: a terminal takes one write at a time.
    marked = (line.partition(f"@{token}.") for line in frame.lines.splitlines())
    encoded = "".join(line for before, mark, line in marked if mark and not before and _BASE64_LINE.fullmatch(line))
    try:
        output = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        return None
    if frame.status != frame.again or hashlib.md5(output).hexdigest() != frame.md5:
        return None
    return Result(int(frame.status), output)
