"""Rules for static pods: what would not run as it is written is refused with its line and a cure, and nothing else is."""

import re
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.manifests.finding import Severity
from harness.manifests.manifest import check, read
from tests.manifests.small_pod import POD, PROJECT, as_volume, changed, findings_of, in_container, in_spec


@pytest.mark.parametrize(
    "file",
    [file for file in sorted(PROJECT.glob("*/manifests/*.yaml")) if "\nkind: Pod\n" in file.read_text()],
    ids=lambda file: file.stem,
)
def test_every_manifest_of_the_project_is_a_static_pod(file: Path) -> None:
    assert read(file).findings == ()


def test_the_pod_of_these_tests_is_one() -> None:
    assert findings_of(POD) == []


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        (changed("kind: Pod", "kind: Deployment"), 2, "is a Deployment; .*`kind: Pod`: DaemonSets, Deployments, StatefulSets"),
        (
            in_spec("runtimeClassName: mine"),
            7,
            "spec.runtimeClassName names a RuntimeClass: a kubelet without a cluster crashes",
        ),
        (
            changed("kind: Pod", "kind: ConfigMap"),
            2,
            "is a ConfigMap; the kubelet reads nothing but `kind: Pod` ",
        ),
        (changed("kind: Pod", "kind: Ingress"), 2, "is an Ingress; the kubelet reads nothing but"),
        (changed("kind: Pod", "kind: pod"), 2, r"kind is pod: did you mean Pod\?"),
        (changed("kind: Pod", "kind: Pods"), 2, r"kind is Pods: did you mean Pod\?"),
        (changed("kind: Pod", "kind: List"), 2, "is a List; the kubelet reads one pod from a file"),
        (changed("kind: Pod", "kind: PodList"), 2, "is a PodList; the kubelet reads one pod from a file"),
        (changed("kind: Pod\n", ""), 1, "kind is missing: a static pod is `kind: Pod`"),
        (changed("kind: Pod", 'kind: ""'), 1, "kind is missing"),
        (changed("kind: Pod", "kind: 5"), 2, 'kind is the number 5; .*write "5"'),
        (changed("apiVersion: v1", "apiVersion: apps/v1"), 1, "apiVersion is apps/v1; a Pod's is v1"),
        (changed("apiVersion: v1\n", ""), 1, "apiVersion is missing: a Pod's is v1"),
        (changed("apiVersion: v1", "apiVersion: 1"), 1, "apiVersion is the number 1"),
        ("- kind: Pod\n", 1, "holds no fields: a static pod begins with apiVersion: v1 and kind: Pod"),
        ("Pod\n", 1, "holds no fields"),
        ("hostNetwork: true\ncontainers:\n- {name: a, image: i}\n", 1, "is the spec of a pod alone: write it below spec:"),
        (
            "version: '3'\nservices: {}\n",
            1,
            "has none of a pod's fields: a static pod begins with apiVersion: v1 and kind: Pod",
        ),
        ("{}\n", 1, "has none of a pod's fields"),
        (
            changed("metadata:\n  name: small\n", "metadata: [{name: small}]\n"),
            3,
            "metadata is a list; a mapping belongs there",
        ),
        (POD.split("spec:")[0] + "spec: [{containers: []}]\n", 5, "spec is a list; a mapping belongs there"),
        (changed("  name: small", "  namespace: kube-system"), 3, "metadata.name is missing"),
        (changed("  name: small", "  generateName: small-"), 3, "metadata.name is missing"),
        (changed("metadata:\n  name: small\n", ""), 1, "metadata.name is missing"),
        (changed("metadata:\n  name: small\n", "metadata: {}\n"), 3, "metadata.name is missing"),
        (changed("  name: small", '  name: ""'), 3, "metadata.name is missing"),
    ],
)
def test_what_is_no_pod_is_refused(text: str, line: int, says: str) -> None:
    (said,) = findings_of(text)
    assert re.search(rf"^pod\.yaml:{line}: {says}", said)


@pytest.mark.parametrize(
    ("text", "line", "path", "what"),
    [
        (in_spec("serviceAccountName: default"), 7, "spec.serviceAccountName", "a ServiceAccount"),
        (in_spec("serviceAccount: default"), 7, "spec.serviceAccount", "a ServiceAccount"),
        (in_spec("imagePullSecrets: [{name: a}]"), 7, "spec.imagePullSecrets", "a Secret"),
        (in_spec("resourceClaims: [{name: a, resourceClaimName: b}]"), 7, "spec.resourceClaims", "a ResourceClaim"),
        (
            in_container("env: [{name: A, valueFrom: {configMapKeyRef: {name: a, key: b}}}]"),
            12,
            "spec.containers[main].env[A].valueFrom.configMapKeyRef",
            "a ConfigMap",
        ),
        (
            in_container("env: [{name: A, valueFrom: {secretKeyRef: {name: a, key: b}}}]"),
            12,
            "spec.containers[main].env[A].valueFrom.secretKeyRef",
            "a Secret",
        ),
        (
            in_container("envFrom: [{configMapRef: {name: a}}]"),
            12,
            "spec.containers[main].envFrom[0].configMapRef",
            "a ConfigMap",
        ),
        (in_container("envFrom: [{secretRef: {name: a}}]"), 12, "spec.containers[main].envFrom[0].secretRef", "a Secret"),
        (
            in_container("resources: {claims: [{name: a}]}"),
            12,
            "spec.containers[main].resources.claims",
            "a ResourceClaim",
        ),
        (
            in_container("volumeDevices: [{name: data, devicePath: /dev/a}]"),
            12,
            "spec.containers[main].volumeDevices",
            "a PersistentVolumeClaim",
        ),
        (
            changed("    image: i\n  containers", "    image: i\n    envFrom: [{secretRef: {name: a}}]\n  containers"),
            10,
            "spec.initContainers[first].envFrom[0].secretRef",
            "a Secret",
        ),
        (as_volume("configMap: {name: a}"), 20, "spec.volumes[data].configMap", "a ConfigMap"),
        (as_volume("configMap: {}"), 20, "spec.volumes[data].configMap", "a ConfigMap"),
        (as_volume("secret: {secretName: a}"), 20, "spec.volumes[data].secret", "a Secret"),
        (
            as_volume("persistentVolumeClaim: {claimName: a}"),
            20,
            "spec.volumes[data].persistentVolumeClaim",
            "a PersistentVolumeClaim",
        ),
        (
            as_volume("ephemeral: {volumeClaimTemplate: {spec: {accessModes: [ReadWriteOnce]}}}"),
            20,
            "spec.volumes[data].ephemeral",
            "a PersistentVolumeClaim",
        ),
        (as_volume("csi: {driver: a}"), 20, "spec.volumes[data].csi", "a CSIDriver"),
        (as_volume("glusterfs: {endpoints: a, path: b}"), 20, "spec.volumes[data].glusterfs", "Endpoints"),
        (as_volume("azureFile: {secretName: a, shareName: b}"), 20, "spec.volumes[data].azureFile", "a Secret"),
        (
            as_volume("iscsi: {targetPortal: a, iqn: b, secretRef: {name: b}}"),
            20,
            "spec.volumes[data].iscsi.secretRef",
            "a Secret",
        ),
        *(
            (
                as_volume(f"projected: {{sources: [{{{source}}}]}}"),
                20,
                f"spec.volumes[data].projected.sources[0].{source.split(':')[0]}",
                what,
            )
            for source, what in {
                "configMap: {name: a}": "a ConfigMap",
                "secret: {name: a}": "a Secret",
                "serviceAccountToken: {path: a}": "a ServiceAccount",
                "clusterTrustBundle: {name: a, path: b}": "a ClusterTrustBundle",
                "podCertificate: {signerName: a, keyType: b}": "a PodCertificateRequest",
            }.items()
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and value.startswith("spec.") else "",
)
def test_a_reference_to_an_object_of_a_cluster_is_refused(text: str, line: int, path: str, what: str) -> None:
    (said,) = findings_of(text)
    assert said.startswith(f"pod.yaml:{line}: {path} refers to {what}, which a static pod cannot have: ")
    instead = {
        "a ConfigMap": "by hostPath.",
        "a Secret": "by hostPath.",
        "a PersistentVolumeClaim": "use hostPath or emptyDir.",
    }
    is_a_name = path.endswith(("imagePullSecrets", "iscsi.secretRef"))
    assert said.endswith("take it out." if is_a_name else instead.get(what, "take it out."))


@pytest.mark.parametrize(
    "text",
    [
        in_spec('serviceAccountName: ""'),
        in_spec("imagePullSecrets: []"),
        in_spec("imagePullSecrets:"),
        in_spec("automountServiceAccountToken: false"),
        in_spec("priorityClassName: system-node-critical"),
        in_container("env: [{name: A, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]"),
        as_volume("projected: {sources: [{downwardAPI: {items: [{path: a, fieldRef: {fieldPath: metadata.name}}]}}]}"),
        as_volume("hostPath: {path: /a, type: Directory}"),
        as_volume("emptyDir:"),
        as_volume("emptyDir: {medium: Memory, sizeLimit: 1Gi}"),
    ],
)
def test_what_needs_no_cluster_is_taken(text: str) -> None:
    assert findings_of(text) == []


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        (in_spec("ephemeralContainers: [{name: a, image: b}]"), 7, "spec.ephemeralContainers is for a running pod, .*: write"),
        (changed("name: side", "name: main"), 16, "two containers are named main, the other in line 11: rename one"),
        (changed("name: side", "name: first"), 16, "two containers are named first, the other in line 8"),
        (changed("    - name: data", "    - name: date"), 14, "container main mounts the volume date, which is not declared"),
        (changed("  volumes:\n  - name: data\n    emptyDir: {}\n", ""), 14, "container main mounts the volume data"),
        (changed("emptyDir: {}\n", "emptyDir: {}\n  - name: data\n"), 21, "two volumes are named data, the other in line 19"),
        (as_volume("emptyDir: {}\n    hostPath: {path: /a}"), 19, "the volume data is emptyDir and hostPath at once"),
        (
            changed("/data\n", "/data\n    - {name: data, mountPath: /data}\n"),
            16,
            "container main has two mounts at /data, the other in line 14",
        ),
        (changed("  - name: main\n    image: i", "  - image: i"), 11, r"spec.containers\[0\] lacks its name: add it"),
        (changed("  - name: side\n    image: i", "  - name: side"), 16, r"spec.containers\[side\] lacks its image: add it"),
        (
            changed("  - name: side\n    image: i", "  - {name: side, image: ''}"),
            16,
            r"spec.containers\[side\] lacks its image",
        ),
        (changed("      mountPath: /data\n", ""), 14, r"spec.containers\[main\].volumeMounts\[data\] lacks its mountPath"),
        (as_volume("hostPath: {}"), 20, r"spec.volumes\[data\].hostPath lacks its path: add it"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n", 1, "spec.containers is missing: a pod has at least one"),
        (POD.split("  initContainers")[0], 5, "spec.containers is missing: a pod has at least one"),
        (POD.split("  initContainers")[0] + "  containers: []\n", 5, "spec.containers is missing"),
        (changed("name: small", "name: Small"), 4, "metadata.name is Small; write at most 253 lower-case letters"),
        (changed("name: small", f"name: {'a' * 254}"), 4, "metadata.name is 'aaa.*; write at most 253"),
        (changed("name: small", "name: a..b"), 4, "metadata.name is a..b; write"),
        (changed("name: small", "name: a\n  namespace: a.b"), 5, "metadata.namespace is a.b; write at most 63 lower-case"),
        (changed("name: side", "name: a.b"), 16, r"spec.containers\[a.b\].name is a.b; write at most 63 lower-case"),
        (changed("name: side", f"name: {'a' * 64}"), 16, ".*; write at most 63 lower-case"),
        (changed("name: side", "name: -a"), 16, r"spec.containers\[-a\].name is -a; write .* no dash at its ends"),
        (changed("name: first", "name: my_init"), 8, "spec.initContainers.*; write at most 63 lower-case"),
        (changed("emptyDir: {}", "emptyDir: {}\n  - {name: A}"), 21, r"spec.volumes\[A\].name is A; write at most 63"),
        (in_spec("hostname: a.b"), 7, "spec.hostname is a.b; write at most 63 lower-case"),
        (in_spec("subdomain: a.b"), 7, "spec.subdomain is a.b; write at most 63 lower-case"),
        (in_spec("hostnameOverride: A.b"), 7, "spec.hostnameOverride is A.b; write at most 253 lower-case"),
        (
            in_container("env: [{name: 5A}]"),
            12,
            r"spec.containers\[main\].env\[5A\].name is 5A; write letters, .*no digit first",
        ),
        (
            changed("  - name: side\n    image: i", "  - {name: side, image: ' i'}"),
            16,
            ".*image is ' i'; write without spaces",
        ),
    ],
)
def test_what_contradicts_itself_is_refused(text: str, line: int, says: str) -> None:
    (said,) = findings_of(text)
    assert re.search(rf"^pod\.yaml:{line}: {says}", said)


@pytest.mark.parametrize(
    "text",
    [
        in_container('args: ["8250", "yes", 2024-13-45, 1:30, 100%]'),
        in_container("tty: yes"),
        in_container("ports: [{containerPort: 80.0}]"),
        in_container(
            "livenessProbe: {httpGet: {port: http, httpHeaders: [{name: A, value: ''}]}}\n"
            "    ports: [{name: http, containerPort: 80}]"
        ),
        in_container("livenessProbe: {tcpSocket: {port: 80}}"),
        in_container("resources: {limits: {memory: 64Mi, cpu: 0.5}, requests: {memory: 1e3, cpu: 500m}}"),
        in_container('imagePullPolicy: ""'),
        in_container("securityContext: {}"),
        in_spec("volumes:")
        .replace("  volumes:\n  - name: data", "  volumes:\n  - name: data", 1)
        .replace("  volumes:\n", "", 1),
        changed("name: small", "name: a.b-c\n  creationTimestamp: null"),
        changed("name: small", "name: a\n  creationTimestamp: 2026-01-31T12:00:00Z"),
        POD + "status: {}\n",
    ],
)
def test_what_the_kubelet_takes_is_taken(text: str) -> None:
    assert findings_of(text) == []


def test_a_container_that_is_nothing_lacks_everything() -> None:
    assert findings_of(changed("  volumes:\n", "  -\n  volumes:\n")) == [
        "pod.yaml:18: spec.containers[2] lacks its image: add it.",
        "pod.yaml:18: spec.containers[2] lacks its name: add it.",
    ]


def _affine(expression: str) -> str:
    term = f"{{nodeSelectorTerms: [{{matchExpressions: [{expression}]}}]}}"
    return in_spec(f"affinity: {{nodeAffinity: {{requiredDuringSchedulingIgnoredDuringExecution: {term}}}}}")


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        (changed("  hostNetwork: true\n", ""), 5, "spec.hostNetwork is not true: kiOS has no network plugin"),
        (changed("hostNetwork: true", "hostNetwork: false"), 6, "spec.hostNetwork is not true"),
        (in_spec("priorityClassName: mine"), 7, "spec.priorityClassName names a PriorityClass; without a cluster"),
        (
            in_spec("affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: []}}}"),
            7,
            "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution: a node without such labels refuses",
        ),
        (
            in_spec("nodeSelector: {kubernetes.io/hostname: a}"),
            7,
            "spec.nodeSelector.kubernetes.io/hostname is a: a node of",
        ),
        (_affine("{key: kubernetes.io/arch, operator: In, values: [arm64]}"), 7, "spec.affinity.nodeAffinity"),
        (_affine("{key: a, operator: In, values: [amd64]}"), 7, "spec.affinity.nodeAffinity"),
        (_affine("{key: kubernetes.io/os, operator: NotIn, values: [linux]}"), 7, "spec.affinity.nodeAffinity"),
        (
            as_volume("hostPath:"),
            20,
            "the volume data has an empty hostPath, and so is an emptyDir: write what",
        ),
        (in_spec("readinessGates: [{conditionType: a.b/c}]"), 7, "spec.readinessGates: without a cluster nobody sets such"),
        (
            in_container("env: [{name: A, valueFrom: {fileKeyRef: {volumeName: data, path: a, key: b}}}]"),
            12,
            "spec.containers[main].env[A].valueFrom.fileKeyRef does nothing unless the kubelet has the feature gate",
        ),
        (
            in_container("lifecycle: {stopSignal: SIGINT}").replace("spec:\n", "spec:\n  os: {name: linux}\n"),
            13,
            "container main has a stopSignal, which does nothing unless the kubelet has",
        ),
        (in_container("args: [~]"), 12, 'spec.containers[main].args[0] is empty and read as ""'),
    ],
)
def test_a_hint_is_said_and_refuses_nothing(text: str, line: int, says: str) -> None:
    reading = check(Path("pod.yaml"), text.encode())
    (finding,) = reading.findings
    assert (finding.severity, finding.line, reading.errors) == (Severity.HINT, line, ())
    assert finding.words.startswith(says)
    assert reading.manifest()["metadata"] == {"name": "small"}


@pytest.mark.parametrize(
    "text",
    [
        in_spec("nodeSelector: {kubernetes.io/os: linux, kubernetes.io/arch: amd64, beta.kubernetes.io/os: linux}"),
        _affine("{key: kubernetes.io/arch, operator: In, values: [arm64, amd64]}"),
        _affine("{key: kubernetes.io/os, operator: NotIn, values: [windows]}"),
        _affine("{key: kubernetes.io/os, operator: Exists}"),
        as_volume("emptyDir:"),
        changed("  name: small\n", "  name: small\n  uid: 3f9c2c51-6c6e-4f4a-9d7a-0a1b2c3d4e5f\n"),
    ],
)
def test_what_each_node_has_is_no_hint(text: str) -> None:
    assert findings_of(text) == []


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        (in_spec("schedulingGates: [{name: a.b/c}]"), 7, "spec.schedulingGates: without a cluster nobody clears them"),
        (in_container("securityContext: {capabilities: {add: [5]}}"), 12, ".* is the number 5; a text belongs there"),
        (in_spec("nodeSelector: {kubernetes.io/arch: arm64}"), 7, "spec.nodeSelector.*; the node's is amd64: take it out"),
        (changed("  name: small\n", "  name: small\n  uid: my_pod\n"), 5, "metadata.uid is my_pod: at a uid with _ or / the"),
        (changed("  name: small\n", "  name: small\n  uid: ../a\n"), 5, "metadata.uid is ../a: at a uid with _ or / the"),
    ],
)
def test_what_no_node_admits_is_refused(text: str, line: int, says: str) -> None:
    (said,) = findings_of(text)
    assert re.search(rf"^pod\.yaml:{line}: {says}", said)


def test_a_host_port_without_the_hosts_network_is_mapped_by_nobody() -> None:
    text = in_container("ports: [{containerPort: 80, hostPort: 8080}]").replace("hostNetwork: true", "hostNetwork: false")
    assert findings_of(text)[1] == (
        "pod.yaml:12: hint: container main has the hostPort 8080, which kiOS's CRI-O does not map: "
        "only hostNetwork: true makes it one of the node's."
    )


@pytest.mark.parametrize("field", ["priorityClassName", "runtimeClassName"])
def test_a_class_that_no_cluster_could_have_is_refused(field: str) -> None:
    error, *others = check(Path("pod.yaml"), in_spec(f"{field}: My-Class").encode()).errors
    assert all("crashes at it" in other.words for other in others)
    assert error.words.startswith(f"spec.{field} is My-Class; write at most 253 lower-case")


def test_all_that_is_wrong_is_said_in_the_order_of_the_lines() -> None:
    text = changed("name: side", "name: main").replace("kind: Pod", "kind: Pod\nkind: Pod").replace("/data", "8250")
    reading = check(Path("a/pod.yaml"), text.encode())
    assert [finding.line for finding in reading.findings] == [3, 16, 17]
    with pytest.raises(HarnessError) as raised:
        reading.manifest()
    assert str(raised.value).splitlines() == [finding.at(Path("a/pod.yaml")) for finding in reading.errors]


def test_a_file_that_the_kubelet_skips_is_refused() -> None:
    (said,) = findings_of(POD, "a/.pod.yaml")
    assert said.startswith("a/.pod.yaml:1: is skipped by the kubelet, because its name begins with a dot")
