"""The kubelet's HTTP API on port 10250, asked with a client certificate made for the run."""

import datetime
import http.client
import json
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from harness.errors import HarnessError, Party
from harness.guest.credentials import Credentials
from harness.guest.remote_command import Abort, Lost, RemoteCommand
from harness.serial.result import Result
from harness.verdict.feed import ContainerState, Feed, KubeletRefusal, PodState
from harness.verdict.judge import Clock
from harness.verdict.outcome import delay, party

_ANSWER_SECONDS, _LEAST_SECONDS = 10.0, 0.1
_POLL_SECONDS = 0.5
_BODY_SECONDS, _MOST_BYTES, _PART_BYTES = 30.0, 64 << 20, 1 << 16
# The answers of a kubelet that does not accept the certificate, or does not authorize its owner.
REFUSALS: Mapping[int, str] = {
    HTTPStatus.UNAUTHORIZED: "the kubelet's API refuses the harness's client certificate (401 Unauthorized): it is of no "
    "authority in the kubelet's clientCAFile, or of another time by the node's clock",
    HTTPStatus.FORBIDDEN: "the kubelet's API lets the harness do nothing (403 Forbidden), though it knows its certificate",
}
# Until then, a time server on the node's network may still set a wrong clock.
_STANDS_SECONDS = 30.0


class StatusError(HarnessError):
    """The kubelet answered with an HTTP status other than 200."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


class KubeletApi:
    """The kubelet of one node, reached by a forwarded port on 127.0.0.1: one connection, for one thread, kept open.

    `lost` says for how many seconds the host has kept QEMU from running so far; the wait for an answer is extended by them.
    """

    def __init__(self, port: int, credentials: Credentials, lost: Lost = lambda: 0.0) -> None:
        self.port, self._lost = port, lost
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        # The kubelet signs its own server certificate at its first boot: there is nothing to check it against.
        self._context.check_hostname = False
        self._context.verify_mode = ssl.CERT_NONE
        self._context.load_cert_chain(credentials.client)
        self._connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=_ANSWER_SECONDS, context=self._context)

    def get(self, path: str) -> bytes:
        """Returns the body of a GET; raises StatusError unless the status is 200, OSError if nobody answers.

        If nobody answers, perhaps for lack of a CPU on the host, it raises HarnessError.
        """
        clock = Clock.of(_ANSWER_SECONDS, self._lost)
        while True:
            # For the next connection: after a timeout there is none.
            self._connection.timeout = max(_LEAST_SECONDS, clock.left())
            try:
                return self._got(path)
            except TimeoutError as silent:
                over = clock.over()
                if over and party(over) is Party.HOST:
                    raise HarnessError(f"the kubelet did not answer to GET {path}{delay(over)}") from silent
                if over:
                    raise

    def _got(self, path: str) -> bytes:
        try:
            self._connection.request("GET", path)
            response = self._connection.getresponse()
            body = self._body_of(response)
        except http.client.HTTPException as broken:
            self.close()
            raise OSError(f"the kubelet broke off its answer to {path}: {broken!r}") from broken
        except OSError:
            self.close()
            raise
        if response.status != 200:
            words = f"The kubelet answers {response.status} to GET {path}: {body[:500].decode(errors='replace')}"
            raise StatusError(response.status, words)
        return body

    def _body_of(self, response: http.client.HTTPResponse) -> bytes:
        """The whole body, limited in size and time: a node is not trusted to end its answer."""
        deadline, body = time.monotonic() + _BODY_SECONDS, bytearray()
        while part := response.read1(_PART_BYTES):
            body += part
            if len(body) > _MOST_BYTES:
                self.close()
                raise OSError(f"the kubelet's answer has more than {_MOST_BYTES >> 20} MiB")
            if time.monotonic() > deadline:
                self.close()
                raise OSError(f"the kubelet's answer did not end within {_BODY_SECONDS:.0f} s")
        if response.length:
            raise http.client.IncompleteRead(bytes(body), response.length)
        response.close()
        return bytes(body)

    def close(self) -> None:
        """Closes the connection; the next request opens it again."""
        self._connection.close()

    def pods(self) -> list[dict[str, Any]]:
        """Returns every pod as the kubelet lists it (Kubernetes API, v1 Pod)."""
        listed: list[dict[str, Any]] = json.loads(self.get("/pods")).get("items") or []
        return listed

    def answers(self) -> bool:
        """Whether the kubelet can be asked."""
        try:
            self.pods()
        except (OSError, HarnessError):
            return False
        return True

    def states(self) -> list[ContainerState]:
        """Returns the state of every container of every pod."""
        return [state for pod in self.pods() for state in _states_of(pod)]

    def changes(self) -> list[ContainerState | PodState]:
        """Returns the state of every container, and of every pod."""
        pods = self.pods()
        return [*(state for pod in pods for state in _states_of(pod)), *map(_phase_of, pods)]

    def logs(self, namespace: str, pod: str, container: str) -> str:
        """Returns the log of a container, as `kubectl logs` does."""
        return self.get(f"/containerLogs/{namespace}/{pod}/{container}").decode(errors="replace")

    def exec(self, command: RemoteCommand, within: float, abort: Abort, lost: Lost) -> Result:
        """Runs a command in a container, as `kubectl exec` does; see `RemoteCommand.run`."""
        return command.run(self.port, self._context, within, abort, lost)


class KubeletWatch:
    """Publishes every change of a container's state, as soon as the node can be reached."""

    def __init__(self, api: KubeletApi, reachable: Callable[[], bool], feed: Feed) -> None:
        """Takes an API of its own. It sends no request before `reachable` is true, so that none is lost on the way.

        A lost request would not only be late: the kubelet writes about each, in a log that the scenarios read.
        """
        self._api, self._reachable, self._feed = api, reachable, feed
        # The status that has been its only answer, and since when; the time is None once that was published.
        self._refused: tuple[int, float | None] | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kubelet-watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stops asking; returns once the thread has ended."""
        self._ended.set()
        self._thread.join(timeout=_ANSWER_SECONDS + 1)
        self._api.close()

    def _run(self) -> None:
        known: dict[tuple[str, str, str], tuple[object, ...]] = {}
        while not self._ended.is_set():
            if known or self._reachable():
                for state in self._states_now():
                    name = (state.namespace, state.pod, getattr(state, "container", ""))
                    facts = tuple(value for key, value in vars(state).items() if key != "at")
                    if known.get(name) != facts:
                        known[name] = facts
                        self._feed.publish(state)
            self._ended.wait(_POLL_SECONDS)

    def _states_now(self) -> list[ContainerState | PodState]:
        try:
            changes = self._api.changes()
        except StatusError as answer:
            self._hear_refusal(answer.status)
            return []
        except (OSError, HarnessError, ValueError, AttributeError, KeyError, TypeError, RecursionError):
            # Nobody answers, or not with a list of pods: it is asked again later.
            return []
        self._refused = None
        return changes

    def _hear_refusal(self, status: int) -> None:
        """Publishes a refusal, once, when it has lasted for `_STANDS_SECONDS`."""
        now = time.monotonic()
        told, since = self._refused or (status, now)
        if told != status or status not in REFUSALS:
            told, since = status, now
        elif since is not None and now - since >= _STANDS_SECONDS:
            self._feed.publish(KubeletRefusal(f"{REFUSALS[status]}, for {now - since:.0f} s by now"))
            since = None
        self._refused = told, since


def _states_of(pod: dict[str, Any]) -> list[ContainerState]:
    status = pod.get("status") or {}
    entries = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    return [_state_of(pod["metadata"], entry) for entry in entries]


def _phase_of(pod: dict[str, Any]) -> PodState:
    status, metadata = pod.get("status") or {}, pod["metadata"]
    return PodState(str(metadata["name"]), str(status.get("phase") or ""), _reason_in(status), str(metadata["namespace"]))


def _state_of(pod: dict[str, Any], entry: dict[str, Any]) -> ContainerState:
    name, details = next(iter((entry.get("state") or {"waiting": {}}).items()))
    before = (entry.get("lastState") or {}).get("terminated")
    return ContainerState(
        pod=str(pod["name"]),
        namespace=str(pod["namespace"]),
        container=str(entry["name"]),
        state=name,
        reason=_reason_in(details),
        exit_code=details.get("exitCode"),
        restarts=entry.get("restartCount") or 0,
        last_end=(int(before.get("exitCode") or 0), _reason_in(before)) if before else None,
        started=_seconds(details.get("startedAt")),
        finished=_seconds(details.get("finishedAt")),
    )


def _reason_in(status: dict[str, Any]) -> str:
    return ": ".join(filter(None, (status.get("reason"), status.get("message"))))


def _seconds(stamp: str | None) -> float | None:
    """RFC 3339 to seconds of the epoch."""
    return datetime.datetime.fromisoformat(stamp).timestamp() if stamp else None
