"""Static pod manifests: loaded, checked before anything boots, and varied for a scenario."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from harness.errors import HarnessError
from harness.timeline import Milestone, container_done, container_running

_MANIFESTS = PurePosixPath("/meta/etc/kubernetes/manifests")
_LARGEST = 1 << 20
# Reference TCG: the first container comes 10 s behind the kubelet, each further one 2 to 10 s behind the one before.
_FIRST_CONTAINER_WITHIN = 180.0
_NEXT_CONTAINER_WITHIN = 60.0

# As PyYAML makes it of a file that a user wrote: its shape is checked before anything is done with it.
Manifest = dict[str, Any]


class _Dumper(yaml.SafeDumper):
    """Quotes every text that begins as a number: the kubelet reads YAML 1.2, to which `1e3` is one, PyYAML writes 1.1."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = '"' if text[:1] in set("+-.0123456789") else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)


_Dumper.add_representer(str, _represent_text)


@dataclass(frozen=True)
class StaticPod:
    """A pod manifest as the kubelet reads it from a file: `file` is the file's name on the node."""

    file: str
    manifest: Manifest = field(hash=False)

    @property
    def name(self) -> str:
        return str(self.manifest["metadata"]["name"])

    @property
    def init_containers(self) -> tuple[str, ...]:
        """Names, in the order in which they run."""
        return tuple(_names(self.manifest, "initContainers"))

    @property
    def containers(self) -> tuple[str, ...]:
        """Names of those that run side by side at the end."""
        return tuple(_names(self.manifest, "containers"))

    @property
    def place(self) -> PurePosixPath:
        """The manifest's path on the data partition (kiOS contract: /meta/etc is /etc)."""
        return _MANIFESTS / self.file

    def text(self) -> bytes:
        """The manifest as YAML."""
        return yaml.dump(self.manifest, Dumper=_Dumper, sort_keys=False).encode()

    def without(self, container: str) -> "StaticPod":
        """The same pod without one of its containers; raises HarnessError if it has none of that name."""
        changed = self._copy_with(container)
        for group in _groups(changed):
            group[:] = [entry for entry in group if entry["name"] != container]
        return StaticPod(self.file, changed)

    def with_args(self, container: str, args: Sequence[str]) -> "StaticPod":
        """The same pod with other arguments for one of its containers; raises HarnessError if it has none of that name."""
        changed = self._copy_with(container)
        for group in _groups(changed):
            for entry in group:
                if entry["name"] == container:
                    entry["args"] = list(args)
        return StaticPod(self.file, changed)

    def _copy_with(self, container: str) -> Manifest:
        if container not in (*self.init_containers, *self.containers):
            raise HarnessError(f"Pod {self.name} has no container {container}.")
        return copy.deepcopy(self.manifest)

    def milestones(self) -> tuple[Milestone, ...]:
        """Each container's: init containers done in their order, then the others running."""
        done = [(name, container_done(self.name, name)) for name in self.init_containers]
        running = [(name, container_running(self.name, name)) for name in self.containers]
        return tuple(
            Milestone(f"{self.name}/{name}", passed, _FIRST_CONTAINER_WITHIN + _NEXT_CONTAINER_WITHIN * position)
            for position, (name, passed) in enumerate([*done, *running])
        )


def load(file: Path) -> StaticPod:
    """Reads a manifest; raises HarnessError for what the kubelet would refuse or ignore, naming the file and the reason."""
    try:
        size = file.stat().st_size
        if size > _LARGEST:
            raise HarnessError(f"{file}: {size} bytes are no manifest: the largest one read has {_LARGEST}.")
        documents = [document for document in yaml.safe_load_all(file.read_text("utf-8")) if document is not None]
    except OSError as missing:
        raise HarnessError(f"{file}: cannot be read: {missing.strerror}.") from missing
    except (ValueError, yaml.YAMLError) as broken:
        raise HarnessError(f"{file}: is no YAML in UTF-8: {broken}") from broken
    if len(documents) != 1:
        raise HarnessError(f"{file}: holds {len(documents)} documents; the kubelet reads one pod from a file.")
    try:
        return StaticPod(file.name, _checked(file, documents[0]))
    except (AttributeError, TypeError) as odd:
        raise HarnessError(
            f"{file}: is not shaped as a Pod: a list, a mapping or a text stands where another belongs."
        ) from odd


def _checked(file: Path, manifest: object) -> Manifest:
    if not isinstance(manifest, dict) or manifest.get("kind") != "Pod":
        kind = manifest.get("kind") if isinstance(manifest, dict) else type(manifest).__name__
        raise HarnessError(
            f"{file}: is a {kind}; a static pod is `kind: Pod`: Deployments, DaemonSets, StatefulSets etc. are not supported."
        )
    metadata, spec = manifest.get("metadata"), manifest.get("spec")
    if not isinstance(metadata, dict) or not metadata.get("name"):
        raise HarnessError(f"{file}: metadata.name is missing.")
    if not isinstance(spec, dict) or not spec.get("containers"):
        raise HarnessError(f"{file}: spec.containers is missing: a pod has at least one container.")
    declared = {volume.get("name") for volume in spec.get("volumes") or ()}
    seen: set[str] = set()
    for group in _groups(manifest):
        for container in group:
            name = container.get("name")
            if not name or not container.get("image"):
                raise HarnessError(f"{file}: a container lacks its name or image: {container}.")
            if name in seen:
                raise HarnessError(f"{file}: two containers are named {name}.")
            seen.add(name)
            for mount in container.get("volumeMounts") or ():
                if mount.get("name") not in declared:
                    raise HarnessError(
                        f"{file}: container {name} mounts the volume {mount.get('name')}, which is not declared."
                    )
    return manifest


def _groups(manifest: Manifest) -> list[list[dict[str, Any]]]:
    spec = manifest["spec"]
    return [spec[key] for key in ("initContainers", "containers") if spec.get(key)]


def _names(manifest: Manifest, key: str) -> list[str]:
    spec = manifest["spec"]
    return [str(container["name"]) for container in spec.get(key) or ()]
