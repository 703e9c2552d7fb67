"""Manifests: whatever is no static pod is refused with its line and with what to do, and nothing else is."""

import json
import os
import re
import socket
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import HarnessError
from harness.manifests import fields, yaml_reader
from harness.manifests.finding import Severity
from harness.manifests.manifest import check, read, read_all

PROJECT = Path(__file__).parents[2]
NODE = PROJECT / "scenarios/manifests/node.yaml"
# Line 5 is the spec, 12 the first container's fields, 20 the end.
_POD = """\
apiVersion: v1
kind: Pod
metadata:
  name: small
spec:
  hostNetwork: true
  initContainers:
  - name: first
    image: i
  containers:
  - name: main
    image: i
    volumeMounts:
    - name: data
      mountPath: /data
  - name: side
    image: i
  volumes:
  - name: data
    emptyDir: {}
"""


def _said(text: str, file: str = "pod.yaml") -> list[str]:
    return [finding.at(Path(file)) for finding in check(Path(file), text.encode()).findings]


def _changed(old: str, new: str) -> str:
    assert _POD.count(old) == 1
    return _POD.replace(old, new)


def _in_spec(lines: str) -> str:
    return _changed("  hostNetwork: true\n", f"  hostNetwork: true\n  {lines}\n")


def _in_container(lines: str) -> str:
    return _changed("  - name: main\n", f"  - name: main\n    {lines}\n")


def _as_volume(source: str) -> str:
    return _changed("emptyDir: {}", source)


@pytest.mark.parametrize(
    "file",
    [file for file in sorted(PROJECT.glob("*/manifests/*.yaml")) if "\nkind: Pod\n" in file.read_text()],
    ids=lambda file: file.stem,
)
def test_every_manifest_of_the_project_is_a_static_pod(file: Path) -> None:
    assert read(file).findings == ()


def test_the_pod_of_these_tests_is_one() -> None:
    assert _said(_POD) == []


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        (_changed("kind: Pod", "kind: Deployment"), 2, "is a Deployment; .*`kind: Pod`: DaemonSets, Deployments, StatefulSets"),
        (_changed("kind: Pod", "kind: pod"), 2, r"kind is pod: did you mean Pod\?"),
        (_changed("kind: Pod", "kind: List"), 2, "is a List; the kubelet reads one pod from a file"),
        (_changed("kind: Pod", "kind: PodList"), 2, "is a PodList; the kubelet reads one pod from a file"),
        (_changed("kind: Pod\n", ""), 1, "kind is missing: a static pod is `kind: Pod`"),
        (_changed("kind: Pod", 'kind: ""'), 1, "kind is missing"),
        (_changed("kind: Pod", "kind: 5"), 2, 'kind is the number 5; .*write "5"'),
        (_changed("apiVersion: v1", "apiVersion: apps/v1"), 1, "apiVersion is apps/v1; a Pod's is v1"),
        (_changed("apiVersion: v1\n", ""), 1, "apiVersion is missing: a Pod's is v1"),
        (_changed("apiVersion: v1", "apiVersion: 1"), 1, "apiVersion is the number 1"),
        ("- kind: Pod\n", 1, "holds no fields: a static pod begins with apiVersion: v1 and kind: Pod"),
        ("Pod\n", 1, "holds no fields"),
        (_changed("  name: small", "  namespace: kube-system"), 3, "metadata.name is missing"),
        (_changed("  name: small", "  generateName: small-"), 3, "metadata.name is missing"),
        (_changed("metadata:\n  name: small\n", ""), 1, "metadata.name is missing"),
        (_changed("metadata:\n  name: small\n", "metadata: {}\n"), 3, "metadata.name is missing"),
        (_changed("  name: small", '  name: ""'), 3, "metadata.name is missing"),
    ],
)
def test_what_is_no_pod_is_refused(text: str, line: int, says: str) -> None:
    (said,) = _said(text)
    assert re.search(rf"^pod\.yaml:{line}: {says}", said)


@pytest.mark.parametrize(
    ("text", "line", "path", "what"),
    [
        (_in_spec("serviceAccountName: default"), 7, "spec.serviceAccountName", "a ServiceAccount"),
        (_in_spec("serviceAccount: default"), 7, "spec.serviceAccount", "a ServiceAccount"),
        (_in_spec("imagePullSecrets: [{name: a}]"), 7, "spec.imagePullSecrets", "a Secret"),
        (_in_spec("resourceClaims: [{name: a, resourceClaimName: b}]"), 7, "spec.resourceClaims", "a ResourceClaim"),
        (
            _in_container("env: [{name: A, valueFrom: {configMapKeyRef: {name: a, key: b}}}]"),
            12,
            "spec.containers[main].env[A].valueFrom.configMapKeyRef",
            "a ConfigMap",
        ),
        (
            _in_container("env: [{name: A, valueFrom: {secretKeyRef: {name: a, key: b}}}]"),
            12,
            "spec.containers[main].env[A].valueFrom.secretKeyRef",
            "a Secret",
        ),
        (
            _in_container("envFrom: [{configMapRef: {name: a}}]"),
            12,
            "spec.containers[main].envFrom[0].configMapRef",
            "a ConfigMap",
        ),
        (_in_container("envFrom: [{secretRef: {name: a}}]"), 12, "spec.containers[main].envFrom[0].secretRef", "a Secret"),
        (
            _in_container("resources: {claims: [{name: a}]}"),
            12,
            "spec.containers[main].resources.claims",
            "a ResourceClaim",
        ),
        (
            _in_container("volumeDevices: [{name: data, devicePath: /dev/a}]"),
            12,
            "spec.containers[main].volumeDevices",
            "a PersistentVolumeClaim",
        ),
        (
            _changed("    image: i\n  containers", "    image: i\n    envFrom: [{secretRef: {name: a}}]\n  containers"),
            10,
            "spec.initContainers[first].envFrom[0].secretRef",
            "a Secret",
        ),
        (_as_volume("configMap: {name: a}"), 20, "spec.volumes[data].configMap", "a ConfigMap"),
        (_as_volume("configMap: {}"), 20, "spec.volumes[data].configMap", "a ConfigMap"),
        (_as_volume("secret: {secretName: a}"), 20, "spec.volumes[data].secret", "a Secret"),
        (
            _as_volume("persistentVolumeClaim: {claimName: a}"),
            20,
            "spec.volumes[data].persistentVolumeClaim",
            "a PersistentVolumeClaim",
        ),
        (
            _as_volume("ephemeral: {volumeClaimTemplate: {spec: {accessModes: [ReadWriteOnce]}}}"),
            20,
            "spec.volumes[data].ephemeral",
            "a PersistentVolumeClaim",
        ),
        (_as_volume("csi: {driver: a}"), 20, "spec.volumes[data].csi", "a CSIDriver"),
        (_as_volume("glusterfs: {endpoints: a, path: b}"), 20, "spec.volumes[data].glusterfs", "Endpoints"),
        (_as_volume("azureFile: {secretName: a, shareName: b}"), 20, "spec.volumes[data].azureFile", "a Secret"),
        (
            _as_volume("iscsi: {targetPortal: a, iqn: b, secretRef: {name: b}}"),
            20,
            "spec.volumes[data].iscsi.secretRef",
            "a Secret",
        ),
        *(
            (
                _as_volume(f"projected: {{sources: [{{{source}}}]}}"),
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
    (said,) = _said(text)
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
        _in_spec('serviceAccountName: ""'),
        _in_spec("imagePullSecrets: []"),
        _in_spec("imagePullSecrets:"),
        _in_spec("automountServiceAccountToken: false"),
        _in_spec("priorityClassName: system-node-critical"),
        _in_container("env: [{name: A, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]"),
        _as_volume("projected: {sources: [{downwardAPI: {items: [{path: a, fieldRef: {fieldPath: metadata.name}}]}}]}"),
        _as_volume("hostPath: {path: /a, type: Directory}"),
        _as_volume("emptyDir:"),
        _as_volume("emptyDir: {medium: Memory, sizeLimit: 1Gi}"),
    ],
)
def test_what_needs_no_cluster_is_taken(text: str) -> None:
    assert _said(text) == []


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        (_in_spec("ephemeralContainers: [{name: a, image: b}]"), 7, "spec.ephemeralContainers is for a running pod, .*: write"),
        (_changed("name: side", "name: main"), 16, "two containers are named main, the other in line 11: rename one"),
        (_changed("name: side", "name: first"), 16, "two containers are named first, the other in line 8"),
        (_changed("    - name: data", "    - name: date"), 14, "container main mounts the volume date, which is not declared"),
        (_changed("  volumes:\n  - name: data\n    emptyDir: {}\n", ""), 14, "container main mounts the volume data"),
        (_changed("emptyDir: {}\n", "emptyDir: {}\n  - name: data\n"), 21, "two volumes are named data, the other in line 19"),
        (_as_volume("emptyDir: {}\n    hostPath: {path: /a}"), 19, "the volume data is emptyDir and hostPath at once"),
        (
            _changed("/data\n", "/data\n    - {name: data, mountPath: /data}\n"),
            16,
            "container main has two mounts at /data, the other in line 14",
        ),
        (_changed("  - name: main\n    image: i", "  - image: i"), 11, r"spec.containers\[0\] lacks its name: add it"),
        (_changed("  - name: side\n    image: i", "  - name: side"), 16, r"spec.containers\[side\] lacks its image: add it"),
        (
            _changed("  - name: side\n    image: i", "  - {name: side, image: ''}"),
            16,
            r"spec.containers\[side\] lacks its image",
        ),
        (_changed("      mountPath: /data\n", ""), 14, r"spec.containers\[main\].volumeMounts\[data\] lacks its mountPath"),
        (_as_volume("hostPath: {}"), 20, r"spec.volumes\[data\].hostPath lacks its path: add it"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n", 1, "spec.containers is missing: a pod has at least one"),
        (_POD.split("  initContainers")[0], 5, "spec.containers is missing: a pod has at least one"),
        (_POD.split("  initContainers")[0] + "  containers: []\n", 5, "spec.containers is missing"),
        (_changed("name: small", "name: Small"), 4, "metadata.name is Small; write at most 253 lower-case letters"),
        (_changed("name: small", f"name: {'a' * 254}"), 4, "metadata.name is 'aaa.*; write at most 253"),
        (_changed("name: small", "name: a..b"), 4, "metadata.name is a..b; write"),
        (_changed("name: small", "name: a\n  namespace: a.b"), 5, "metadata.namespace is a.b; write at most 63 lower-case"),
        (_changed("name: side", "name: a.b"), 16, r"spec.containers\[a.b\].name is a.b; write at most 63 lower-case"),
        (_changed("name: side", f"name: {'a' * 64}"), 16, ".*; write at most 63 lower-case"),
        (_changed("name: side", "name: -a"), 16, r"spec.containers\[-a\].name is -a; write .* no dash at its ends"),
        (_changed("name: first", "name: my_init"), 8, "spec.initContainers.*; write at most 63 lower-case"),
        (_changed("emptyDir: {}", "emptyDir: {}\n  - {name: A}"), 21, r"spec.volumes\[A\].name is A; write at most 63"),
        (_in_spec("hostname: a.b"), 7, "spec.hostname is a.b; write at most 63 lower-case"),
        (_in_spec("subdomain: a.b"), 7, "spec.subdomain is a.b; write at most 63 lower-case"),
        (_in_spec("hostnameOverride: A.b"), 7, "spec.hostnameOverride is A.b; write at most 253 lower-case"),
        (
            _in_container("env: [{name: 5A}]"),
            12,
            r"spec.containers\[main\].env\[5A\].name is 5A; write letters, .*no digit first",
        ),
        (
            _changed("  - name: side\n    image: i", "  - {name: side, image: ' i'}"),
            16,
            ".*image is ' i'; write without spaces",
        ),
    ],
)
def test_what_contradicts_itself_is_refused(text: str, line: int, says: str) -> None:
    (said,) = _said(text)
    assert re.search(rf"^pod\.yaml:{line}: {says}", said)


_MAIN = "spec.containers[main]"


@pytest.mark.parametrize(
    ("text", "line", "where", "name", "advice"),
    [
        (_in_container("volumeMount: []"), 12, _MAIN, "volumeMount", "did you mean volumeMounts?"),
        (_in_spec("hostnetwork: true"), 7, "spec", "hostnetwork", "did you mean hostNetwork?"),
        (_in_spec("nonsense: true"), 7, "spec", "nonsense", "take it out."),
        (_in_spec("nonsense:"), 7, "spec", "nonsense", "take it out."),
        (
            _in_spec("securityContext: {readOnlyRootFilesystem: true}"),
            7,
            "spec.securityContext",
            "readOnlyRootFilesystem",
            "it belongs into each container's securityContext.",
        ),
        (
            _in_spec("securityContext:\n    capabilities: {drop: [ALL]}"),
            8,
            "spec.securityContext",
            "capabilities",
            "it belongs into each container's securityContext.",
        ),
        (_in_spec("image: i"), 7, "spec", "image", "it belongs into a container."),
        (_in_container("privileged: true"), 12, _MAIN, "privileged", "it belongs into the container's securityContext."),
        (_in_container("hostNetwork: true"), 12, _MAIN, "hostNetwork", "it belongs into spec."),
        (
            _in_container("securityContext: {fsGroup: 1}"),
            12,
            f"{_MAIN}.securityContext",
            "fsGroup",
            "it belongs into spec.securityContext.",
        ),
        (_changed("kind: Pod\n", "kind: Pod\nlabels: {}\n"), 3, "the pod", "labels", "it belongs into metadata."),
        (_changed("kind: Pod\n", "kind: Pod\nhostNetwork: on\n"), 3, "the pod", "hostNetwork", "it belongs into spec."),
        (_in_container('"": 1'), 12, _MAIN, "''", "take it out."),
        (_in_container('"a\\nb": 1'), 12, _MAIN, r"'a\nb'", "take it out."),
    ],
)
def test_an_unknown_field_is_refused_and_its_home_is_named(text: str, line: int, where: str, name: str, advice: str) -> None:
    assert _said(text) == [f"pod.yaml:{line}: {where} has no field {name}, the kubelet drops it: {advice}"]


_LIST = "a list belongs there: begin each entry with a dash."
_TEXT = "a text belongs there"
_WHOLE = "a whole number belongs there"
_QUANTITY = "a quantity such as 64Mi or 0.5 belongs there."
_POLICIES = "it is one of Always, IfNotPresent, Never."
_SECURITY_FIELDS = ", ".join(list(fields.types()["SecurityContext"])[:8])


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        (_in_container("args: [8250]"), 12, f'{_MAIN}.args[0] is the number 8250; {_TEXT}: write "8250".'),
        (_in_container("args:\n    - -a\n    - 0o17"), 14, f'{_MAIN}.args[1] is the number 0o17; {_TEXT}: write "0o17".'),
        (_in_container("args: [y]"), 12, f'{_MAIN}.args[0] is the truth value y; {_TEXT}: write "y".'),
        (_in_container("args: [[a]]"), 12, f"{_MAIN}.args[0] is a list; {_TEXT}."),
        (_in_container("args: -a"), 12, f"{_MAIN}.args is the text -a; {_LIST}"),
        (_in_container("env: {A: b}"), 12, f"{_MAIN}.env is a mapping; {_LIST}"),
        (
            _in_container("env: [{name: A, value: yes}]"),
            12,
            f'{_MAIN}.env[A].value is the truth value yes; {_TEXT}: write "yes".',
        ),
        (_in_container("tty: 'true'"), 12, f"{_MAIN}.tty is the text true; true or false belongs there, without quotes."),
        (_in_container("tty: 1"), 12, f"{_MAIN}.tty is the number 1; true or false belongs there."),
        (
            _in_container("ports: [{containerPort: '80'}]"),
            12,
            f"{_MAIN}.ports[0].containerPort is the text 80; {_WHOLE}, without quotes.",
        ),
        (_in_container("ports: [{containerPort: 80.5}]"), 12, f"{_MAIN}.ports[0].containerPort is the number 80.5; {_WHOLE}."),
        (
            _in_container("ports: [{containerPort: 4294967376}]"),
            12,
            f"{_MAIN}.ports[0].containerPort is the number 4294967376; {_WHOLE} of less than 32 bits.",
        ),
        (
            _in_spec("terminationGracePeriodSeconds: 9223372036854775808"),
            7,
            f"spec.terminationGracePeriodSeconds is the number 9223372036854775808; {_WHOLE} of less than 64 bits.",
        ),
        (
            _in_container("livenessProbe: {tcpSocket: {port: yes}}"),
            12,
            f"{_MAIN}.livenessProbe.tcpSocket.port is the truth value yes; a number or a name belongs there.",
        ),
        (
            _in_container("resources: {limits: {memory: 64mb}}"),
            12,
            f"{_MAIN}.resources.limits.memory is the text 64mb; {_QUANTITY}",
        ),
        (
            _in_container("resources: {limits: {memory: on}}"),
            12,
            f"{_MAIN}.resources.limits.memory is the truth value on; {_QUANTITY}",
        ),
        (_in_container("imagePullPolicy: always"), 12, f"{_MAIN}.imagePullPolicy is the text always; did you mean Always?"),
        (_in_container("imagePullPolicy: Now"), 12, f"{_MAIN}.imagePullPolicy is the text Now; {_POLICIES}"),
        (_in_container("imagePullPolicy: on"), 12, f"{_MAIN}.imagePullPolicy is the truth value on; {_POLICIES}"),
        (
            _in_container("lifecycle: {stopSignal: TERM}"),
            12,
            f"{_MAIN}.lifecycle.stopSignal is the text TERM; did you mean SIGTERM?",
        ),
        (
            _in_container("securityContext: [a]"),
            12,
            f"{_MAIN}.securityContext is a list; a mapping belongs there: its fields are {_SECURITY_FIELDS} and more.",
        ),
        (_in_spec("nodeSelector: [a]"), 7, "spec.nodeSelector is a list; a mapping of words belongs there, as name: word."),
        (_in_spec("nodeSelector: {a: 5}"), 7, f'spec.nodeSelector.a is the number 5; {_TEXT}: write "5".'),
        (_changed("name: small", "name: 123"), 4, f'metadata.name is the number 123; {_TEXT}: write "123".'),
        (
            _changed("name: small", "name: a\n  creationTimestamp: soon"),
            5,
            "metadata.creationTimestamp is the text soon; a time such as 2026-01-31T12:00:00Z belongs there.",
        ),
    ],
)
def test_a_value_of_another_kind_is_refused(text: str, line: int, says: str) -> None:
    assert _said(text) == [f"pod.yaml:{line}: {says}"]


@pytest.mark.parametrize(
    "text",
    [
        _in_container('args: ["8250", "yes", 2024-13-45, 1:30, 100%]'),
        _in_container("tty: yes"),
        _in_container("ports: [{containerPort: 80.0}]"),
        _in_container("livenessProbe: {httpGet: {port: http, httpHeaders: [{name: A, value: ''}]}}"),
        _in_container("livenessProbe: {tcpSocket: {port: 80}}"),
        _in_container("resources: {limits: {memory: 64Mi, cpu: 0.5}, requests: {memory: 1e3, cpu: 500m}}"),
        _in_container('imagePullPolicy: ""'),
        _in_container("securityContext: {}"),
        _in_spec("volumes:")
        .replace("  volumes:\n  - name: data", "  volumes:\n  - name: data", 1)
        .replace("  volumes:\n", "", 1),
        _changed("name: small", "name: a.b-c\n  creationTimestamp: null"),
        _changed("name: small", "name: a\n  creationTimestamp: 2026-01-31T12:00:00Z"),
        _POD + "status: {}\n",
    ],
)
def test_what_the_kubelet_takes_is_taken(text: str) -> None:
    assert _said(text) == []


def test_a_container_that_is_nothing_lacks_everything() -> None:
    assert _said(_changed("  volumes:\n", "  -\n  volumes:\n")) == [
        "pod.yaml:18: spec.containers[2] lacks its image: add it.",
        "pod.yaml:18: spec.containers[2] lacks its name: add it.",
    ]


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        (_changed("  hostNetwork: true\n", ""), 5, "spec.hostNetwork is not true: kiOS has no network plugin"),
        (_changed("hostNetwork: true", "hostNetwork: false"), 6, "spec.hostNetwork is not true"),
        (_in_spec("priorityClassName: mine"), 7, "spec.priorityClassName names a PriorityClass; without a cluster"),
        (_in_spec("runtimeClassName: mine"), 7, "spec.runtimeClassName names a RuntimeClass; without a cluster"),
        (_in_container("args: [~]"), 12, 'spec.containers[main].args[0] is empty and read as ""'),
    ],
)
def test_a_hint_is_said_and_refuses_nothing(text: str, line: int, says: str) -> None:
    reading = check(Path("pod.yaml"), text.encode())
    (finding,) = reading.findings
    assert (finding.severity, finding.line, reading.errors) == (Severity.HINT, line, ())
    assert finding.words.startswith(says)
    assert reading.manifest()["metadata"] == {"name": "small"}


@pytest.mark.parametrize("field", ["priorityClassName", "runtimeClassName"])
def test_a_class_that_no_cluster_could_have_is_refused(field: str) -> None:
    (error,) = check(Path("pod.yaml"), _in_spec(f"{field}: My-Class").encode()).errors
    assert error.words.startswith(f"spec.{field} is My-Class; write at most 253 lower-case")


def test_all_that_is_wrong_is_said_in_the_order_of_the_lines() -> None:
    text = _changed("name: side", "name: main").replace("kind: Pod", "kind: Pod\nkind: Pod").replace("/data", "8250")
    reading = check(Path("a/pod.yaml"), text.encode())
    assert [finding.line for finding in reading.findings] == [3, 16, 17]
    with pytest.raises(HarnessError) as raised:
        reading.manifest()
    assert str(raised.value).splitlines() == [finding.at(Path("a/pod.yaml")) for finding in reading.errors]


def test_a_file_that_the_kubelet_skips_is_refused() -> None:
    (said,) = _said(_POD, "a/.pod.yaml")
    assert said.startswith("a/.pod.yaml:1: is skipped by the kubelet, because its name begins with a dot")


def _write(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    file = folder / name
    file.write_text(text)
    return file


def _only_error(file: Path) -> str:
    (finding,) = read(file).findings
    assert finding.line == 1
    with pytest.raises(HarnessError, match=re.escape(finding.words)):
        read(file).manifest()
    return finding.words


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "pod.yaml"


def test_a_missing_file_is_named(file: Path) -> None:
    assert _only_error(file) == "cannot be read: No such file or directory."
    file.symlink_to(file)
    assert _only_error(file) == "cannot be read: Too many levels of symbolic links."
    assert "null" in _only_error(Path("a\0b"))


def test_a_file_that_cannot_be_read_is_named(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(_POD)

    def forbidden(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", forbidden)
    assert _only_error(file) == "cannot be read: Permission denied."


def test_what_is_no_file_is_refused_unopened(file: Path) -> None:
    assert _only_error(file.parent) == "is a directory: name the files in it."
    os.mkfifo(file)
    assert _only_error(file).startswith("is no regular file")
    assert _only_error(Path("/dev/zero")).startswith("is no regular file")
    file.unlink()
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(file))
        assert _only_error(file).startswith("is no regular file")


def test_a_large_file_is_refused_unread(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with file.open("wb") as stream:
        stream.truncate(50_000_000)
    monkeypatch.setattr(Path, "open", lambda *_: pytest.fail("it was opened"))
    assert _only_error(file) == "50000000 bytes are no manifest: the largest one read has 1048576."


def test_a_file_may_have_1_mib_and_not_one_byte_more(file: Path) -> None:
    file.write_text(_POD.ljust(1 << 20))
    assert read(file).findings == ()
    file.write_text(_POD.ljust((1 << 20) + 1))
    assert _only_error(file).startswith("1048577 bytes are no manifest")


def test_a_file_larger_than_it_says_is_read_no_further(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "pod.yaml"
    file.write_text(_POD.ljust(1 << 21))
    empty = _write(tmp_path, "empty", "").stat()
    monkeypatch.setattr(Path, "stat", lambda _: empty)
    assert _only_error(file).startswith("1048577 bytes are no manifest")


def test_two_files_cannot_hold_the_same_pod(tmp_path: Path) -> None:
    first = _write(tmp_path, "a.yaml", _POD)
    second = _write(tmp_path, "b.yaml", _changed("  name: small\n", "  namespace: default\n  name: small\n"))
    third = _write(tmp_path, "c.yaml", _changed("  name: small\n", "  namespace: other\n  name: small\n"))
    readings = read_all([first, second, third])
    assert [len(reading.errors) for reading in readings] == [0, 1, 0]
    assert readings[1].errors[0].line == 5
    assert readings[1].errors[0].words.startswith(f"is the pod default/small, as is {first}:4; the kubelet runs one")


def test_two_files_of_one_name_have_no_place_on_a_node(tmp_path: Path) -> None:
    first = _write(tmp_path / "a", "pod.yaml", _POD)
    second = _write(tmp_path / "b", "pod.yaml", _changed("name: small", "name: other"))
    readings = read_all([first, second])
    assert [len(reading.errors) for reading in readings] == [0, 1]
    assert readings[1].errors[0].words.startswith(f"is named as {first} is; on a node one would replace the other")


def test_a_file_given_twice_is_one(tmp_path: Path) -> None:
    file = _write(tmp_path, "a.yaml", _POD)
    (reading,) = read_all([file, file])
    assert reading.findings == ()


def test_what_holds_no_pod_clashes_with_nothing(tmp_path: Path) -> None:
    files = [_write(tmp_path, f"{name}.yaml", "metadata: {namespace: [a]}\n") for name in "ab"]
    assert not any("is the pod" in finding.words for reading in read_all(files) for finding in reading.findings)


# Pieces that meet each other where a manifest has its joints.
_PIECES = st.one_of(
    st.sampled_from(
        [*_POD.splitlines(keepends=True), *"{}[],:-?&*!|>'\"%@`#\n\t ", "<<: ", "- ", "&a ", "*a", "---\n", "~", "8250", "yes"]
    ),
    st.text(max_size=4),
)
_TEXTS = st.one_of(
    st.lists(_PIECES, max_size=30).map("".join),
    st.builds(
        lambda at, length, piece: _POD[:at] + piece + _POD[at + length :],
        st.integers(0, len(_POD)),
        st.integers(0, 40),
        _PIECES,
    ),
)


@settings(deadline=None)
@given(data=st.one_of(st.binary(max_size=200), _TEXTS.map(lambda text: text.encode("utf-8", "surrogatepass"))))
def test_whatever_a_file_holds_there_is_a_pod_or_a_reason(data: bytes) -> None:
    reading = check(Path("pod.yaml"), data)
    last = data.count(b"\n") + data.count(b"\r") + data.count(b"\xc2\x85") + data.count(b"\xe2\x80") + 1
    assert all(1 <= finding.line <= last and "\n" not in finding.words for finding in reading.findings)
    if reading.errors:
        with pytest.raises(HarnessError):
            reading.manifest()
    else:
        assert reading.manifest()["kind"] == "Pod"


_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.sampled_from(["a", "v1", "Pod"])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from([name for of in fields.types().values() for name in of]), inner, max_size=4),
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(metadata=_VALUES, spec=_VALUES)
def test_whatever_stands_in_the_fields_there_is_a_pod_or_a_reason(metadata: object, spec: object) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    reading = check(Path("pod.yaml"), json.dumps(pod).encode())
    assert reading.errors or reading.manifest()["spec"]["containers"]


def test_the_node_pod_is_read_in_20_ms() -> None:
    data = NODE.read_bytes()
    check(NODE, data)
    best = min(_seconds_to_check(data) for _ in range(5))
    assert best < 0.02


def _seconds_to_check(data: bytes) -> float:
    began = time.process_time()
    check(NODE, data).manifest()
    return time.process_time() - began


def test_the_table_is_that_of_the_kubelet_of_the_reference_image() -> None:
    table = json.loads((PROJECT / "harness/manifests/pod-fields.json").read_text())
    required = re.search(r"^\s*k8s\.io/api (v\S+)", (PROJECT / "images/kubelet/go.mod").read_text(), re.MULTILINE)
    assert required is not None
    assert table["version"] == required[1], "make it anew: python -m setup.pod_fields"


def test_the_table_knows_every_kind_that_it_names() -> None:
    types = fields.types()
    kinds = {kind.rstrip("!").removeprefix("[]").removeprefix("{}") for of in types.values() for kind in of.values()}
    assert {kind for kind in kinds if "|" not in kind} - set(types) == {
        "string", "bool", "int32", "int64", "quantity", "int-or-string", "time", "any",
    }  # fmt: skip
    assert {name for name in types if name != "Pod"} <= kinds


def test_the_document_is_that_of_the_file() -> None:
    assert read(NODE).root == yaml_reader.parse(NODE.read_bytes()).root
