"""Commands by the kubelet's endpoint, against a WebSocket server that speaks its channels over TLS."""

import asyncio
import http
import json
import queue
import socket
import ssl
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from urllib.parse import parse_qsl, urlsplit

import pytest
import trustme
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from harness.errors import HarnessError, NodeFailure
from harness.guest import remote_command
from harness.guest.remote_command import RemoteCommand

COMMAND = RemoteCommand("kube-system", "node", "crio", ["/in it/cat", "-n", "a&b=c"])


def status(code: int) -> bytes:
    """The kubelet's last message, for an exit status."""
    if code == 0:
        return b'\x03{"metadata":{},"status":"Success"}'
    causes = [{"reason": "ExitCode", "message": str(code)}]
    failure = {"status": "Failure", "reason": "NonZeroExitCode", "message": "exited", "details": {"causes": causes}}
    return b"\x03" + json.dumps(failure).encode()


class Kubelet:
    """Answers each command with the same messages; `answer` is what it does with a connection."""

    def __init__(self) -> None:
        self.asked = ""
        self.refusal: tuple[http.HTTPStatus, str] | None = None
        self.says()
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        trustme.CA().issue_cert("kubelet.invalid").configure_cert(self._tls)
        self._ports: queue.Queue[int] = queue.Queue()
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        self.port = self._ports.get(timeout=10)

    def says(self, *messages: bytes) -> None:
        async def answer(connection: ServerConnection) -> None:
            for message in messages:
                await connection.send(message)

        self.answer: Callable[[ServerConnection], Awaitable[None]] = answer

    async def _serve(self) -> None:
        async with serve(
            lambda connection: self.answer(connection),
            "127.0.0.1",
            0,
            ssl=self._tls,
            subprotocols=[Subprotocol("v4.channel.k8s.io")],
            process_request=self._process,
            close_timeout=0.1,
        ) as server:
            self._loop = asyncio.get_running_loop()
            self._ports.put(server.sockets[0].getsockname()[1])
            await self._ended.wait()

    def _process(self, connection: ServerConnection, request: Request) -> Response | None:
        self.asked = request.path
        return connection.respond(*self.refusal) if self.refusal else None

    def close(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._ended.set)
            self._thread.join(timeout=10)


@pytest.fixture
def kubelet() -> Iterator[Kubelet]:
    server = Kubelet()
    yield server
    server.close()


def context() -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    return made


def run(
    kubelet: Kubelet,
    within: float = 5.0,
    abort: Callable[[], None] = lambda: None,
    lost: Callable[[], float] = lambda: 0.0,
) -> tuple[int, bytes]:
    done = COMMAND.run(kubelet.port, context(), within, abort, lost)
    return done.status, done.output


def test_a_command_is_asked_for_word_by_word(kubelet: Kubelet) -> None:
    kubelet.says(status(0))
    run(kubelet)
    asked = urlsplit(kubelet.asked)
    assert asked.path == "/exec/kube-system/node/crio"
    words = [("command", word) for word in COMMAND.words]
    assert parse_qsl(asked.query) == [*words, ("output", "1"), ("error", "1")]


@pytest.mark.parametrize("code", [0, 3, 137])
def test_output_and_errors_are_merged_as_they_come(kubelet: Kubelet, code: int) -> None:
    kubelet.says(b"\x01", b"\x01out\n\x00\xff", b"\x02err\n", b"", b"\x01again", b"\x04what nobody asked for", status(code))
    assert run(kubelet) == (code, b"out\n\x00\xfferr\nagain")


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b'{"status":"Failure","reason":"InternalError","message":"no such program"}', "no such program"),
        (b'{"status":"Failure","reason":"NonZeroExitCode"}', "NonZeroExitCode"),
        (b'{"status":"Failure","reason":"NonZeroExitCode","details":{"causes":[]}}', "causes"),
        (b"no JSON", "no JSON"),
        (b"[]", r"\[\]"),
        (b"[" * 100_000, r"\["),
    ],
)
def test_a_command_that_was_not_run_is_told_in_the_kubelets_words(kubelet: Kubelet, said: bytes, words: str) -> None:
    kubelet.says(b"\x03" + said)
    with pytest.raises(NodeFailure, match=rf"the kubelet does not run `.*` in container crio of pod node: .*{words}"):
        run(kubelet)


def test_a_refusal_is_told_with_its_status(kubelet: Kubelet) -> None:
    kubelet.refusal = (http.HTTPStatus.NOT_FOUND, "pod does not exist")
    with pytest.raises(NodeFailure, match="404 pod does not exist"):
        run(kubelet)


def test_a_connection_that_ends_early_is_the_nodes_failure(kubelet: Kubelet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_command, "_AFTERMATH_SECONDS", 0.0)
    kubelet.says(b"\x01out")
    with pytest.raises(NodeFailure, match="broke off"):
        run(kubelet)

    async def abort(connection: ServerConnection) -> None:
        connection.transport.abort()

    kubelet.answer = abort
    with pytest.raises(NodeFailure, match="broke off"):
        run(kubelet)
    kubelet.close()
    with pytest.raises(NodeFailure, match="broke off"):
        run(kubelet)


def test_a_node_that_died_is_the_reason_that_is_given(kubelet: Kubelet) -> None:
    asked: list[None] = []

    def abort() -> None:
        asked.append(None)
        if len(asked) == 2:
            raise NodeFailure("the guest panicked")

    kubelet.says(b"\x01out")
    with pytest.raises(NodeFailure, match="the guest panicked"):
        run(kubelet, abort=abort)


def test_silence_ends_with_the_time_or_the_node(kubelet: Kubelet) -> None:
    async def silent(connection: ServerConnection) -> None:
        await connection.send(b"\x01last words")
        await connection.wait_closed()

    kubelet.answer = silent
    with pytest.raises(NodeFailure, match=r"did not end within 0 s; it wrote: last words"):
        run(kubelet, within=0.4)
    began = time.monotonic()

    def abort() -> None:
        if time.monotonic() > began + 0.3:
            raise NodeFailure("the guest panicked")

    with pytest.raises(NodeFailure, match="the guest panicked"):
        run(kubelet, abort=abort)


def _starved() -> float:
    """Of each second the host takes 0.8."""
    return 0.8 * time.monotonic()


def test_a_host_that_takes_the_cpu_makes_a_command_last_longer_and_proves_nothing(kubelet: Kubelet) -> None:
    async def late(connection: ServerConnection) -> None:
        await asyncio.sleep(0.8)
        await connection.send(b"\x01done")
        await connection.send(status(0))

    kubelet.answer = late
    assert run(kubelet, within=0.4, lost=_starved) == (0, b"done")
    with pytest.raises(HarnessError, match=r"did not end within 0 s, and the host was too busy: QEMU waited 0 s more"):
        run(kubelet, within=0.15, lost=_starved)


@pytest.mark.parametrize(("lost", "failure"), [(lambda: 0.0, NodeFailure), (_starved, HarnessError)])
def test_a_handshake_is_waited_for_as_long_as_the_host_lets_it(
    kubelet: Kubelet, monkeypatch: pytest.MonkeyPatch, lost: Callable[[], float], failure: type[Exception]
) -> None:
    monkeypatch.setattr(remote_command, "_SHAKE_SECONDS", 0.4)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        began = time.monotonic()
        with pytest.raises(failure, match=r"broke off .* it did not shake hands within 0 s") as raised:
            COMMAND.run(mute.getsockname()[1], context(), 60, lambda: None, lost)
        assert raised.type is failure
        assert (time.monotonic() - began > 1) == (lost is _starved)


def test_a_handshake_in_parts_is_one(kubelet: Kubelet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_command, "_LOOK_SECONDS", 0.05)
    kubelet.says(b"\x01out", status(0))
    with slow_way(kubelet.port) as port:
        assert COMMAND.run(port, context(), 10, lambda: None).output == b"out"


@contextmanager
def slow_way(port: int) -> Iterator[int]:
    """A port behind which another is, whose answers come late and in parts."""

    def carry(source: socket.socket, target: socket.socket, seconds: float) -> None:
        with suppress(OSError):
            while data := source.recv(400):
                time.sleep(seconds)
                target.sendall(data)

    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with listening.accept()[0] as here, socket.create_connection(("127.0.0.1", port)) as there:
                back = threading.Thread(target=carry, args=(there, here, 0.15), daemon=True)
                back.start()
                carry(here, there, 0.0)

        threading.Thread(target=serve, daemon=True).start()
        yield listening.getsockname()[1]


def test_output_without_an_end_is_cut_off(kubelet: Kubelet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_command, "_MOST_BYTES", 1 << 20)
    monkeypatch.setattr(remote_command, "_AFTERMATH_SECONDS", 0.0)
    kubelet.says(*[b"\x01" + bytes(32 << 10)] * 40)
    with pytest.raises(NodeFailure, match="wrote more than 1 MiB"):
        run(kubelet)
    kubelet.says(b"\x01" + bytes(2 << 20))
    with pytest.raises(NodeFailure, match=r"broke off.*exceeds limit"):
        run(kubelet)


def test_a_message_in_parts_is_one(kubelet: Kubelet) -> None:
    async def in_parts(connection: ServerConnection) -> None:
        await connection.send([b"\x01par", b"ts"])
        await connection.send([status(0)[:5], status(0)[5:]])

    kubelet.answer = in_parts
    assert run(kubelet) == (0, b"parts")


def test_no_proxy_of_the_hosts_is_asked(kubelet: Kubelet, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    kubelet.says(status(0))
    assert run(kubelet) == (0, b"")
