"""Static pods: loaded from their manifests, described, and varied for a scenario."""

import copy
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from harness.containers import reference
from harness.errors import InputError
from harness.manifests import demand, manifest, ports, yaml_reader
from harness.manifests.manifest import Manifest
from harness.manifests.ports import HostPort


class _Dumper(yaml.SafeDumper):
    """Also quotes texts, as `1e3` and `y`, that the kubelet would read as a number or a boolean although PyYAML would not."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = '"' if text[:1] in set("+-.0123456789") or text in ("y", "Y", "n", "N") else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)


_Dumper.add_representer(str, _represent_text)


@dataclass(frozen=True)
class StaticPod:
    """A pod manifest as the kubelet reads it from a file: `file` is the file's name on the node.

    `source` has the author's bytes, which are those that a node gets; None for a pod that was varied.
    """

    file: str
    manifest: Manifest = field(hash=False)
    source: bytes | None = field(default=None, compare=False, repr=False)

    @property
    def name(self) -> str:
        return str(self.manifest["metadata"]["name"])

    @property
    def init_containers(self) -> tuple[str, ...]:
        """The names of the init containers, in the order in which they run."""
        return tuple(_names(self.manifest, "initContainers"))

    @property
    def containers(self) -> tuple[str, ...]:
        """The names of the containers that run in parallel after the init containers."""
        return tuple(_names(self.manifest, "containers"))

    @property
    def namespace(self) -> str:
        return str(self.manifest["metadata"].get("namespace") or "default")

    @property
    def restart_policy(self) -> str:
        """`Always`, `OnFailure` or `Never`."""
        return str(self.manifest["spec"].get("restartPolicy") or "Always")

    @property
    def sidecars(self) -> tuple[str, ...]:
        """The names of the init containers that keep running (Kubernetes, sidecar containers)."""
        entries = self.manifest["spec"].get("initContainers") or ()
        return tuple(str(entry["name"]) for entry in entries if entry.get("restartPolicy") == "Always")

    @property
    def images(self) -> tuple[str, ...]:
        """The names of the container images, init containers first; repeated as often as they are used."""
        return tuple(str(entry["image"]) for group in _groups(self.manifest) for entry in group)

    def text(self) -> bytes:
        """The manifest as it is put on a node: as it was written, or dumped as YAML if it was varied."""
        return self.source if self.source is not None else yaml.dump(self.manifest, Dumper=_Dumper, sort_keys=False).encode()

    def without(self, container: str) -> "StaticPod":
        """The same pod without one of its containers; raises InputError if it has none of that name, or would not run then."""
        changed = self._copy_with(container)
        for group in _groups(changed):
            group[:] = [entry for entry in group if entry["name"] != container]
        return self._varied(changed)

    def with_args(self, container: str, args: Sequence[str]) -> "StaticPod":
        """The same pod with other arguments for one of its containers; raises InputError as `without` does."""
        changed = self._copy_with(container)
        _entry(changed, container)["args"] = _words(args)
        return self._varied(changed)

    def with_program(self, container: str, image: str, command: Sequence[str]) -> "StaticPod":
        """The same pod with another program in one of its containers; raises InputError as `without` does."""
        changed = self._copy_with(container)
        entry = _entry(changed, container)
        entry.pop("args", None)
        entry.update(image=image, command=_words(command))
        return self._varied(changed)

    def container(self, name: str) -> Manifest:
        """The manifest's entry for a container; raises InputError if it has none of that name."""
        return _entry(self._copy_with(name), name)

    def _varied(self, changed: Manifest) -> "StaticPod":
        pod = StaticPod(self.file, changed)
        if errors := manifest.check(Path(self.file), pod.text()).errors:
            words = "\n".join(error.words for error in errors)
            raise InputError(f"Pod {self.name} would not run as it was varied: {words}")
        return pod

    def _copy_with(self, container: str) -> Manifest:
        if container not in (*self.init_containers, *self.containers):
            raise InputError(f"Pod {self.name} has no container {container}.")
        return copy.deepcopy(self.manifest)


def load(file: Path | str) -> StaticPod:
    """Reads a manifest; raises InputError with every reason why it would not run as it is written, a line each."""
    reading = manifest.read(Path(file))
    return StaticPod(Path(file).name, reading.manifest(), reading.data)


def refuse_clashes(pods: Iterable[StaticPod]) -> None:
    """Raises InputError for pods that cannot be on one node: with the same file or name, or with a port or uid in common."""
    files: dict[str, StaticPod] = {}
    names: dict[tuple[str, str], StaticPod] = {}
    uids: dict[str, StaticPod] = {}
    taken: list[tuple[StaticPod, list[HostPort]]] = []
    for pod in pods:
        if files.setdefault(pod.file, pod) is not pod:
            raise InputError(f"Two manifests are named {pod.file}: on the node one would replace the other. Rename one.")
        if (other := names.setdefault((pod.namespace, pod.name), pod)) is not pod:
            raise InputError(
                f"{other.file} and {pod.file} are both the pod {pod.namespace}/{pod.name}: the kubelet runs one of them. "
                "Rename one."
            )
        uid = str(pod.manifest["metadata"].get("uid") or "")
        if uid and (other := uids.setdefault(uid, pod)) is not pod:
            raise InputError(
                f"{other.file} and {pod.file} both have the uid {uid}: the kubelet runs one of them. Take it out of one."
            )
        own = _ports(pod)
        for other, theirs in taken:
            for port, _ in ports.shared(own, theirs if other is not pod else ()):
                raise InputError(
                    f"{other.file} and {pod.file} both take port {port} of the node: the kubelet admits one. Change one."
                )
        taken.append((pod, own))


def warn_of_short_names(pods: Iterable[StaticPod]) -> None:
    """Warns of images whose names have no registry."""
    for pod in pods:
        for name in dict.fromkeys(pod.images):
            if reference.is_short(name):
                warnings.warn(
                    f"{pod.file}: the image {name} names no registry, and CRI-O finds it only if the node's registries.conf "
                    f"says where to look: write {reference.parse(name)}.",
                    stacklevel=2,
                )


def refuse_too_large(pods: Iterable[StaticPod], memory: int, cpus: int) -> None:
    """Raises InputError for pods whose requests do not fit into a node with so many bytes of memory and so many CPUs."""
    manifests = [pod.manifest for pod in pods]
    for words, option in (
        (demand.lacking(manifests, demand.MEMORY, memory), "memory"),
        (demand.lacking(manifests, demand.CPUS, cpus * 1000), "cpus"),
    ):
        if words:
            raise InputError(f"{words[0].upper()}{words[1:]}. Request less, or give the node more: {option}=, --{option}.")


def _words(words: Sequence[str]) -> list[str]:
    if isinstance(words, str):
        raise InputError(f"{words!r} is one text: give a list of words.")
    return list(words)


def _groups(manifest: Manifest) -> list[list[dict[str, Any]]]:
    spec = manifest["spec"]
    return [spec[key] for key in ("initContainers", "containers") if spec.get(key)]


def _ports(pod: StaticPod) -> list[HostPort]:
    root = yaml_reader.parse(pod.text()).root
    return list(ports.of(root)) if root else []


def _entry(manifest: Manifest, container: str) -> Manifest:
    return next(entry for group in _groups(manifest) for entry in group if entry["name"] == container)


def _names(manifest: Manifest, key: str) -> list[str]:
    spec = manifest["spec"]
    return [str(container["name"]) for container in spec.get(key) or ()]
