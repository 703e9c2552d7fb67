"""The kubelet's configuration file: read as the kubelet reads it, with a client's authority added to those that it trusts."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from harness.errors import InputError
from harness.manifests import yaml_reader

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
# KubeletConfiguration v1beta1: what each of these fields on the way to the client's authority has to be.
_WAY = ("authentication", "x509")


@dataclass(frozen=True)
class Trusting:
    """A configuration that trusts one more authority, and the bundle of all whom it trusts."""

    config: bytes
    bundle: bytes


def trusting(
    shipped: bytes | None, bundle: PurePosixPath, authority: bytes, file: Callable[[PurePosixPath], bytes | None]
) -> Trusting:
    """Adds an authority (PEM) to a configuration, whose client CA file is `bundle` then; all else stays as it was shipped.

    `shipped` is None where the image has none: kiOS's own is taken. `file` reads files of the image by their paths on the
    node. Raises InputError for a configuration that a kubelet could not read, or whose authorities are not in the image.
    """
    config = _read(shipped) if shipped and shipped.strip() else json.loads(json.dumps(_SHIPPED))
    place = config
    for name in _WAY:
        place[name] = place.get(name) or {}
        place = place[name]
        if not isinstance(place, dict):
            raise _unfit(f"its field {name} is no mapping")
    theirs = place.get("clientCAFile") or ""
    place["clientCAFile"] = str(bundle)
    # JSON is YAML in which no text is taken for a number or a boolean.
    return Trusting(json.dumps(config, indent=1).encode() + b"\n", _authorities(str(theirs), file) + authority)


def _read(shipped: bytes) -> dict[str, Any]:
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
