"""The kubelet's configuration file: read as the kubelet reads it, with a client's authority added to those that it trusts.

What it says about its kubelet is kept, and the harness follows it (`Settings`).
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from harness.errors import InputError
from harness.manifests import yaml_reader

_KIND = "KubeletConfiguration"
# kiOS's own configuration, for images without one on the data partition; a file there replaces it as a whole.
_SHIPPED: Mapping[str, object] = {
    "apiVersion": "kubelet.config.k8s.io/v1beta1",
    "kind": _KIND,
    "staticPodPath": "/etc/kubernetes/manifests",
    "containerRuntimeEndpoint": "unix:///var/run/crio/crio.sock",
    "cgroupDriver": "cgroupfs",
    "makeIPTablesUtilChains": False,
    "shutdownGracePeriod": "30s",
    "shutdownGracePeriodCriticalPods": "10s",
    "authentication": {"webhook": {"enabled": False}},
    "authorization": {"mode": "AlwaysAllow"},
}
# The path of the client's authority in KubeletConfiguration v1beta1; each of these fields is a mapping.
_WAY = ("authentication", "x509")
# The kubelet's own defaults (the same, SetDefaults_KubeletConfiguration).
_PORT, _LOGS = 10250, "/var/log/pods"
_MANIFESTS = PurePosixPath("/etc/kubernetes/manifests")
# Addresses on which only the node itself reaches the kubelet.
_LOOPBACK = ("127.", "::1", "localhost")


@dataclass(frozen=True)
class Settings:
    """What a configuration says about its kubelet: the folder of its static pods, on the node, and the port of its API."""

    manifests: PurePosixPath = _MANIFESTS
    port: int = _PORT


@dataclass(frozen=True)
class Trusting:
    """A configuration that trusts one more authority, and the bundle of all trusted authorities."""

    config: bytes
    bundle: bytes


def trusting(
    shipped: bytes | None,
    bundle: PurePosixPath,
    authority: bytes,
    file: Callable[[PurePosixPath], bytes | None],
    manifests: PurePosixPath | None = None,
) -> Trusting:
    """Adds an authority (PEM) to a configuration, whose client CA file becomes `bundle`; everything else is kept.

    `shipped` is None if the image has no configuration; kiOS's own is used then. `file` reads files of the image by their paths
    on the node, and `manifests`, if given, replaces the image's folder for static pods. Raises InputError for a configuration
    that a kubelet could not read, or whose authorities are not in the image.
    """
    config = _read(shipped)
    place = config
    for name in _WAY:
        place[name] = place.get(name) or {}
        place = place[name]
        if not isinstance(place, dict):
            raise _unfit(f"its field {name} is no mapping")
    theirs = place.get("clientCAFile") or ""
    place["clientCAFile"] = str(bundle)
    if manifests:
        config["staticPodPath"] = str(manifests)
    # JSON is YAML in which no text can be taken as a number or a boolean.
    return Trusting(json.dumps(config, indent=1).encode() + b"\n", _authorities(str(theirs), file) + authority)


def settings(shipped: bytes | None) -> Settings:
    """The settings in a configuration; kiOS's own if there is none, or one of another kind, which a kubelet refuses itself.

    Raises InputError for one that a kubelet could not read, or with which the harness could not give pods to the node or ask it
    about them.
    """
    config = _read(shipped)
    if config.get("kind") != _KIND:
        return Settings()
    manifests = str(config.get("staticPodPath") or "")
    if not manifests:
        raise _unfit("it has no staticPodPath, and such a kubelet runs no static pod at all")
    if not PurePosixPath(manifests).is_relative_to("/etc") or ".." in PurePosixPath(manifests).parts:
        raise _unusable(f"its staticPodPath is {manifests}, and pods are given to a node below /etc only")
    if config.get("enableServer") is False:
        raise _unusable("its enableServer is false, and nobody can ask such a kubelet for its pods")
    address = str(config.get("address") or "")
    if address.startswith(_LOOPBACK):
        raise _unusable(f"its address is {address}, where nobody but its own node reaches it")
    if (logs := config.get("podLogsDir") or _LOGS) != _LOGS:
        raise _unusable(f"its podLogsDir is {logs}, and containers' logs are read in {_LOGS} only")
    port = config.get("port") or _PORT
    if not isinstance(port, int) or not 0 < port < 1 << 16:
        raise _unfit(f"its port is {port!r}")
    return Settings(PurePosixPath(manifests), port)


def _read(shipped: bytes | None) -> dict[str, Any]:
    if not shipped or not shipped.strip():
        own: dict[str, Any] = json.loads(json.dumps(_SHIPPED))
        return own
    document = yaml_reader.parse(shipped)
    if document.root is None:
        first = document.errors[0]
        raise _unfit(f"line {first.line}: {first.words}")
    config = document.root.plain()
    if not isinstance(config, dict):
        raise _unfit(f"it holds {config!r:.60}")
    return config


def _authorities(named: str, file: Callable[[PurePosixPath], bytes | None]) -> bytes:
    if not named:
        return b""
    theirs = file(PurePosixPath(named))
    if theirs is None:
        raise _unfit(f"its clientCAFile {named} is not on the data partition, where it could be added to")
    return theirs.rstrip(b"\n") + b"\n"


def _unfit(why: str) -> InputError:
    return InputError(f"/etc/kubernetes/config.yaml on the image's data partition is no kubelet configuration: {why}.")


def _unusable(why: str) -> InputError:
    return InputError(f"A node with the image's /etc/kubernetes/config.yaml cannot be tested: {why}. Change that in the image.")
