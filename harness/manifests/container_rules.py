"""What the kubelet accepts but no container can be made from: it tries again and again, and the pod stays pending.

Most cases were seen on a node (kubelet 1.34.9, CRI-O 1.34.4, crun). Sources: pkg/kubelet/images, pkg/kubelet/prober and
pkg/kubelet/kubelet_pods.go of Kubernetes 1.34, its pkg/volume/emptydir and pkg/security/apparmor, and capabilities(7).
"""

import posixpath
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
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_HOOKS = ("postStart", "preStop")
_PORT_NAME = re.compile(r"(?=.*[a-z])[a-z0-9-]{1,15}")
_APP_ARMOR = "container.apparmor.security.beta.kubernetes.io/"


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
        yield from _app_armor(container, who)
        yield from _ports(container, who)
        yield from _memory(container, who)
        yield from _huge_pages(container, who)
        if spec.get("os"):
            yield from _stop_signal(container, who)
    yield from _app_armor(spec, "the pod")
    yield from _app_armor_of_old(root)
    yield from _memory(spec, "the pod")
    yield from _sandbox(spec, containers)
    for volume in spec.entries("volumes"):
        yield from _medium(volume)
        yield from _host_path(volume)


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
        if path and path.value and posixpath.normpath(f"/{path.value}") in ("/", "//"):
            yield Finding(path.line, f"{who} mounts a volume at /, where its image is: mount it below.")
        made_of = str(expression.value) if expression else ""
        # Behind the last bracket no name ends, and each attempt to find one would read on to the end.
        for found in _VARIABLE.finditer(made_of, 0, made_of.rfind(")") + 1):
            if found["name"] and found["name"] not in known:
                yield Finding(
                    mount.fields()["subPathExpr"].line,
                    f"{who} has no variable {shown(found['name'])}, of which its subPathExpr is made: add it to its env.",
                )


def _capabilities(container: YamlNode, who: str) -> Iterator[Finding]:
    context = container.get("securityContext")
    of = context.get("capabilities") if context else None
    for capability in (*of.entries("add"), *of.entries("drop")) if of else ():
        if not isinstance(capability.value, str):
            continue
        name = capability.value.upper()
        if name != _ALL and name.removeprefix("CAP_") not in _CAPABILITIES.split():
            words = f"{who} has the capability {shown(capability.value)} added or dropped, which Linux has not."
            yield Finding(capability.line, words)


def _app_armor(holder: YamlNode, who: str) -> Iterator[Finding]:
    context = holder.get("securityContext")
    profile = context.get("appArmorProfile") if context else None
    if profile and profile.word("type") in ("RuntimeDefault", "Localhost"):
        yield _needs_app_armor(profile.fields()["type"].line, who)


def _app_armor_of_old(root: YamlNode) -> Iterator[Finding]:
    metadata = root.get("metadata")
    annotations = metadata.get("annotations") if metadata else None
    for key, profile in (annotations.fields() if annotations else {}).items():
        if key.startswith(_APP_ARMOR) and profile.value != "unconfined":
            yield _needs_app_armor(profile.line, f"container {shown(key.removeprefix(_APP_ARMOR))}")


def _needs_app_armor(line: int, who: str) -> Finding:
    return Finding(line, f"{who} asks for AppArmor: a node whose kernel has none refuses the pod.", Severity.HINT)


def _ports(container: YamlNode, who: str) -> Iterator[Finding]:
    """A probe at a port of an unknown name is never made, a hook fails."""
    known = {port.word("name") for port in container.entries("ports")}
    lifecycle = container.get("lifecycle")
    handlers = [container.get(probe) for probe in _PROBES]
    handlers += [lifecycle.get(hook) for hook in _HOOKS] if lifecycle else []
    for asked in (handler.get(kind) for handler in handlers if handler for kind in ("httpGet", "tcpSocket")):
        if asked and (name := asked.word("port")) not in known and _PORT_NAME.fullmatch(name):
            line = asked.fields()["port"].line
            yield Finding(line, f"{who} has no port named {shown(name)}, which is asked for: add it.", Severity.HINT)


def _stop_signal(container: YamlNode, who: str) -> Iterator[Finding]:
    """The kubelet itself refuses one without the pod's os."""
    lifecycle = container.get("lifecycle")
    if lifecycle and (signal := lifecycle.get("stopSignal")):
        words = f"{who} has a stopSignal, which does nothing unless the kubelet has the feature gate ContainerStopSignals on."
        yield Finding(signal.line, words, Severity.HINT)


def _memory(holder: YamlNode, who: str) -> Iterator[Finding]:
    memory = _limit(holder)
    if memory and (written := _THOUSANDTHS.fullmatch(str(memory.value))):
        words = (
            f"{who} is limited to {shown(memory.text)} of memory, thousandths of a byte: did you mean {written['number']}Mi?"
        )
        yield Finding(memory.line, words)


def _huge_pages(container: YamlNode, who: str) -> Iterator[Finding]:
    limits = _limits(container)
    for name, amount in limits.fields().items() if limits and (limits.get("memory") or limits.get("cpu")) else ():
        if name.startswith("hugepages-"):
            words = f"{who} asks for {shown(name)}: a node on which nobody set huge pages aside refuses the pod."
            yield Finding(amount.line, words, Severity.HINT)


def _sandbox(spec: YamlNode, containers: Sequence[YamlNode]) -> Iterator[Finding]:
    """The pod has its own limit or, if every container has one, at most their sum."""
    own = _limit(spec)
    asked = [own] if own else [limit for limit in map(_limit, containers) if limit]
    limits = [limit for limit in asked if not _THOUSANDTHS.fullmatch(str(limit.value))]
    sizes = [quantity.whole(limit.value) for limit in limits]
    if limits and (own or len(limits) == len(containers)) and all(sizes) and sum(sizes) < _LEAST_MEMORY:
        words = (
            f"the pod's memory is limited to {sum(sizes) >> 10} KiB: CRI-O makes none with less than {_LEAST_MEMORY >> 20} MiB."
        )
        yield Finding(limits[0].line, words)


def _limit(holder: YamlNode) -> YamlNode | None:
    limits = _limits(holder)
    return limits.get("memory") if limits else None


def _limits(holder: YamlNode) -> YamlNode | None:
    resources = holder.get("resources")
    return resources.get("limits") if resources else None


def _medium(volume: YamlNode) -> Iterator[Finding]:
    held = volume.get("emptyDir")
    medium = held.get("medium") if held else None
    if medium and isinstance(medium.value, str) and medium.value not in ("", "Memory") and not medium.value.startswith(_HUGE):
        name = shown(volume.word("name"))
        words = f"the volume {name} has the medium {shown(medium.value)}: it is Memory, or left out for the disk."
        yield Finding(medium.line, words)


def _host_path(volume: YamlNode) -> Iterator[Finding]:
    """Nobody expands ~ or a variable: the node gets a folder of that name."""
    held = volume.get("hostPath")
    path = held.get("path") if held else None
    if path and isinstance(path.value, str) and path.value and not path.value.startswith("/"):
        words = (
            f"the volume {shown(volume.word('name'))} is at {shown(path.value)} on the node: write a path that begins with /."
        )
        yield Finding(path.line, words, Severity.HINT)
