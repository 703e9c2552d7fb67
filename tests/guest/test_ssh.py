"""SSH into a node: only with the node's own keys, at once when it says no, and not before it listens."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import paramiko
import pytest
from paramiko.common import AUTH_FAILED, AUTH_SUCCESSFUL, OPEN_SUCCEEDED

from harness.errors import HarnessError, NodeFailure
from harness.guest import ssh
from harness.guest.credentials import Credentials

_SECONDS = 10.0


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Credentials:
    return Credentials.make(tmp_path_factory.mktemp("node"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Credentials:
    return Credentials.make(tmp_path_factory.mktemp("stranger"))


class Door(paramiko.ServerInterface):
    """Lets root in with one key."""

    def __init__(self, user: Path) -> None:
        self._user = paramiko.Ed25519Key.from_private_key_file(str(user))

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        let_in = (username, key) == ("root", self._user)
        return AUTH_SUCCESSFUL if let_in else AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return OPEN_SUCCEEDED


class Sshd:
    """An sshd with one host key on a port of 127.0.0.1; `clients` are the connections that it took."""

    def __init__(self, keys: Credentials, port: int = 0, turned_away: Sequence[bytes] = ()) -> None:
        """Hangs up on the first clients, on each after some of `turned_away`: no words are a forward that nobody is behind."""
        self.clients: list[paramiko.Transport] = []
        self._keys, self._turned_away = keys, list(turned_away)
        self._listening = socket.create_server(("127.0.0.1", port))
        self.port: int = self._listening.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                taken, _ = self._listening.accept()
                if self._turned_away:
                    with taken:
                        taken.sendall(self._turned_away.pop(0))
                        taken.shutdown(socket.SHUT_WR)
                        while taken.recv(4096):
                            pass
                    continue
                transport = paramiko.Transport(taken)
                transport.add_server_key(paramiko.Ed25519Key.from_private_key_file(str(self._keys.ssh_host)))
                self.clients.append(transport)
                with contextlib.suppress(paramiko.SSHException, EOFError):
                    transport.start_server(threading.Event(), Door(self._keys.ssh_user))

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(_SECONDS)
        for client in self.clients:
            client.close()


@pytest.fixture
def sshd(node: Credentials) -> Iterator[Sshd]:
    with contextlib.closing(Sshd(node)) as running:
        yield running


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
    return port


def connect(
    port: int,
    host: Credentials,
    user: Credentials,
    within: float = _SECONDS,
    abort: Callable[[], None] = lambda: None,
    lost: Callable[[], float] = lambda: 0.0,
) -> paramiko.SSHClient:
    return ssh.connect(port, host.ssh_host, user.ssh_user, within, abort, lost)


def becomes_true(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + _SECONDS
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def test_the_nodes_own_keys_let_root_in(sshd: Sshd, node: Credentials) -> None:
    with connect(sshd.port, node, node) as client:
        transport = client.get_transport()
        assert transport is not None
        assert transport.is_authenticated()
        assert transport.get_username() == "root"
        transport.open_session().close()


@pytest.mark.parametrize(
    ("host", "user", "why"),
    [
        pytest.param("node", "stranger", "Authentication failed", id="the user's key is another"),
        pytest.param("stranger", "node", "[Hh]ost key", id="the node's key is another"),
    ],
)
def test_another_key_is_a_failure_at_once(sshd: Sshd, request: pytest.FixtureRequest, host: str, user: str, why: str) -> None:
    began = time.monotonic()
    with pytest.raises(NodeFailure, match=f"^SSH: .*{why}"):
        connect(sshd.port, request.getfixturevalue(host), request.getfixturevalue(user), within=60)
    assert time.monotonic() - began < _SECONDS
    assert len(sshd.clients) == 1
    assert becomes_true(lambda: not sshd.clients[0].is_active()), "the refused connection was left open"


def test_it_waits_until_somebody_listens(free_port: int, node: Credentials) -> None:
    asked = 0
    started: list[Sshd] = []

    def abort() -> None:
        nonlocal asked
        asked += 1
        if asked == 2:
            started.append(Sshd(node, free_port))

    try:
        connect(free_port, node, node, abort=abort).close()
    finally:
        for running in started:
            running.close()
    assert asked == 2


@pytest.mark.parametrize(
    "words", [pytest.param(b"", id="nobody behind the forward"), pytest.param(b"SSH-2.0-Late\r\n", id="an sshd that ends")]
)
def test_a_hang_up_is_tried_again(node: Credentials, words: bytes, caplog: pytest.LogCaptureFixture) -> None:
    with contextlib.closing(Sshd(node, turned_away=[words, words])) as running:
        connect(running.port, node, node).close()
        assert len(running.clients) == 1
    assert not caplog.records, "each is a traceback on the terminal"


def test_nobody_ever_is_a_failure_when_the_time_is_over(free_port: int, node: Credentials) -> None:
    began = time.monotonic()
    with pytest.raises(NodeFailure, match=r"nobody let in within 1 s; the last try ended with: .*connect to port"):
        connect(free_port, node, node, within=1)
    assert 1 <= time.monotonic() - began < 3


def test_a_host_that_takes_the_cpu_makes_it_last_longer_and_proves_nothing(free_port: int, node: Credentials) -> None:
    began = time.monotonic()
    with pytest.raises(HarnessError, match=r"nobody let in within 0 s, and the host was too busy: QEMU waited 1 s more"):
        connect(free_port, node, node, within=0.4, lost=lambda: 0.8 * time.monotonic())
    assert time.monotonic() - began > 1


def test_somebody_who_says_nothing_is_waited_for_no_longer(node: Credentials) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        with pytest.raises(NodeFailure, match="nobody let in within 1 s"):
            connect(silent.getsockname()[1], node, node, within=1)
        assert 1 <= time.monotonic() - began < 3


def test_a_reason_to_stop_ends_it_at_once(free_port: int, node: Credentials) -> None:
    def abort() -> None:
        raise NodeFailure("the guest died")

    began = time.monotonic()
    with pytest.raises(NodeFailure, match=r"^the guest died$"):
        connect(free_port, node, node, within=60, abort=abort)
    assert time.monotonic() - began < _SECONDS


@pytest.mark.parametrize("content", [pytest.param(None, id="missing"), pytest.param("no key\n", id="no key")])
def test_a_key_that_cannot_be_read_is_no_verdict_on_the_node(
    sshd: Sshd, node: Credentials, tmp_path: Path, content: str | None
) -> None:
    broken = tmp_path / "key"
    if content is not None:
        broken.write_text(content)
    with pytest.raises(HarnessError, match=r"The SSH key .*/key of the run cannot be read"):
        ssh.connect(sshd.port, node.ssh_host, broken, _SECONDS, lambda: None)


def test_an_answer_that_does_not_come_in_time_is_no_refusal(
    sshd: Sshd, node: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh, "_TRY_SECONDS", 0.5)
    answer, asked = Door.check_auth_publickey, []

    def slow_at_first(door: Door, username: str, key: paramiko.PKey) -> int:
        asked.append(username)
        if len(asked) == 1:
            time.sleep(1)
        return answer(door, username, key)

    monkeypatch.setattr(Door, "check_auth_publickey", slow_at_first)
    with connect(sshd.port, node, node) as client:
        assert client.get_transport() is not None
    assert len(sshd.clients) == 2
