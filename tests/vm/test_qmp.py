"""QMP against a QEMU that has no machine, which starts in less than a second."""

import gc
import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.verdict.feed import Feed, QmpEvent
from harness.vm.qmp import Qmp

QEMU = "qemu-system-x86_64"


@dataclass(frozen=True)
class Session:
    qmp: Qmp
    feed: Feed
    transcript: Path
    process: subprocess.Popen[bytes]


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    if shutil.which(QEMU) is None:
        pytest.skip(f"{QEMU} is not installed")
    ours, theirs = socket.socketpair()
    with theirs:
        chardev = f"socket,id=qmp,fd={theirs.fileno()}"
        argv = [QEMU, "-machine", "none", "-nodefaults", "-display", "none", "-S", "-chardev", chardev, "-mon"]
        process = subprocess.Popen([*argv, "chardev=qmp,mode=control"], pass_fds=[theirs.fileno()])
    feed = Feed()
    qmp = Qmp(ours, feed, tmp_path / "qmp.jsonl")
    try:
        qmp.connect(5)
        yield Session(qmp, feed, tmp_path / "qmp.jsonl", process)
    finally:
        process.kill()
        process.wait(5)
        qmp.close()


@pytest.fixture(autouse=True)
def asyncio_has_no_complaint(caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder) -> Iterator[None]:
    yield
    gc.collect()
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []
    assert [str(warning.message) for warning in recwarn] == []


def event_named(feed: Feed, name: str) -> QmpEvent:
    deadline = time.monotonic() + 5
    seen = 0
    while feed.wait_beyond(seen, deadline - time.monotonic()):
        for happening in feed.since(seen):
            seen += 1
            if isinstance(happening, QmpEvent) and happening.name == name:
                return happening
    raise AssertionError(f"no event {name}")


def test_a_command_returns_what_qemu_returns(session: Session) -> None:
    status = session.qmp.execute("query-status")
    assert isinstance(status, dict)
    assert status["running"] is False
    assert session.qmp.execute("qom-list", {"path": "/"}) != []


def test_events_are_published_in_time(session: Session) -> None:
    session.qmp.execute("cont")
    assert event_named(session.feed, "RESUME").data == {}


def test_a_refusal_names_the_command_and_has_qemus_words(session: Session) -> None:
    with pytest.raises(HarnessError, match=r"no-such-thing.*has not been found"):
        session.qmp.execute("no-such-thing")
    assert session.qmp.execute("query-status")


def test_an_open_file_is_handed_over(session: Session) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        session.qmp.hand_over(theirs.fileno(), "handed")
    backend = {"addr": {"type": "fd", "data": {"str": "handed"}}, "server": False}
    session.qmp.execute("chardev-add", {"id": "line", "backend": {"type": "socket", "data": backend}})
    with pytest.raises(HarnessError, match="QMP command chardev-add: QEMU refuses"):
        session.qmp.execute("chardev-add", {"id": "again", "backend": {"type": "socket", "data": backend}})


def test_quit_is_an_end_like_any(session: Session) -> None:
    assert session.qmp.execute("quit") == {}
    assert event_named(session.feed, "SHUTDOWN").data["reason"] == "host-qmp-quit"
    assert session.process.wait(5) == 0
    with pytest.raises(HarnessError, match=r"query-status.*gone"):
        session.qmp.execute("query-status")
    session.qmp.close()
    session.qmp.close()
    with pytest.raises(HarnessError, match=r"query-status.*not connected"):
        session.qmp.execute("query-status")


def test_the_transcript_has_both_directions(session: Session) -> None:
    session.qmp.execute("query-name")
    session.qmp.close()
    lines = [json.loads(line) for line in session.transcript.read_text().splitlines()]
    assert "QMP" in lines[0]["message"]
    ways = [(line["way"], line["message"].get("execute")) for line in lines]
    assert ways[-2:] == [("sent", "query-name"), ("received", None)]
    assert [line["at"] for line in lines] == sorted(line["at"] for line in lines)


def test_a_death_ends_a_command_that_waits(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    qmp = Qmp(ours, Feed(), tmp_path / "qmp.jsonl")

    def play() -> None:
        with theirs:
            theirs.sendall(b'{"QMP": {"version": {}, "capabilities": []}}\n')
            theirs.recv(4096)
            theirs.sendall(b'{"return": {}}\n')
            theirs.recv(4096)
            theirs.recv(4096)

    theirs.settimeout(5)
    fake = threading.Thread(target=play)
    fake.start()
    qmp.connect(5)
    with pytest.raises(HarnessError, match=r"stop: no reply within 0.1 s"):
        qmp.execute("stop", timeout=0.1)
    started = time.monotonic()
    with pytest.raises(HarnessError, match="system_reset: the connection is gone"):
        qmp.execute("system_reset", timeout=5)
    assert time.monotonic() - started < 2
    qmp.close()
    fake.join(5)


def test_no_greeting_is_an_error(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        qmp = Qmp(ours, Feed(), tmp_path / "qmp.jsonl")
        with pytest.raises(HarnessError, match="did not greet"):
            qmp.connect(0.1)


def test_a_hang_up_before_the_greeting_is_an_error(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    qmp = Qmp(ours, Feed(), tmp_path / "qmp.jsonl")
    with pytest.raises(HarnessError, match="QMP: "):
        qmp.connect(5)
    with pytest.raises(HarnessError, match="QMP"):
        qmp.execute("query-status")
    qmp.close()
