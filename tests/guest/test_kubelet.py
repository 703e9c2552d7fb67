"""The kubelet's API over real TLS on this host: states as it tells them, changes once."""

import http.server
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import trustme

from harness.errors import HarnessError
from harness.guest import kubelet
from harness.guest.credentials import Credentials
from harness.guest.kubelet import REFUSALS, KubeletApi, KubeletWatch, StatusError
from harness.verdict.feed import ContainerState, Feed, KubeletRefusal

_PODS = {
    "items": [
        {
            "metadata": {"name": "node", "namespace": "kube-system"},
            "status": {
                "initContainerStatuses": [
                    {
                        "name": "parted",
                        "state": {
                            "terminated": {
                                "exitCode": 1,
                                "reason": "Error",
                                "startedAt": "1970-01-01T00:01:40Z",
                                "finishedAt": "1970-01-01T00:01:42Z",
                            }
                        },
                    },
                    {"name": "resize2fs", "state": {"waiting": {"reason": "ErrImagePull", "message": "no network"}}},
                ],
                "containerStatuses": [
                    {"name": "crio", "state": {"running": {"startedAt": "1970-01-01T01:00:00+01:00"}}},
                    {"name": "kubelet", "state": {"waiting": {"reason": "PodInitializing"}}},
                    {"name": "quiet", "state": {}},
                ],
            },
        },
        {"metadata": {"name": "young", "namespace": "default"}, "status": {}},
    ]
}


class Kubelet:
    """An HTTPS server on 127.0.0.1 that wants a client certificate of one authority, as the kubelet does."""

    _authority: ClassVar[trustme.CA] = trustme.CA()

    def __init__(self, client_ca: bytes) -> None:
        self.status, self.body = 200, json.dumps(_PODS).encode()
        self.requests: list[str] = []
        self.hang_up = False
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # an answer in one piece, or it waits for an acknowledgement

            def do_GET(self) -> None:
                outer.requests.append(self.path)
                if outer.hang_up:
                    self.close_connection = True
                    return
                self.send_response(outer.status)
                self.send_header("Content-Length", str(len(outer.body)))
                self.end_headers()
                self.wfile.write(outer.body)

            def log_message(self, *_: object) -> None:
                pass

        class Server(http.server.ThreadingHTTPServer):
            block_on_close = False

            def handle_error(self, *_: object) -> None:
                """A client that is refused or leaves is no error of these tests."""

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._authority.issue_cert("kubelet.invalid").configure_cert(context)
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=client_ca.decode())
        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def say(self, *containers: dict[str, Any]) -> None:
        pod = {"metadata": {"name": "node", "namespace": "kube-system"}, "status": {"containerStatuses": list(containers)}}
        self.body = json.dumps({"items": [pod]}).encode()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> Credentials:
    return Credentials.make(tmp_path_factory.mktemp("credentials"))


@pytest.fixture
def server(credentials: Credentials) -> Iterator[Kubelet]:
    kubelet = Kubelet(credentials.authority)
    yield kubelet
    kubelet.close()


@pytest.fixture
def api(server: Kubelet, credentials: Credentials) -> Iterator[KubeletApi]:
    api = KubeletApi(server.port, credentials)
    yield api
    api.close()


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 3
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_states_are_as_the_kubelet_tells_them(api: KubeletApi) -> None:
    found = [(s.pod, s.container, s.state, s.reason, s.exit_code, s.started, s.finished) for s in api.states()]
    assert found == [
        ("node", "parted", "terminated", "Error", 1, 100.0, 102.0),
        ("node", "resize2fs", "waiting", "ErrImagePull: no network", None, None, None),
        ("node", "crio", "running", "", None, 0.0, None),
        ("node", "kubelet", "waiting", "PodInitializing", None, None, None),
        ("node", "quiet", "waiting", "", None, None, None),
    ]


def test_how_the_run_before_ended_is_told(server: Kubelet, api: KubeletApi) -> None:
    ended = {"exitCode": 137, "reason": "OOMKilled"}
    waiting = {"waiting": {"reason": "CrashLoopBackOff"}}
    server.say(
        {"name": "a", "state": waiting, "lastState": {"terminated": ended}}, {"name": "b", "state": waiting, "lastState": {}}
    )
    assert [state.last_end for state in api.states()] == [(137, "OOMKilled"), None]


@pytest.mark.parametrize("body", [b'{"items": null}', b"{}", b'{"items": []}'])
def test_no_pods_are_no_states(server: Kubelet, api: KubeletApi, body: bytes) -> None:
    server.body = body
    assert api.states() == []


def test_a_log_is_read_as_text(server: Kubelet, api: KubeletApi) -> None:
    server.body = b"line\n\xff\n"
    assert api.logs("kube-system", "node", "crio") == "line\n\ufffd\n"
    assert server.requests == ["/containerLogs/kube-system/node/crio"]


def test_a_refusal_is_told_with_its_status_and_words(server: Kubelet, api: KubeletApi) -> None:
    server.status, server.body = 401, b"Unauthorized"
    with pytest.raises(StatusError, match="answers 401 to GET /pods: Unauthorized") as refused:
        api.states()
    assert refused.value.status == 401
    server.status, server.body = 200, b"{}"
    assert api.states() == []


def test_a_client_of_another_authority_gets_no_answer(server: Kubelet, tmp_path: Path) -> None:
    stranger = KubeletApi(server.port, Credentials.make(tmp_path))
    with pytest.raises(OSError):  # noqa: PT011 (TLS words differ between versions of OpenSSL)
        stranger.get("/pods")
    stranger.close()
    assert server.requests == []


def test_a_connection_broken_off_is_an_os_error_and_the_next_request_opens_another(server: Kubelet, api: KubeletApi) -> None:
    assert api.get("/pods")
    server.hang_up = True
    with pytest.raises(OSError):  # noqa: PT011 (as above)
        api.get("/pods")
    server.hang_up = False
    assert api.get("/pods")


def test_an_answer_that_ends_early_is_an_os_error(server: Kubelet, credentials: Credentials) -> None:
    class Short(bytes):
        def __len__(self) -> int:
            return 1000

    server.body = Short(b"{}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kubelet, "_ANSWER_SECONDS", 0.1)
        api = KubeletApi(server.port, credentials)
    with pytest.raises(OSError):  # noqa: PT011 (as above)
        api.get("/pods")
    api.close()


def test_silence_is_an_os_error(credentials: Credentials, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubelet, "_ANSWER_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        api = KubeletApi(mute.getsockname()[1], credentials)
        began = time.monotonic()
        with pytest.raises(OSError, match="timed out"):
            api.get("/pods")
        assert time.monotonic() - began < 1
    with pytest.raises(ConnectionRefusedError):
        api.get("/pods")


def test_an_answer_that_a_busy_host_holds_up_is_waited_for(credentials: Credentials, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubelet, "_ANSWER_SECONDS", 0.4)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        api = KubeletApi(mute.getsockname()[1], credentials, lambda: 0.8 * time.monotonic())
        began = time.monotonic()
        with pytest.raises(HarnessError, match=r"did not answer to GET /pods, and the host was too busy: QEMU waited 1 s more"):
            api.get("/pods")
        assert 1 < time.monotonic() - began < 3


def test_a_host_that_takes_a_little_gives_that_back_and_no_more(
    credentials: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubelet, "_ANSWER_SECONDS", 0.8)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        api = KubeletApi(mute.getsockname()[1], credentials, lambda: 0.1 * time.monotonic())
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            api.get("/pods")
        assert time.monotonic() - began < 1.3


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubelet, "_POLL_SECONDS", 0.01)


def states(feed: Feed) -> list[tuple[str, str]]:
    return [(entry.container, entry.state) for entry in feed.since(0) if isinstance(entry, ContainerState)]


@pytest.mark.usefixtures("quick")
def test_every_change_is_published_once(server: Kubelet, api: KubeletApi) -> None:
    feed = Feed()
    server.say({"name": "crio", "state": {"waiting": {}}}, {"name": "side", "state": {"running": {}}})
    watch = KubeletWatch(api, lambda: True, feed)
    wait_until(lambda: len(server.requests) > 4)
    assert states(feed) == [("crio", "waiting"), ("side", "running")]
    server.say({"name": "crio", "state": {"running": {}}}, {"name": "side", "state": {"running": {}}})
    wait_until(lambda: len(states(feed)) == 3)
    # Started again between two questions: the same state at another time.
    server.say({"name": "crio", "state": {"running": {"startedAt": "2024-01-01T00:00:00Z"}}})
    wait_until(lambda: len(states(feed)) == 4)
    asked = len(server.requests)
    wait_until(lambda: len(server.requests) > asked + 2)
    watch.close()
    assert states(feed) == [("crio", "waiting"), ("side", "running"), ("crio", "running"), ("crio", "running")]


@pytest.mark.usefixtures("quick")
def test_nothing_is_asked_before_the_node_is_reachable(server: Kubelet, api: KubeletApi) -> None:
    feed, asked, reachable = Feed(), threading.Semaphore(0), threading.Event()

    def is_reachable() -> bool:
        asked.release()
        return reachable.is_set()

    watch = KubeletWatch(api, is_reachable, feed)
    for _ in range(3):
        assert asked.acquire(timeout=3)
    assert server.requests == []
    assert feed.position() == 0
    reachable.set()
    assert feed.wait_beyond(0, 3)
    watch.close()


def refusals(feed: Feed) -> list[str]:
    return [entry.words for entry in feed.since(0) if isinstance(entry, KubeletRefusal)]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_that_stands_is_told_once(
    server: Kubelet, api: KubeletApi, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubelet, "_STANDS_SECONDS", 0.2)
    feed, well, server.status = Feed(), server.body, status
    watch = KubeletWatch(api, lambda: True, feed)
    wait_until(lambda: bool(refusals(feed)))
    asked = len(server.requests)
    wait_until(lambda: len(server.requests) > asked + 40)
    assert refusals(feed) == [f"{REFUSALS[status]}, for 0 s by now"]
    # A clock that was set meanwhile, and one that is off again.
    server.status, server.body = 200, well
    wait_until(lambda: bool(states(feed)))
    server.status = status
    wait_until(lambda: len(refusals(feed)) == 2)
    watch.close()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("statuses", [(401, 200), (401, 500), (500,)])
def test_a_refusal_that_comes_and_goes_or_is_another_is_not_told(
    server: Kubelet, api: KubeletApi, statuses: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubelet, "_STANDS_SECONDS", 0.5)
    feed, began = Feed(), time.monotonic()
    watch = KubeletWatch(api, lambda: True, feed)
    while time.monotonic() - began < 1:
        for server.status in statuses:
            asked = len(server.requests)
            wait_until(lambda asked=asked: len(server.requests) > asked + 1)  # type: ignore[misc]
    watch.close()
    assert refusals(feed) == []


@pytest.mark.usefixtures("quick")
def test_a_watch_outlives_refusals_and_broken_answers(server: Kubelet, api: KubeletApi) -> None:
    feed, whole = Feed(), server.body
    server.status = 500
    watch = KubeletWatch(api, lambda: True, feed)
    wait_until(lambda: len(server.requests) >= 2)
    server.status, server.body = 200, b'{"items": ['
    asked = len(server.requests)
    wait_until(lambda: len(server.requests) >= asked + 2)
    for odd in (b'{"items": ' + b"[" * 200_000, b'{"items": [{"metadata": {"name": {"a": 1}}}]}'):
        server.body = odd
        server.requests.clear()
        wait_until(lambda: len(server.requests) >= 2)
    server.hang_up = True
    asked = len(server.requests)
    wait_until(lambda: len(server.requests) >= asked + 2)
    assert feed.position() == 0
    server.hang_up, server.body = False, whole
    assert feed.wait_beyond(4, 3)
    watch.close()


@pytest.mark.usefixtures("quick")
def test_close_ends_the_thread_and_the_questions(server: Kubelet, api: KubeletApi) -> None:
    watch = KubeletWatch(api, lambda: True, Feed())
    wait_until(lambda: bool(server.requests))
    assert "kubelet-watch" in [thread.name for thread in threading.enumerate()]
    watch.close()
    assert "kubelet-watch" not in [thread.name for thread in threading.enumerate()]
    asked = len(server.requests)
    time.sleep(0.05)
    assert len(server.requests) == asked


def test_an_answer_without_an_end_is_cut_off(server: Kubelet, api: KubeletApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubelet, "_MOST_BYTES", 1 << 20)
    server.body = b" " * (2 << 20)
    with pytest.raises(OSError, match="more than 1 MiB"):
        api.get("/pods")
    monkeypatch.setattr(kubelet, "_BODY_SECONDS", -1.0)
    server.body = b"{}"
    with pytest.raises(OSError, match="did not end within"):
        api.get("/pods")
