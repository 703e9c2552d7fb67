"""The agent as it runs on a node, on a socket in place of its serial port, and a line between that is as bad as a line gets."""

import os
import random
import select
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from harness.errors import HarnessError, NodeFailure
from harness.serial.agent import Abort, Agent
from harness.verdict.feed import ConsolePodOpen, ContainerState, Feed

_HERE = Path(__file__).parent
_SOURCES = Path(__file__).parents[2] / "images/containers/console/agent"
_TOKEN = b"5a17"

Line = Callable[[bytes], bytes]
pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc, of which the agent is made")


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The agent, but for what only a node has."""
    made = tmp_path_factory.mktemp("agent") / "agent"
    sources = [_SOURCES / name for name in ("agent.c", "jobs.c", "link.c", "port.c")]
    argv: list[str | Path] = ["gcc", "-std=gnu11", "-Wall", "-Wextra", "-Werror", f"-I{_SOURCES}", "-o", made]
    subprocess.run([*argv, *sources, _HERE / "agent_on_stdin.c"], check=True)
    return made


def clean(chunk: bytes) -> bytes:
    return chunk


class Noise:
    """What others write to the port stands between frames: each of the agent's is one write."""

    def __init__(self, noise: bytes) -> None:
        self._noise = noise

    def __call__(self, chunk: bytes) -> bytes:
        return self._noise + chunk + self._noise


class Thief:
    """Takes one chunk in so many, as somebody who reads the port too."""

    def __init__(self, one_in: int) -> None:
        self._random, self._one_in = random.Random(7), one_in

    def __call__(self, chunk: bytes) -> bytes:
        return b"" if self._random.randrange(self._one_in) == 0 else chunk


class Damage:
    """Turns a bit in one chunk of so many."""

    def __init__(self, one_in: int) -> None:
        self._random, self._one_in = random.Random(7), one_in

    def __call__(self, chunk: bytes) -> bytes:
        if self._random.randrange(self._one_in):
            return chunk
        at = self._random.randrange(len(chunk))
        return chunk[:at] + bytes([chunk[at] ^ 1]) + chunk[at + 1 :]


@contextmanager
def serving(
    program: Path,
    folder: Path,
    towards: Line = clean,
    back: Line = clean,
    token: bytes = _TOKEN,
    abort: Abort = lambda: None,
    lost: Callable[[], float] = lambda: 0.0,
    where: Callable[[], str] = str,
) -> Iterator[tuple[Agent, Feed, subprocess.Popen[bytes]]]:
    """An agent's process, the harness's end, and a line between them that does as it is told."""
    with ExitStack() as stack:
        ours, line_ours = socket.socketpair()
        line_theirs, theirs = socket.socketpair()
        feed = Feed()
        agent = stack.enter_context(closing(Agent(ours, _TOKEN, feed, folder / "commands.jsonl", abort, lost, where)))
        with theirs:
            process = subprocess.Popen([str(program), token.decode()], stdin=theirs.fileno())
        stack.callback(process.wait)
        stack.callback(process.kill)
        over = threading.Event()
        stack.callback(over.set)

        def carry() -> None:
            ways = {line_ours: (line_theirs, towards), line_theirs: (line_ours, back)}
            while not over.is_set():
                for end in select.select(list(ways), [], [], 0.05)[0]:
                    there, line = ways[end]
                    try:
                        chunk = end.recv(4096)
                        if not chunk:
                            there.shutdown(socket.SHUT_WR)
                            return
                        there.sendall(line(chunk))
                    except OSError:
                        return

        carrier = threading.Thread(target=carry, daemon=True)
        carrier.start()
        try:
            yield agent, feed, process
        finally:
            over.set()
            carrier.join()
            for end in (line_ours, line_theirs):
                end.close()


def answering(agent: Agent) -> Agent:
    deadline = time.monotonic() + 10
    while not agent.answers and time.monotonic() < deadline:
        time.sleep(0.01)
    assert agent.answers
    return agent


@pytest.mark.parametrize(
    ("command", "status", "output"),
    [
        ("echo hello", 0, b"hello\n"),
        ("echo out; echo err >&2; exit 3", 3, b"out\nerr\n"),
        ("printf '\\0\\377\\245K'", 0, b"\0\377\245K"),
        ("kill -9 $$", 137, b""),
        ("cat", 0, b""),
        ("true", 0, b""),
        ("  ", 0, b""),
        ("sh -c", 2, None),
        ("printf %s  a  b", 0, b"ab"),
        ("X=1 printenv X", 0, b"1\n"),
        ("cd /; pwd", 0, b"/\n"),
    ],
)
def test_a_command_has_its_status_and_its_output(
    program: Path, tmp_path: Path, command: str, status: int, output: bytes | None
) -> None:
    with serving(program, tmp_path) as (agent, _, _):
        result = answering(agent).run(command, 10)
    assert result.status == status
    assert output is None or result.output == output


def test_a_word_that_no_program_is_called_by_goes_to_the_shell(program: Path, tmp_path: Path) -> None:
    with serving(program, tmp_path) as (agent, _, _):
        assert answering(agent).run("exit 5", 10).status == 5
        missing = agent.run("no-such-program a", 10)
    assert missing.status == 127
    assert b"not found" in missing.output


@pytest.mark.parametrize("size", [0, 1, 2047, 2048, 2049, 4096, 300_000])
def test_files_go_both_ways_whole(program: Path, tmp_path: Path, size: int) -> None:
    content, there = random.Random(size).randbytes(size), tmp_path / "a folder/it's"
    with serving(program, tmp_path) as (agent, _, _):
        answering(agent).write(str(there), content, 10)
        assert there.read_bytes() == content
        assert agent.read(str(there), 10) == content
    assert sorted(path.name for path in there.parent.iterdir()) == ["it's"]


def test_a_file_that_cannot_be_had_has_the_nodes_reason(program: Path, tmp_path: Path) -> None:
    with serving(program, tmp_path) as (agent, _, _):
        with pytest.raises(NodeFailure, match="No such file or directory"):
            answering(agent).read(str(tmp_path / "missing"), 10)
        with pytest.raises(NodeFailure, match="Is a directory"):
            agent.read(str(tmp_path), 10)
        with pytest.raises(NodeFailure, match="Not a directory"):
            agent.write("/dev/null/file", b"x", 10)
        with pytest.raises(NodeFailure, match="Is a directory"):
            agent.write(str(tmp_path), b"x", 10)
    assert not list(tmp_path.parent.glob(".*.making"))


def test_a_long_command_arrives_whole(program: Path, tmp_path: Path) -> None:
    with serving(program, tmp_path) as (agent, _, _):
        text = "x" * 50_000
        assert answering(agent).run(f"printf %s {text} | wc -c", 10).text.split() == ["50000"]


def test_many_commands_run_at_once(program: Path, tmp_path: Path) -> None:
    with serving(program, tmp_path) as (agent, _, _):
        answering(agent)
        outputs: dict[int, str] = {}

        def run(number: int) -> None:
            outputs[number] = agent.run(f"sleep 0.3; echo {number}", 20).text

        threads = [threading.Thread(target=run, args=(number,)) for number in range(12)]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert outputs == {number: f"{number}\n" for number in range(12)}
    assert time.monotonic() - began < 3


def test_whom_a_command_leaves_behind_keeps_nobody_waiting(program: Path, tmp_path: Path) -> None:
    with serving(program, tmp_path) as (agent, _, _):
        began = time.monotonic()
        assert answering(agent).run(f"(sleep 1; echo late; touch {tmp_path}/done) & echo now", 10).text == "now\n"
        assert time.monotonic() - began < 0.9
        assert agent.run("echo next", 10).text == "next\n"
        time.sleep(1.2)
    assert (tmp_path / "done").exists(), "writing where nobody reads must not end it"


def test_a_command_that_is_late_is_ended(program: Path, tmp_path: Path) -> None:
    with serving(program, tmp_path) as (agent, _, _):
        with pytest.raises(NodeFailure, match=r"'sleep 6123; true' did not end within 0 s"):
            answering(agent).run("sleep 6123; true", 0.3)
        # The shell, and the program that it had started.
        assert agent.run("sleep 0.2; pgrep -f '[s]leep 6123'", 10).status == 1


def test_a_host_that_takes_the_cpu_makes_a_command_last_longer_and_proves_nothing(program: Path, tmp_path: Path) -> None:
    with serving(program, tmp_path, lost=lambda: 0.8 * time.monotonic()) as (agent, _, _):
        answering(agent)
        assert agent.run("sleep 0.4; echo done", 0.3).text == "done\n"
        with pytest.raises(HarnessError, match=r"did not end within 0 s, and the host was too busy: QEMU waited 1 s more"):
            agent.run("sleep 60", 0.3)


def test_a_command_that_is_late_says_where_the_node_is(program: Path, tmp_path: Path) -> None:
    with serving(program, tmp_path, where=lambda: "the CPU was in the kernel at ffffffff810c356a") as (agent, _, _):
        with pytest.raises(NodeFailure, match=r"did not end within 0 s; the CPU was in the kernel at ffffffff810c356a$"):
            answering(agent).run("sleep 60", 0.3)
        assert agent.run("true", 10).status == 0


def raising_first_of(reasons: list[str]) -> Abort:
    """An abort that raises as soon as there is a reason."""

    def abort() -> None:
        if reasons:
            raise NodeFailure(reasons[0])

    return abort


def test_an_abort_is_the_reason(program: Path, tmp_path: Path) -> None:
    died = raising_first_of(["the node died"])
    with serving(program, tmp_path, abort=died) as (agent, _, _), pytest.raises(NodeFailure, match="the node died"):
        answering(agent).run("sleep 60", 30)


def test_a_port_that_ends_is_no_verdict_on_the_node(program: Path, tmp_path: Path) -> None:
    with serving(program, tmp_path) as (agent, _, process):
        threading.Timer(0.3, process.kill).start()
        answering(agent)
        with pytest.raises(HarnessError, match="port ended while 'sleep 60' was awaited"):
            agent.run("sleep 60", 30)


def test_why_a_port_ended_may_be_known_a_moment_later(program: Path, tmp_path: Path) -> None:
    reasons: list[str] = []
    with serving(program, tmp_path) as (agent, _, process):
        answering(agent)._abort = raising_first_of(reasons)
        threading.Timer(0.2, process.kill).start()
        threading.Timer(0.8, reasons.append, ["the node was switched off"]).start()
        with pytest.raises(NodeFailure, match="switched off"):
            agent.run("sleep 60", 30)


def test_a_port_that_had_ended_before_has_its_reason_too(program: Path, tmp_path: Path) -> None:
    reasons: list[str] = []
    with serving(program, tmp_path) as (agent, _, process):
        answering(agent)._abort = raising_first_of(reasons)
        process.kill()
        wait_until(lambda: agent._over is not None)
        threading.Timer(0.4, reasons.append, ["somebody told QEMU to quit"]).start()
        with pytest.raises(NodeFailure, match="told QEMU to quit"):
            agent.run("true", 30)
        reasons.clear()
        with pytest.raises(HarnessError, match="is not there"):
            agent.run("true", 30)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_nothing_is_sent_before_it_is_there(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with theirs, closing(Agent(ours, _TOKEN, Feed(), tmp_path / "c")) as agent:
        with pytest.raises(HarnessError, match="is not there"):
            agent.run("true", 1)
        theirs.setblocking(False)
        with pytest.raises(BlockingIOError):
            theirs.recv(1)


@pytest.mark.parametrize(
    "noise",
    [
        b"[   12.345678] eth0: link up\r\n",
        b"y\n" * 200,
        b"\xa5",
        b"\xa5K",
        b"\xa5K\x00\x08\x01\x00\x00\x00\x01\x00\x08",
        b"\xa5K\xff\xff\x01\x00\x00\x00\x01\x00\x09\0\0\0\0",
        bytes(range(256)),
    ],
    ids=["kernel", "a flood", "half the magic", "the magic", "the head of a frame", "a head of lies", "every byte"],
)
def test_what_others_write_to_the_port_breaks_nothing(program: Path, tmp_path: Path, noise: bytes) -> None:
    with serving(program, tmp_path, back=Noise(noise)) as (agent, _, _):
        for number in range(20):
            assert answering(agent).run(f"echo {number}", 20).text == f"{number}\n"


@pytest.mark.parametrize("line", [Thief, Damage], ids=lambda line: line.__name__)
@pytest.mark.parametrize("way", ["towards", "back"])
def test_what_is_lost_or_damaged_is_sent_again(program: Path, tmp_path: Path, line: type[Thief], way: str) -> None:
    with serving(program, tmp_path, **{way: line(6)}) as (agent, _, _):  # type: ignore[arg-type]
        for number in range(8):
            ran = answering(agent).run(f"echo {number} >> {tmp_path}/ran; echo {number}", 60)
            assert ran.text == f"{number}\n"
    assert (tmp_path / "ran").read_text().split() == [str(number) for number in range(8)], "each runs once"


def test_an_agent_of_another_token_is_a_stranger(program: Path, tmp_path: Path) -> None:
    with serving(program, tmp_path, token=b"0000") as (agent, feed, _):
        agent.call()
        time.sleep(1.5)
        assert not agent.answers
        assert feed.since(0) == []


def test_an_agent_that_went_on_answers_a_new_harness(program: Path, tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    process = subprocess.Popen([str(program), _TOKEN.decode()], stdin=theirs.fileno())
    theirs.close()
    try:
        # The first harness goes in the middle of a command, as where a node is frozen; its end of the line stays.
        kept = socket.socket(fileno=os.dup(ours.fileno()))
        with closing(Agent(ours, _TOKEN, Feed(), tmp_path / "1")) as first:
            answering(first)
            with pytest.raises(NodeFailure):
                first.run("yes", 0.5)
        feed = Feed()
        with closing(Agent(kept, _TOKEN, feed, tmp_path / "2")) as second:
            second.call()
            assert answering(second).run("echo well", 10).text == "well\n"
        assert not any(isinstance(each, ContainerState) for each in feed.since(0)), "what is past was told before"
    finally:
        process.kill()
        process.wait()


def test_it_tells_of_ends_that_were_there_before_it_was(program: Path, tmp_path: Path) -> None:
    with serving(program, tmp_path) as (agent, feed, _):
        answering(agent).run("true", 10)
        opened, ended = feed.since(0)
    assert isinstance(opened, ConsolePodOpen)
    assert opened.port == "ttyS1"
    assert isinstance(ended, ContainerState)
    assert (ended.namespace, ended.pod, ended.container) == ("kube-system", "node", "parted")
    assert (ended.state, ended.exit_code, ended.reason) == ("terminated", 1, "no such disk")


def test_a_flood_of_output_is_bounded(program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.serial.agent._MOST_BYTES", 100_000)
    with serving(program, tmp_path) as (agent, _, _):
        with pytest.raises(NodeFailure, match="'yes' brought more than"):
            answering(agent).run("yes", 30)
        assert agent.run("echo well", 20).text == "well\n"


def test_each_command_is_written_down(program: Path, tmp_path: Path) -> None:
    with serving(program, tmp_path) as (agent, _, _):
        answering(agent).run("exit 4", 10)
    assert '"command": "exit 4", "status": 4' in (tmp_path / "commands.jsonl").read_text()
