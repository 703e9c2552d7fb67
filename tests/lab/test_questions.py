"""What a scenario asks of a running node: answers are whole and typed, and a failure says whose it is."""

import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest

from harness.errors import HarnessError, InputError, NodeFailure
from harness.guest.remote_command import RemoteCommand
from harness.lab.boot import Boot
from harness.lab.questions import Pod, Questions
from harness.serial.result import Result
from harness.verdict.feed import ContainerState, PodState

T = TypeVar("T")
STATE = ContainerState("node", "dhcpcd", "running", namespace="kube-system")


class Kubelet:
    """Says what it was told to say."""

    def __init__(self, log: str = "") -> None:
        self.log = log

    def changes(self) -> list[ContainerState | PodState]:
        return [STATE, ContainerState("other", "dhcpcd", "waiting"), PodState("node", "Running", namespace="kube-system")]

    def states(self) -> list[ContainerState]:
        return [STATE]

    def logs(self, namespace: str, pod: str, container: str) -> str:
        assert (namespace, pod, container) == ("kube-system", "node", "dhcpcd")
        return self.log


class Silent(Kubelet):
    """Does not answer."""

    def changes(self) -> list[ContainerState | PodState]:
        raise ConnectionRefusedError("nobody listens")

    def states(self) -> list[ContainerState]:
        raise HarnessError("The kubelet answers 500")


class FakeBoot:
    """The run of a node whose files are in a folder and whose shell is this host's."""

    def __init__(self, root: Path, kubelet: Kubelet) -> None:
        self.root, self.kubelet = root, kubelet
        self.agent: Any = SimpleNamespace(answers=False)
        self.capture = root / "wire.pcap"

    def run(self, command: str) -> Result:
        there = command.replace("/host/", f"{self.root}/")
        done = subprocess.run(["sh", "-c", there], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=20, check=False)
        return Result(done.returncode, done.stdout)

    def expects(self, pod: str, container: str) -> bool:
        return (pod, container) == ("node", "late")

    def exec(self, command: RemoteCommand, within: float) -> Result:
        return Result(int(within), str(command).encode())

    def read_file(self, path: PurePosixPath) -> bytes:
        try:
            return Path(f"{self.root}{path}").read_bytes()
        except OSError as refused:
            raise NodeFailure(str(refused)) from refused

    def write_file(self, path: PurePosixPath, content: bytes) -> None:
        there = Path(f"{self.root}{path}")
        try:
            there.parent.mkdir(parents=True, exist_ok=True)
            there.write_bytes(content)
        except OSError as refused:
            raise NodeFailure(str(refused)) from refused

    def until(self, condition: Callable[[], T], what: str, within: float, seen: Callable[[], str] = str) -> T:
        if not (met := condition()):
            raise NodeFailure(f"{what}: it did not happen within {within:.0f} s; {seen()}")
        return met


class FakeNode(Questions):
    """A node with such a run."""

    def __init__(self, root: Path, kubelet: Kubelet | None = None) -> None:
        self._boot: Any = FakeBoot(root, kubelet or Kubelet())

    @property
    def boot(self) -> Boot:
        return self._boot  # type: ignore[no-any-return]


def test_succeed_returns_the_output_and_names_a_failure(tmp_path: Path) -> None:
    node = FakeNode(tmp_path)
    assert node.succeed("echo yes") == "yes\n"
    with pytest.raises(NodeFailure, match=r"`echo no; exit 3` ended with status 3: no"):
        node.succeed("echo no; exit 3")
    with pytest.raises(NodeFailure, match=r"ended with status 139 \(SIGSEGV\): "):
        node.succeed("exit 139")


def test_fail_returns_the_output_and_names_a_success(tmp_path: Path) -> None:
    node = FakeNode(tmp_path)
    assert node.fail("echo no; exit 3") == "no\n"
    with pytest.raises(NodeFailure, match="`true` should have failed"):
        node.fail("true")


def test_exec_asks_for_a_container_that_the_kubelet_has(tmp_path: Path) -> None:
    node = FakeNode(tmp_path)
    done = node.exec("node", "dhcpcd", "cat", "a b", within=7)
    assert (done.status, done.text) == (7, "`cat a b` in container dhcpcd of pod node")
    with pytest.raises(InputError, match="There is no container dhcp of pod node; the node has node/dhcpcd"):
        node.exec("node", "dhcp", "true")
    with pytest.raises(NodeFailure, match="the kubelet has no container late of pod node"):
        node.exec("node", "late", "true")
    with pytest.raises(InputError, match="There is no command"):
        node.exec("node", "dhcpcd")


@pytest.mark.parametrize("name", ["plain", "with a blank", "quo'te", 'two"quotes', "-dash", "$(reboot)", "*"])
def test_a_file_is_written_and_read_byte_for_byte(tmp_path: Path, name: str) -> None:
    node = FakeNode(tmp_path)
    for content in (b"", bytes(range(256)) * 100):
        node.write(f"/a folder/{name}", content)
        assert (tmp_path / "a folder" / name).read_bytes() == content
        assert node.read(PurePosixPath("/a folder") / name) == content
    assert [file.name for file in (tmp_path / "a folder").iterdir()] == [name]


def test_a_file_that_cannot_be_written_is_the_nodes_failure(tmp_path: Path) -> None:
    node = FakeNode(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    for path in ("/file/below", "/folder"):
        with pytest.raises(NodeFailure, match=f"{path} cannot be written on the node: "):
            node.write(path, b"")
    for path in ("etc/hosts", "/", ""):
        with pytest.raises(InputError, match="no absolute path"):
            node.write(path, b"")


@pytest.mark.parametrize(
    ("left", "words"),
    [
        ("4096 0 210000 50000 53000", "the data partition /dev/nvme0n1p2 is full: 0 KiB of 820 MiB are free"),
        ("4096 90000 210000 0 53000", "the data partition /dev/nvme0n1p2 has no inodes left: 0 of 53000 are free"),
        ("4096 90000 210000 50000 53000", ""),
    ],
)
def test_a_file_that_cannot_be_written_tells_what_there_is_no_room_for(tmp_path: Path, left: str, words: str) -> None:
    node = FakeNode(tmp_path)
    told = Result(0, f"clock {time.time():.0f}\nroom /dev/nvme0n1p2 {left}\n".encode())
    node.boot.agent = SimpleNamespace(answers=True, run=lambda *_: told)  # type: ignore[assignment]
    (tmp_path / "folder").mkdir()
    with pytest.raises(NodeFailure) as failed:
        node.write("/folder", b"")
    assert str(failed.value).partition("Is a directory: ")[2].partition("; ")[2] == words


def test_a_node_to_which_long_packets_do_not_come_through_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = FakeNode(tmp_path, Silent())
    monkeypatch.setattr("harness.lab.questions.loss_of_long", lambda capture: f"long packets are lost by {capture.name}")
    with pytest.raises(NodeFailure, match=r"does not list its pods: nobody listens; long packets are lost by wire.pcap$"):
        node.pods()


def test_a_file_is_written_with_bytes_alone(tmp_path: Path) -> None:
    text: Any = "words"
    with pytest.raises(InputError, match="/etc/motd was to be written with str: give bytes"):
        FakeNode(tmp_path).write("/etc/motd", text)


def test_a_file_that_is_not_there_is_the_nodes_failure(tmp_path: Path) -> None:
    with pytest.raises(NodeFailure, match="/missing cannot be read on the node"):
        FakeNode(tmp_path).read("/missing")
    with pytest.raises(InputError, match="no absolute path"):
        FakeNode(tmp_path).read("etc/hosts")


def test_pods_have_their_own_containers_only(tmp_path: Path) -> None:
    assert FakeNode(tmp_path).pods() == (Pod("node", "kube-system", "Running", (STATE,)),)
    with pytest.raises(NodeFailure, match="does not list its pods: nobody listens"):
        FakeNode(tmp_path, Silent()).pods()


def test_logs_of_earlier_runs_come_first(tmp_path: Path) -> None:
    folder = tmp_path / "var/log/pods/kube-system_node_uid/dhcpcd"
    folder.mkdir(parents=True)
    for number in (0, 2, 10):
        (folder / f"{number}.log").write_text(f"2026-01-01T00:00:00.1Z stdout F run {number}\n")
    (tmp_path / "var/log/pods/kube-system_node-2_uid/dhcpcd").mkdir(parents=True)
    (tmp_path / "var/log/pods/kube-system_node-2_uid/dhcpcd/0.log").write_text("another pod's\n")
    assert FakeNode(tmp_path).logs("node", "dhcpcd") == "run 0\nrun 2\nrun 10\n"


def test_a_run_that_was_cut_off_does_not_spoil_the_next(tmp_path: Path) -> None:
    folder = tmp_path / "var/log/pods/kube-system_node_uid/dhcpcd"
    folder.mkdir(parents=True)
    (folder / "0.log").write_bytes(b"2026-01-01T00:00:00.1Z stdout F run 0\n" + bytes(100))
    (folder / "1.log").write_text("2026-01-02T00:00:00.1Z stdout F run 1\n")
    assert FakeNode(tmp_path).logs("node", "dhcpcd") == "run 0\nrun 1\n"


def test_no_log_is_the_nodes_failure_and_a_wrong_name_the_tests(tmp_path: Path) -> None:
    with pytest.raises(NodeFailure, match="container dhcpcd of pod node has no log"):
        FakeNode(tmp_path).logs("node", "dhcpcd")
    with pytest.raises(InputError, match="no name of a pod"):
        FakeNode(tmp_path).logs("node; reboot", "dhcpcd")


def test_wait_for_line_returns_the_line(tmp_path: Path) -> None:
    node = FakeNode(tmp_path, Kubelet("first\nleased 10.0.2.15 for ever\nlast\n"))
    assert node.wait_for_line("node", "dhcpcd", r"leased \S+") == "leased 10.0.2.15 for ever"
    with pytest.raises(
        NodeFailure, match=r"a line 'nothing' of container dhcpcd of pod node.*its log has 3 lines, the last: last"
    ):
        node.wait_for_line("node", "dhcpcd", "nothing")
    with pytest.raises(InputError, match="no regular expression"):
        node.wait_for_line("node", "dhcpcd", "(")


def test_wait_for_state_returns_it_and_refuses_what_is_none(tmp_path: Path) -> None:
    node = FakeNode(tmp_path)
    assert node.wait_for_state("node", "dhcpcd", "running") is STATE
    with pytest.raises(NodeFailure, match=r"container dhcpcd of pod node is terminated.*; it is running"):
        node.wait_for_state("node", "dhcpcd", "terminated")
    with pytest.raises(InputError, match="There is no state 'ready'"):
        node.wait_for_state("node", "dhcpcd", "ready")


def test_a_container_that_nobody_knows_is_not_waited_for(tmp_path: Path) -> None:
    for wait in (FakeNode(tmp_path).wait_for_state, FakeNode(tmp_path).wait_for_line):
        with pytest.raises(InputError, match="There is no container dhcpd of pod node; the node has node/dhcpcd"):
            wait("node", "dhcpd", "running")
        with pytest.raises(NodeFailure, match="late"):
            wait("node", "late", "running")


def test_a_kubelet_that_is_silent_is_waited_for(tmp_path: Path) -> None:
    with pytest.raises(NodeFailure, match="it did not happen"):
        FakeNode(tmp_path, Silent()).wait_for_state("node", "dhcpcd", "running")


def test_a_port_that_cannot_be_is_refused(tmp_path: Path) -> None:
    for port in (0, -1, 65536):
        with pytest.raises(InputError, match="There is no TCP port"):
            FakeNode(tmp_path).wait_for_port(port)


def test_a_port_is_found_by_its_listener(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        FakeNode(tmp_path).wait_for_port(port)
    with pytest.raises(NodeFailure, match=f"TCP port {port}"):
        FakeNode(tmp_path).wait_for_port(port)
