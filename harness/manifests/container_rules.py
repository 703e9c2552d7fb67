"""What the kubelet accepts but no container can be made from: it tries again and again, and the pod stays pending.

Each case was seen on a node (kubelet 1.34.9, CRI-O 1.34.4, crun). Sources: pkg/kubelet/images and
pkg/kubelet/kubelet_pods.go of Kubernetes 1.34, its pkg/volume/emptydir, and capabilities(7).
"""

import re
from collections.abc import Collection, Iterator, Sequence

from harness.containers import reference
from harness.errors import InputError
from harness.manifests import quantity
from harness.manifests.finding import Finding, Severity, shown
from harness.manifests.yaml_reader import YamlNode

_VARIABLE = re.compile(r"\$(?:\$|\((?P<name>[^)]*)\))")
_THOUSANDTHS = re.compile(r"\s*\+?(?P<number>\d+)m\s*")
_CAPABILITIES = """
AUDIT_CONTROL AUDIT_READ AUDIT_WRITE BLOCK_SUSPEND BPF CHECKPOINT_RESTORE CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER
FSETID IPC_LOCK IPC_OWNER KILL LEASE LINUX_IMMUTABLE MAC_ADMIN MAC_OVERRIDE MKNOD NET_ADMIN NET_BIND_SERVICE NET_BROADCAST
NET_RAW PERFMON SETFCAP SETGID SETPCAP SETUID SYSLOG SYS_ADMIN SYS_BOOT SYS_CHROOT SYS_MODULE SYS_NICE SYS_PACCT SYS_PTRACE
SYS_RAWIO SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG WAKE_ALARM"""
_ALL = "ALL"
_HUGE = "HugePages"
# CRI-O's minimum for a pod's sandbox.
_LEAST_MEMORY = 12 << 20


def findings(root: YamlNode) -> Iterator[Finding]:
    """Yields why a container would never start."""
    spec = root.get("spec")
    if spec is None:
        return
    containers = [*spec.entries("initContainers"), *spec.entries("containers")]
    names = {container.word("name") for container in containers}
    for container in containers:
        who = f"container {shown(container.word('name'))}"
        yield from _image(container, who)
        yield from _environment(container, who, names)
        yield from _mounts(container, who)
        yield from _capabilities(container, who)
        yield from _app_armor(container)
        yield from _memory(container, who)
    yield from _sandbox(containers)
    for volume in spec.entries("volumes"):
        yield from _medium(volume)


def _image(container: YamlNode, who: str) -> Iterator[Finding]:
    image = container.get("image")
    if image is None or not isinstance(image.value, str) or image.value != image.value.strip() or not image.value:
        return
    try:
        reference.parse(image.value)
    except InputError as unfit:
        yield Finding(image.line, f"{who} has no image: {unfit}.")


def _environment(container: YamlNode, who: str, names: Collection[str]) -> Iterator[Finding]:
    for variable in container.entries("env"):
        source = variable.get("valueFrom")
        resource = source.get("resourceFieldRef") if source else None
        named = resource.get("containerName") if resource else None
        if named and named.value and named.value not in names:
            words = (
                f"{who} asks for a resource of container {shown(named.text)}, which the pod has not: change or leave it out."
            )
            yield Finding(named.line, words)


def _mounts(container: YamlNode, who: str) -> Iterator[Finding]:
    known = {variable.word("name") for variable in container.entries("env")}
    for mount in container.entries("volumeMounts"):
        path, expression = mount.get("mountPath"), mount.get("subPathExpr")
        if path and path.value and str(path.value).strip("/") == "":
            yield Finding(path.line, f"{who} mounts a volume at /, where its image is: mount it below.")
        for found in _VARIABLE.finditer(str(expression.value)) if expression else ():
            if found["name"] and found["name"] not in known:
                yield Finding(
                    mount.fields()["subPathExpr"].line,
                    f"{who} has no variable {shown(found['name'])}, of which its subPathExpr is made: add it to its env.",
                )


def _capabilities(container: YamlNode, who: str) -> Iterator[Finding]:
    context = container.get("securityContext")
    of = context.get("capabilities") if context else None
    for capability in (*of.entries("add"), *of.entries("drop")) if of else ():
        name = str(capability.value).upper()
        if name != _ALL and name.removeprefix("CAP_") not in _CAPABILITIES.split():
            words = f"{who} has the capability {shown(str(capability.value))} added or dropped, which Linux has not."
            yield Finding(capability.line, words)


def _app_armor(container: YamlNode) -> Iterator[Finding]:
    context = container.get("securityContext")
    profile = context.get("appArmorProfile") if context else None
    if profile and profile.word("type") in ("RuntimeDefault", "Localhost"):
        words = f"container {shown(container.word('name'))} asks for AppArmor: a node whose kernel has none refuses the pod."
        yield Finding(profile.fields()["type"].line, words, Severity.HINT)


def _memory(container: YamlNode, who: str) -> Iterator[Finding]:
    memory = _limit(container)
    if memory and (written := _THOUSANDTHS.fullmatch(str(memory.value))):
        words = (
            f"{who} is limited to {shown(memory.text)} of memory, thousandths of a byte: did you mean {written['number']}Mi?"
        )
        yield Finding(memory.line, words)


def _sandbox(containers: Sequence[YamlNode]) -> Iterator[Finding]:
    """If every container has a limit, the pod has one too, at most their sum."""
    limits = [limit for limit in map(_limit, containers) if limit and not _THOUSANDTHS.fullmatch(str(limit.value))]
    sizes = [quantity.whole(limit.value) for limit in limits]
    if limits and len(limits) == len(containers) and all(sizes) and sum(sizes) < _LEAST_MEMORY:
        words = (
            f"the pod's memory is limited to {sum(sizes) >> 10} KiB: CRI-O makes none with less than {_LEAST_MEMORY >> 20} MiB."
        )
        yield Finding(limits[0].line, words)


def _limit(container: YamlNode) -> YamlNode | None:
    resources = container.get("resources")
    limits = resources.get("limits") if resources else None
    return limits.get("memory") if limits else None


def _medium(volume: YamlNode) -> Iterator[Finding]:
    held = volume.get("emptyDir")
    medium = held.get("medium") if held else None
    if medium and isinstance(medium.value, str) and medium.value not in ("", "Memory") and not medium.value.startswith(_HUGE):
        name = shown(volume.word("name"))
        words = f"the volume {name} has the medium {shown(medium.value)}: it is Memory, or left out for the disk."
        yield Finding(medium.line, words)
