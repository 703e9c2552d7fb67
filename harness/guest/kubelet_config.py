"""The kubelet's configuration file: read as the kubelet reads it, with a client's authority added to those that it trusts.

What it says of its kubelet stays: whoever deals with that one goes by its `Settings`.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from harness.errors import InputError
from harness.manifests import yaml_reader

_KIND = "KubeletConfiguration"
# kiOS's configuration as shipped, for images whose data partition holds none: a file replaces it as a whole.
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
# KubeletConfiguration v1beta1: what each of these fields on the way to the client's authority has to be.
_WAY = ("authentication", "x509")
# The kubelet's own defaults (the same, SetDefaults_KubeletConfiguration).
_PORT, _LOGS = 10250, "/var/log/pods"
_MANIFESTS = PurePosixPath("/etc/kubernetes/manifests")
# Addresses on which nobody but the node itself reaches it.
_LOOPBACK = ("127.", "::1", "localhost")


@dataclass(frozen=True)
class Settings:
    """What a configuration says of its kubelet: the folder of its static pods, on the node, and the port of its API."""

    manifests: PurePosixPath = _MANIFESTS
    port: int = _PORT


@dataclass(frozen=True)
class Trusting:
    """A configuration that trusts one more authority, and the bundle of all whom it trusts."""

    config: bytes
    bundle: bytes


def trusting(
    shipped: bytes | None,
    bundle: PurePosixPath,
    authority: bytes,
    file: Callable[[PurePosixPath], bytes | None],
    manifests: PurePosixPath | None = None,
) -> Trusting:
    """Adds an authority (PEM) to a configuration, whose client CA file is `bundle` then; all else stays as it was shipped.

    `shipped` is None where the image has none: kiOS's own is taken. `file` reads files of the image by their paths on the
    node, and `manifests` is a folder for static pods in the place of the image's. Raises InputError for a configuration that
    a kubelet could not read, or whose authorities are not in the image.
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
    # JSON is YAML in which no text is taken for a number or a boolean.
    return Trusting(json.dumps(config, indent=1).encode() + b"\n", _authorities(str(theirs), file) + authority)


def settings(shipped: bytes | None) -> Settings:
    """What a configuration says, or kiOS's own where there is none, or one of another kind: that, a kubelet refuses by itself.

    Raises InputError for one that a kubelet could not read, or with which the harness could neither give its node pods nor ask
    it for them.
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
