"""The kubelet's HTTP API on port 10250, asked with a client certificate made for the run."""

import datetime
import http.client
import json
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import trustme
import yaml

from harness.errors import HarnessError
from harness.feed import ContainerState, Feed

CONFIG = PurePosixPath("/meta/etc/kubernetes/config.yaml")
_CLIENT_CA = PurePosixPath("/meta/etc/kubernetes/kios-e2e-ca.pem")
_ANSWER_SECONDS = 10.0
_POLL_SECONDS = 0.5
# kiOS's configuration as shipped, for images whose data partition holds none: a file replaces it as a whole.
_SHIPPED: Mapping[str, object] = {
    "apiVersion": "kubelet.config.k8s.io/v1beta1",
    "kind": "KubeletConfiguration",
    "staticPodPath": "/etc/kubernetes/manifests",
    "containerRuntimeEndpoint": "unix:///var/run/crio/crio.sock",
    "cgroupDriver": "cgroupfs",
    "makeIPTablesUtilChains": False,
    "shutdownGracePeriod": "30s",
    "shutdownGracePeriodCriticalPods": "10s",
    "authentication": {"webhook": {"enabled": False}},
    "authorization": {"mode": "AlwaysAllow"},
}


@dataclass(frozen=True)
class Credentials:
    """A certificate authority that nothing else trusts and a client certificate of it, in a folder."""

    folder: Path

    @classmethod
    def make(cls, folder: Path) -> "Credentials":
        """Makes both; the authority's key is thrown away."""
        made = cls(folder)
        authority = trustme.CA(organization_name="kios-e2e")
        authority.cert_pem.write_to_path(str(folder / "kubelet-ca.pem"))
        made.client.touch(mode=0o600)
        issued = authority.issue_cert("kios-e2e.invalid", common_name="kios-e2e")
        issued.private_key_and_cert_chain_pem.write_to_path(str(made.client))
        return made

    @property
    def authority(self) -> bytes:
        """The authority's certificate, as PEM."""
        return (self.folder / "kubelet-ca.pem").read_bytes()

    @property
    def client(self) -> Path:
        """A PEM file with the client's key and certificate."""
        return self.folder / "kubelet-client.pem"

    def files(self, shipped: bytes | None) -> dict[PurePosixPath, bytes]:
        """What the data partition needs so that the kubelet knows the authority; the rest stays as it was shipped.

        `shipped` is the configuration that the data partition holds already, None if it holds none.
        """
        loaded = yaml.safe_load(shipped) if shipped else _SHIPPED
        if not isinstance(loaded, Mapping):
            raise HarnessError(f"{CONFIG} on the data partition is no kubelet configuration: it holds {loaded!r:.60}.")
        config = dict(loaded)
        authentication = dict(config.get("authentication") or {})
        authentication["x509"] = {"clientCAFile": "/etc/kubernetes/" + _CLIENT_CA.name}
        config["authentication"] = authentication
        return {CONFIG: yaml.safe_dump(config, sort_keys=False).encode(), _CLIENT_CA: self.authority}


class KubeletApi:
    """The kubelet of one node, behind a forwarded port on 127.0.0.1: one connection, for one thread, kept open."""

    def __init__(self, port: int, credentials: Credentials) -> None:
        self.port = port
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        # The kubelet signs its own server certificate at every first boot: there is nothing to check it against.
        self._context.check_hostname = False
        self._context.verify_mode = ssl.CERT_NONE
        self._context.load_cert_chain(credentials.client)
        self._connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=_ANSWER_SECONDS, context=self._context)

    def get(self, path: str) -> bytes:
        """Returns the body of a GET; raises HarnessError unless the answer is 200, OSError while nobody answers."""
        try:
            self._connection.request("GET", path)
            response = self._connection.getresponse()
            body = response.read()
        except http.client.HTTPException as broken:
            self.close()
            raise OSError(f"the kubelet broke off its answer to {path}: {broken!r}") from broken
        except OSError:
            self.close()
            raise
        if response.status != 200:
            raise HarnessError(f"The kubelet answers {response.status} to GET {path}: {body[:500].decode(errors='replace')}")
        return body

    def close(self) -> None:
        """Closes the connection; the next request opens it again."""
        self._connection.close()

    def states(self) -> list[ContainerState]:
        """Returns the state of every container of every pod."""
        pods = json.loads(self.get("/pods")).get("items") or []
        return [state for pod in pods for state in _states_of(pod)]

    def logs(self, namespace: str, pod: str, container: str) -> str:
        """Returns the log of a container, as `kubectl logs` would."""
        return self.get(f"/containerLogs/{namespace}/{pod}/{container}").decode(errors="replace")


class KubeletWatch:
    """Publishes every change of a container's state, from the time on at which the node can be reached."""

    def __init__(self, api: KubeletApi, reachable: Callable[[], bool], feed: Feed) -> None:
        """Takes an API of its own; `reachable` is asked until it is true, so that no request is lost on the way.

        A lost one would not only be late: the kubelet writes about each, into a log that the scenarios read.
        """
        self._api, self._reachable, self._feed = api, reachable, feed
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kubelet-watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stops asking; returns once the thread has ended."""
        self._ended.set()
        self._thread.join(timeout=_ANSWER_SECONDS + 1)
        self._api.close()

    def _run(self) -> None:
        known: dict[tuple[str, str], tuple[object, ...]] = {}
        while not self._ended.is_set():
            if known or self._reachable():
                for state in self._states_now():
                    facts = (state.state, state.reason, state.exit_code, state.started)
                    if known.get((state.pod, state.container)) != facts:
                        known[state.pod, state.container] = facts
                        self._feed.publish(state)
            self._ended.wait(_POLL_SECONDS)

    def _states_now(self) -> list[ContainerState]:
        try:
            return self._api.states()
        except (OSError, HarnessError, ValueError, AttributeError, KeyError, TypeError):
            # Nobody answers, or something that is no list of pods: it is asked again.
            return []


def _states_of(pod: dict[str, Any]) -> list[ContainerState]:
    status = pod.get("status") or {}
    entries = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    return [_state_of(pod["metadata"]["name"], entry) for entry in entries]


def _state_of(pod: str, entry: dict[str, Any]) -> ContainerState:
    name, details = next(iter((entry.get("state") or {"waiting": {}}).items()))
    reason, message = details.get("reason") or "", details.get("message") or ""
    return ContainerState(
        pod=pod,
        container=entry["name"],
        state=name,
        reason=f"{reason}: {message}" if message else reason,
        exit_code=details.get("exitCode"),
        started=_seconds(details.get("startedAt")),
        finished=_seconds(details.get("finishedAt")),
    )


def _seconds(stamp: str | None) -> float | None:
    """RFC 3339 to seconds of the epoch."""
    return datetime.datetime.fromisoformat(stamp).timestamp() if stamp else None
