"""What the kubelet reads but never runs: refused when it admits the pod, or held back for ever afterwards.

Sources, all of Kubernetes 1.34: pkg/kubelet/lifecycle/predicate.go and pkg/kubelet/sysctl (OS, node selector, sysctls),
initialNode in pkg/kubelet/kubelet_node_status.go (labels), cmd/kubelet/app/plugins.go (volumes),
pkg/kubelet/types/pod_update.go (mirror pods), NewCgroupName in pkg/kubelet/cm (uids),
pkg/kubelet/kuberuntime/security_context.go (users).
"""

from collections.abc import Iterator

from harness.manifests.finding import Finding, Severity, shown
from harness.manifests.yaml_reader import YamlNode

_OS, _HOSTNAME = "kubernetes.io/os", "kubernetes.io/hostname"
_MIRROR = "kubernetes.io/config.mirror"
# The labels of a standalone kubelet's node; the node's own file of labels may add others (kiOS contract).
_NODE_LABELS = {
    _OS: "linux",
    "kubernetes.io/arch": "amd64",
    "beta.kubernetes.io/os": "linux",
    "beta.kubernetes.io/arch": "amd64",
}
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_SAFE_SYSCTLS = frozenset(
    {
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ping_group_range",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.tcp_wmem",
    }
)
# Volumes that need no object of a cluster but have no plugin in this kubelet. rules.py has the others.
_NO_PLUGIN = (
    "awsElasticBlockStore",
    "azureDisk",
    "cephfs",
    "cinder",
    "flexVolume",
    "flocker",
    "gcePersistentDisk",
    "gitRepo",
    "image",
    "photonPersistentDisk",
    "portworxVolume",
    "quobyte",
    "rbd",
    "scaleIO",
    "storageos",
    "vsphereVolume",
)
_PLUGINS = "hostPath, emptyDir, downwardAPI, projected, nfs, iscsi, fc"


def findings(root: YamlNode) -> Iterator[Finding]:
    """Yields why a pod would never run, although the kubelet reads it."""
    metadata, spec = root.get("metadata"), root.get("spec")
    if metadata is not None:
        yield from _identity(metadata)
    if spec is not None:
        yield from _node(spec)
        yield from _runtime(spec)
        yield from _affinity(spec)
        yield from _sysctls(spec)
        yield from _volumes(spec)
        yield from _users(spec)


def _identity(metadata: YamlNode) -> Iterator[Finding]:
    annotations, labels = metadata.get("annotations"), metadata.get("labels")
    if annotations and (mirror := annotations.fields().get(_MIRROR)):
        words = f"metadata.annotations has {_MIRROR}, as a pod copied out of a cluster: the kubelet never runs it: take it out."
        yield Finding(mirror.line, words)
    if deleted := metadata.get("deletionTimestamp"):
        yield Finding(
            deleted.line, "metadata.deletionTimestamp is set: to the kubelet the pod is ending, and never runs: take it out."
        )
    if (uid := metadata.word("uid")) and set("_/") & set(uid):
        words = f"metadata.uid is {shown(uid)}: at a uid with _ or / the kubelet crashes, for ever: take it out."
        yield Finding(metadata.fields()["uid"].line, words)
    if labels and (system := labels.get(_OS)) and system.value != _NODE_LABELS[_OS]:
        yield Finding(system.line, f"metadata.labels.{_OS} is {shown(system.text)}; the node's is linux: take it out.")


def _node(spec: YamlNode) -> Iterator[Finding]:
    system = spec.get("os")
    if system and (name := system.get("name")) and name.value == "windows":
        yield Finding(name.line, "spec.os.name is windows; the node's is linux: write linux or take it out.")
    selector = spec.get("nodeSelector")
    for label, wanted in (selector.fields() if selector else {}).items():
        if not isinstance(wanted.value, str) or _NODE_LABELS.get(label) == wanted.value:
            continue
        where = f"spec.nodeSelector.{shown(label)} is {shown(wanted.text)}"
        if label in _NODE_LABELS:
            yield Finding(wanted.line, f"{where}; the node's is {_NODE_LABELS[label]}: take it out.")
        elif label == _HOSTNAME:
            yield Finding(wanted.line, f"{where}: a node of another name refuses the pod.", Severity.HINT)
        else:
            words = f"{where}: a node without that label refuses the pod, and only its own file of labels gives it one."
            yield Finding(wanted.line, words, Severity.HINT)


def _runtime(spec: YamlNode) -> Iterator[Finding]:
    """A kubelet without an API server has nowhere to look up a RuntimeClass (pkg/kubelet/runtimeclass): seen on a node."""
    if spec.word("runtimeClassName"):
        words = "spec.runtimeClassName names a RuntimeClass: a kubelet without a cluster crashes at it, for ever: take it out."
        yield Finding(spec.fields()["runtimeClassName"].line, words)


def _affinity(spec: YamlNode) -> Iterator[Finding]:
    affinity = spec.get("affinity")
    of_node = affinity.get("nodeAffinity") if affinity else None
    required = of_node.get(_REQUIRED) if of_node else None
    if required and not any(map(_is_met, required.entries("nodeSelectorTerms"))):
        words = (
            f"spec.affinity.nodeAffinity.{_REQUIRED}: a node without such labels refuses the pod, and only its own file of "
            "labels gives it any."
        )
        yield Finding(required.line, words, Severity.HINT)


def _is_met(term: YamlNode) -> bool:
    """Whether the labels that each node has meet a term of node affinity."""
    expressions = term.entries("matchExpressions")
    return bool(expressions) and not term.get("matchFields") and all(map(_is_true, expressions))


def _is_true(expression: YamlNode) -> bool:
    label = _NODE_LABELS.get(expression.word("key"))
    named = label in [each.value for each in expression.entries("values")]
    match expression.word("operator"):
        case "In":
            return named
        case "NotIn":
            return label is not None and not named
        case operator:
            return operator == "Exists" and label is not None


def _sysctls(spec: YamlNode) -> Iterator[Finding]:
    context = spec.get("securityContext")
    for sysctl in context.entries("sysctls") if context else ():
        # A slash stands for a dot (sysctl.d(5)).
        name = sysctl.word("name").replace("/", ".")
        if name and name not in _SAFE_SYSCTLS:
            line = (sysctl.get("name") or sysctl).line
            yield Finding(line, f"spec.securityContext.sysctls has {shown(name)}, which the kubelet forbids: take it out.")


def _volumes(spec: YamlNode) -> Iterator[Finding]:
    for volume in spec.entries("volumes"):
        for source in _NO_PLUGIN:
            if held := volume.get(source):
                name = shown(volume.word("name"))
                yield Finding(
                    held.line, f"the volume {name} is {source}, which no plugin here mounts; there is one for {_PLUGINS}."
                )


def _users(spec: YamlNode) -> Iterator[Finding]:
    of_pod = spec.get("securityContext")
    for container in (*spec.entries("initContainers"), *spec.entries("containers")):
        own = container.get("securityContext")
        must, user = (_first(own, of_pod, name) for name in ("runAsNonRoot", "runAsUser"))
        if must and user and must.value is True and user.value == 0:
            name = shown(container.word("name"))
            words = f"container {name} is to run as user 0 and, by runAsNonRoot, not as root: it never starts: change one."
            yield Finding(user.line, words)


def _first(own: YamlNode | None, of_pod: YamlNode | None, name: str) -> YamlNode | None:
    """A container's own setting, else its pod's."""
    return (own.get(name) if own else None) or (of_pod.get(name) if of_pod else None)
