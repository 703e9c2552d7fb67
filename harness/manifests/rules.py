"""What a static pod cannot be: rules for its fields, for a node that may have no cluster.

An error is something that a kiOS node's kubelet would refuse, or silently drop; a hint is something that it accepts, but
hardly as it was meant. Sources: pkg/kubelet/config/common.go, pkg/apis/core/validation and HasAPIObjectReference in
pkg/api/pod/util.go of Kubernetes 1.34; kiOS's page on static pods.
"""

import re
from collections.abc import Collection, Iterator
from dataclasses import replace

from harness.manifests import fields
from harness.manifests.fields import FieldPlace
from harness.manifests.finding import Finding, Severity, shown
from harness.manifests.yaml_reader import YamlNode

# Fields that refer to another API object, and to which kind. In addition, every LocalObjectReference refers to a Secret.
_REFERENCES = {
    ("PodSpec", "serviceAccountName"): "a ServiceAccount",
    ("PodSpec", "serviceAccount"): "a ServiceAccount",
    ("PodSpec", "resourceClaims"): "a ResourceClaim",
    ("ResourceRequirements", "claims"): "a ResourceClaim",
    ("Container", "volumeDevices"): "a PersistentVolumeClaim",
    ("EnvVarSource", "configMapKeyRef"): "a ConfigMap",
    ("EnvVarSource", "secretKeyRef"): "a Secret",
    ("EnvFromSource", "configMapRef"): "a ConfigMap",
    ("EnvFromSource", "secretRef"): "a Secret",
    ("Volume", "configMap"): "a ConfigMap",
    ("Volume", "secret"): "a Secret",
    ("Volume", "persistentVolumeClaim"): "a PersistentVolumeClaim",
    ("Volume", "ephemeral"): "a PersistentVolumeClaim",
    ("Volume", "csi"): "a CSIDriver",
    ("Volume", "glusterfs"): "Endpoints",
    ("Volume", "azureFile"): "a Secret",
    ("VolumeProjection", "configMap"): "a ConfigMap",
    ("VolumeProjection", "secret"): "a Secret",
    ("VolumeProjection", "serviceAccountToken"): "a ServiceAccount",
    ("VolumeProjection", "clusterTrustBundle"): "a ClusterTrustBundle",
    ("VolumeProjection", "podCertificate"): "a PodCertificateRequest",
}
# The kubelet reads no value in the claims of the pod's own resources.
_UNREAD = "spec.resources.claims["
_NO_REFERENCE = "spec.resources.claims"
# Such a source without a name refers to nothing, and the kubelet accepts it.
_BY_NAME = {("EnvFromSource", "configMapRef"), ("EnvFromSource", "secretRef")}
_INSTEAD = {
    "a ConfigMap": "write the value here, or mount a file of the node by hostPath",
    "a Secret": "write the value here, or mount a file of the node by hostPath",
    "a PersistentVolumeClaim": "use hostPath or emptyDir",
}
# The kubelet accepts these, but looks them up nowhere.
_CLASSES = {("PodSpec", "priorityClassName"): "a PriorityClass"}
_MAKE_PODS = ["CronJob", "DaemonSet", "Deployment", "Job", "PodTemplate", "ReplicaSet", "ReplicationController", "StatefulSet"]
_OF_A_POD = {"apiVersion", "kind", "metadata", "spec"}
_BUILT_IN_CLASSES = ("system-node-critical", "system-cluster-critical")

# From k8s.io/apimachinery/pkg/util/validation; the first two are those of RFC 1123.
_LABEL = re.compile(r"(?=.{1,63}\Z)[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_VARIABLE = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")
_IMAGE = re.compile(r"\S(.*\S)?", re.DOTALL)
_MADE_OF = {
    _LABEL: "at most 63 lower-case letters, digits and dashes, with no dash at its ends",
    _SUBDOMAIN: "at most 253 lower-case letters, digits, dashes and dots, between dots no dash at an end",
    _VARIABLE: "letters, digits, dashes, dots and underscores, no digit first",
    _IMAGE: "without spaces around it",
}
_NAMES = {
    ("ObjectMeta", "name"): _SUBDOMAIN,
    ("ObjectMeta", "namespace"): _LABEL,
    ("Container", "name"): _LABEL,
    ("Container", "image"): _IMAGE,
    ("Volume", "name"): _LABEL,
    ("EnvVar", "name"): _VARIABLE,
    ("PodSpec", "hostname"): _LABEL,
    ("PodSpec", "subdomain"): _LABEL,
    ("PodSpec", "hostnameOverride"): _SUBDOMAIN,
    ("PodSpec", "priorityClassName"): _SUBDOMAIN,
    ("PodSpec", "runtimeClassName"): _SUBDOMAIN,
}


def findings(root: YamlNode) -> Iterator[Finding]:
    """Yields everything that is wrong with a document as a static pod; a single finding if it is another kind of object."""
    if not isinstance(root.value, dict):
        yield Finding(root.line, "holds no fields: a static pod begins with apiVersion: v1 and kind: Pod.")
        return
    for written, field in _typed_otherwise(root):
        words = f"{shown(written)} is read as {field} by the kubelet only, and by no tool: write {field}."
        yield Finding(root.value[written].line, words, Severity.HINT)
    root = _typed(root)
    if not _OF_A_POD & root.fields().keys():
        yield Finding(root.line, _no_pod(root))
        return
    kind = root.get("kind")
    if kind is not None and isinstance(kind.value, str) and kind.value not in ("", "Pod"):
        yield Finding(kind.line, _other_kind(kind.value))
        return
    yield from _identity(root)
    for place in fields.places(root):
        if place.path.startswith(_UNREAD):
            continue
        yield from fields.findings(place)
        yield from _references(place)
        yield from _names(place)
    spec = root.get("spec")
    if spec is not None and not isinstance(spec.value, dict):
        return
    if _is_missing(spec, "containers"):
        yield Finding((spec or root).line, "spec.containers is missing: a pod has at least one container.")
    if spec is not None:
        yield from _containers(spec)
        yield from _volumes(spec)
        yield from _network(spec)


def _no_pod(root: YamlNode) -> str:
    if "containers" in root.fields():
        return (
            "is the spec of a pod alone: write it below spec:, and apiVersion: v1, kind: Pod and metadata with a name above it."
        )
    return "has none of a pod's fields: a static pod begins with apiVersion: v1 and kind: Pod."


def _typed_otherwise(root: YamlNode) -> Iterator[tuple[str, str]]:
    """The spellings of kind and apiVersion with other capital letters, which only the kubelet accepts."""
    for field in ("kind", "apiVersion"):
        if field not in root.fields():
            yield from ((written, field) for written in root.fields() if written.lower() == field.lower())


def _typed(root: YamlNode) -> YamlNode:
    """The document with kind and apiVersion in their proper spelling."""
    names = dict(_typed_otherwise(root))
    return replace(root, value={names.get(name, name): value for name, value in root.fields().items()}) if names else root


def _other_kind(kind: str) -> str:
    if kind.endswith("List"):
        return f"is a {shown(kind)}; the kubelet reads one pod from a file: give each a file of its own, as `kind: Pod`."
    if kind.lower() in ("pod", "pods"):
        return f"kind is {shown(kind)}: did you mean Pod?"
    if kind in _MAKE_PODS:
        return (
            f"is a {shown(kind)}; a static pod is `kind: Pod`: DaemonSets, Deployments, StatefulSets etc. are not supported, "
            "write the pod that it would make."
        )
    article = "an" if kind[0] in "AEIOU" else "a"
    return f"is {article} {shown(kind)}; the kubelet reads nothing but `kind: Pod` from a file: take the file away."


def _identity(root: YamlNode) -> Iterator[Finding]:
    if _is_missing(root, "kind"):
        yield Finding(root.line, "kind is missing: a static pod is `kind: Pod`.")
    version = root.get("apiVersion")
    if version is None or version.value == "":
        yield Finding(root.line, "apiVersion is missing: a Pod's is v1.")
    elif isinstance(version.value, str) and version.value != "v1":
        yield Finding(version.line, f"apiVersion is {shown(version.value)}; a Pod's is v1.")
    metadata = root.get("metadata")
    if _is_missing(metadata, "name") and (metadata is None or isinstance(metadata.value, dict)):
        yield Finding((metadata or root).line, "metadata.name is missing: a static pod needs one, the kubelet makes none up.")


def _references(place: FieldPlace) -> Iterator[Finding]:
    node, of = place.node, (place.owner, place.name)
    if node.value in ("", []) or place.path == _NO_REFERENCE:
        return
    referred = _REFERENCES.get(of)
    by_name = place.kind.endswith("LocalObjectReference") or of in _BY_NAME
    if by_name and not any(entry.word("name") for entry in (node, *node.items())):
        return
    if referred is None and place.name and by_name:
        referred = "a Secret"
    if referred is not None:
        instead = _INSTEAD.get(_REFERENCES.get(of, ""), "take it out")
        yield Finding(node.line, f"{place.path} refers to {referred}, which a static pod cannot have: {instead}.")
    if of in _CLASSES and node.value not in _BUILT_IN_CLASSES:
        words = f"{place.path} names {_CLASSES[of]}; without a cluster there is none, and it does nothing: take it out."
        yield Finding(node.line, words, Severity.HINT)
    if of == ("EnvVarSource", "fileKeyRef"):
        words = f"{place.path} does nothing unless the kubelet has the feature gate EnvFiles on."
        yield Finding(node.line, words, Severity.HINT)
    if of == ("PodSpec", "schedulingGates") and node.items():
        words = f"{place.path}: without a cluster nobody clears them, and the kubelet refuses the pod: take them out."
        yield Finding(node.line, words)
    if of == ("PodSpec", "readinessGates") and node.items():
        words = f"{place.path}: without a cluster nobody sets such a condition, and the pod is never ready: take it out."
        yield Finding(node.line, words, Severity.HINT)


def _names(place: FieldPlace) -> Iterator[Finding]:
    pattern, name = _NAMES.get((place.owner, place.name)), place.node.value
    if pattern is not None and isinstance(name, str) and name and not pattern.fullmatch(name):
        yield Finding(place.node.line, f"{place.path} is {shown(name)}; write {_MADE_OF[pattern]}.")


def _containers(spec: YamlNode) -> Iterator[Finding]:
    lines: dict[str, int] = {}
    for container in _all_containers(spec):
        name = container.word("name")
        if name and name in lines:
            line = _line(container, "name")
            yield Finding(line, f"two containers are named {shown(name)}, the other in line {lines[name]}: rename one.")
        lines.setdefault(name, _line(container, "name"))
    if not _is_missing(spec, "ephemeralContainers"):
        words = "spec.ephemeralContainers is for a running pod, through an API server: write them as containers."
        yield Finding(_line(spec, "ephemeralContainers"), words)


def _volumes(spec: YamlNode) -> Iterator[Finding]:
    lines: dict[str, int] = {}
    for volume in spec.entries("volumes"):
        name, line = volume.word("name"), _line(volume, "name")
        if name and name in lines:
            yield Finding(line, f"two volumes are named {shown(name)}, the other in line {lines[name]}: rename one.")
        lines.setdefault(name, line)
        sources = [field for field in fields.types()["Volume"] if field != "name" and volume.get(field)]
        if len(sources) > 1:
            yield Finding(line, f"the volume {shown(name)} is {' and '.join(sources)} at once: take all but one out.")
        empty = [
            field for field, source in volume.fields().items() if source.value is None and field in fields.types()["Volume"]
        ]
        if not sources and empty and "emptyDir" not in empty:
            words = f"the volume {shown(name)} has an empty {empty[0]}, and so is an emptyDir: write what belongs below it."
            yield Finding(volume.fields()[empty[0]].line, words, Severity.HINT)
    for container in _all_containers(spec):
        yield from _mounts(container, lines)


def _mounts(container: YamlNode, declared: Collection[str]) -> Iterator[Finding]:
    user = f"container {shown(container.word('name'))}"
    lines: dict[str, int] = {}
    for mount in (*container.entries("volumeMounts"), *container.entries("volumeDevices")):
        name, path, line = mount.word("name"), mount.word("mountPath"), _line(mount, "name")
        if name and name not in declared:
            yield Finding(line, f"{user} mounts the volume {shown(name)}, which is not declared: add it to spec.volumes.")
        if path and path in lines:
            yield Finding(line, f"{user} has two mounts at {shown(path)}, the other in line {lines[path]}: move one.")
        lines.setdefault(path, line)


def _network(spec: YamlNode) -> Iterator[Finding]:
    host_network = spec.get("hostNetwork")
    if host_network is None or host_network.value is False:
        words = "spec.hostNetwork is not true: kiOS has no network plugin of its own, and without one the pod waits for ever."
        yield Finding((host_network or spec).line, words, Severity.HINT)
        for container in _all_containers(spec):
            yield from _host_ports(container)


def _host_ports(container: YamlNode) -> Iterator[Finding]:
    """CRI-O's host ports are off (kiOS contract)."""
    for port in container.entries("ports"):
        if (taken := port.get("hostPort")) and taken.value:
            who = f"container {shown(container.word('name'))}"
            words = f"{who} has the hostPort {shown(taken.text)}, which kiOS's CRI-O does not map: "
            yield Finding(taken.line, f"{words}only hostNetwork: true makes it one of the node's.", Severity.HINT)


def _all_containers(spec: YamlNode) -> list[YamlNode]:
    return [*spec.entries("initContainers"), *spec.entries("containers")]


def _line(node: YamlNode, key: str) -> int:
    """The line of a field, or of its mapping if the field is missing."""
    return (node.get(key) or node).line


def _is_missing(node: YamlNode | None, key: str) -> bool:
    found = node.get(key) if node is not None else None
    return found is None or found.value in ("", [])
