"""What no container can be made of is refused, though the kubelet takes it: each was seen pending for ever on a node."""

import re
import time

import pytest

from tests.manifests.small_pod import POD, as_volume, changed, findings_of, in_container, in_spec

_MAIN = "container main"


def image(name: str) -> str:
    return changed("  - name: main\n    image: i\n", f"  - name: main\n    image: {name}\n")


def mount(lines: str) -> str:
    return changed("      mountPath: /data\n", f"      {lines}\n")


def limited(*sizes: str) -> str:
    """The pod with a limit for each container, in their order: a line more for each."""
    text = POD
    for name, size in zip(("first", "main", "side"), sizes, strict=True):
        text = text.replace(f"  - name: {name}\n", f"  - name: {name}\n    resources: {{limits: {{memory: {size}}}}}\n")
    return text


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        (image("Foo/Bar:latest"), 12, f"{_MAIN} has no image: 'Foo/Bar:latest' is no name of a container image: "),
        (image("${IMAGE}"), 12, f"{_MAIN} has no image: '${{IMAGE}}' is no name"),
        (image("a@sha256:12"), 12, f"{_MAIN} has no image: 'a@sha256:12' is no name"),
        (
            in_container("env: [{name: A, valueFrom: {resourceFieldRef: {containerName: nope, resource: limits.cpu}}}]"),
            12,
            f"{_MAIN} asks for a resource of container nope, which the pod has not: change or leave it out.",
        ),
        (mount("mountPath: /"), 15, f"{_MAIN} mounts a volume at /, where its image is: mount it below."),
        (mount('mountPath: "//"'), 15, f"{_MAIN} mounts a volume at /, where its image is"),
        (
            mount("mountPath: /a\n      subPathExpr: $(A)/$$(B)/$(C)"),
            16,
            f"{_MAIN} has no variable A, of which its subPathExpr is made: add it to its env.",
        ),
        (
            in_container("securityContext: {capabilities: {add: [NET_ADMINS]}}"),
            12,
            f"{_MAIN} has the capability NET_ADMINS added or dropped, which Linux has not.",
        ),
        (in_container("securityContext: {capabilities: {add: [CAP_ALL]}}"), 12, f"{_MAIN} has the capability CAP_ALL added"),
        (
            in_container("securityContext: {appArmorProfile: {type: RuntimeDefault}}"),
            12,
            f"hint: {_MAIN} asks for AppArmor: a node whose kernel has none refuses the pod.",
        ),
        (
            in_spec("securityContext: {appArmorProfile: {type: RuntimeDefault}}"),
            7,
            "hint: the pod asks for AppArmor: a node whose kernel has none refuses the pod.",
        ),
        (
            changed(
                "  name: small\n", "  name: small\n  annotations: {container.apparmor.security.beta.kubernetes.io/main: a}\n"
            ),
            5,
            f"hint: {_MAIN} asks for AppArmor",
        ),
        (mount("mountPath: /."), 15, f"{_MAIN} mounts a volume at /, where its image is"),
        (mount("mountPath: /a/.."), 15, f"{_MAIN} mounts a volume at /, where its image is"),
        (
            in_container("readinessProbe: {tcpSocket: {port: web}}"),
            12,
            f"hint: {_MAIN} has no port named web, which is asked for: add it.",
        ),
        (in_container("lifecycle: {postStart: {httpGet: {port: web}}}"), 12, f"hint: {_MAIN} has no port named web"),
        (
            in_container("resources: {limits: {hugepages-2Mi: 4Mi, memory: 64Mi}}"),
            12,
            f"hint: {_MAIN} asks for hugepages-2Mi: a node on which nobody set huge pages aside refuses the pod.",
        ),
        (
            in_spec("resources: {limits: {memory: 100m}}"),
            7,
            "the pod is limited to 100m of memory, thousandths of a byte: did you mean 100Mi?",
        ),
        (in_spec("resources: {limits: {memory: 8Mi}}"), 7, "the pod's memory is limited to 8192 KiB: CRI-O makes none"),
        (in_container("securityContext: {capabilities: {drop: [every]}}"), 12, f"{_MAIN} has the capability every added"),
        (
            limited("4Mi", "1Mi", "2Mi"),
            9,
            "the pod's memory is limited to 7168 KiB: CRI-O makes none with less than 12 MiB.",
        ),
        (
            in_container("resources: {limits: {memory: 100m}}"),
            12,
            f"{_MAIN} is limited to 100m of memory, thousandths of a byte: did you mean 100Mi?",
        ),
        (
            as_volume("hostPath: {path: ~/a}"),
            20,
            "hint: the volume data is at '~/a' on the node: write a path that begins with /.",
        ),
        (as_volume("hostPath: {path: a}"), 20, "hint: the volume data is at a on the node: write a path"),
        (
            as_volume("emptyDir: {medium: memory}"),
            20,
            "the volume data has the medium memory: it is Memory, or left out for the disk.",
        ),
    ],
)
def test_what_no_container_can_be_made_of_is_named_with_its_line(text: str, line: int, says: str) -> None:
    assert any(found.startswith(f"pod.yaml:{line}: {says}") for found in findings_of(text)), findings_of(text)


def test_only_what_is_missing_is_named_of_an_expression() -> None:
    found = findings_of(mount("mountPath: /a\n      subPathExpr: $(A)/$$(B)/$(C)"))
    assert [re.search("variable (.)", each)[1] for each in found] == ["A", "C"]  # type: ignore[index]


def test_an_expression_without_an_end_takes_no_time() -> None:
    begun = time.monotonic()
    assert findings_of(mount(f"mountPath: /a\n      subPathExpr: {'$(' * 100_000}")) == []
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize(
    "text",
    [
        image("docker.io/emilyls/dhcp:9.4.1"),
        image("localhost:5000/a/b_c@sha256:" + "0" * 64),
        in_container("env: [{name: A, valueFrom: {resourceFieldRef: {containerName: first, resource: limits.cpu}}}]"),
        in_container("env: [{name: A, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}]"),
        in_container("env: [{name: POD, value: a}]").replace("mountPath: /data", "mountPath: /a\n      subPathExpr: $(POD)"),
        mount("mountPath: a"),
        in_container("securityContext: {capabilities: {add: [CAP_NET_ADMIN, net_raw, ALL]}}"),
        in_container("securityContext: {capabilities: {drop: [all, cap_net_raw]}, appArmorProfile: {type: Unconfined}}"),
        in_container("resources: {limits: {cpu: 100m, memory: 64Mi}}"),
        limited("4Mi", "4Mi", "4Mi"),
        limited("4Mi", "1Mi", "2Mi").replace("  hostNetwork", "  resources: {limits: {memory: 64Mi}}\n  hostNetwork"),
        in_container("readinessProbe: {tcpSocket: {port: web}}\n    ports: [{name: web, containerPort: 80}]"),
        limited("4Mi", "4Mi", "0"),
        in_container("resources: {limits: {memory: 1Mi}}"),
        as_volume("emptyDir: {medium: Memory}"),
        as_volume("emptyDir: {medium: ''}"),
        as_volume("emptyDir: {medium: HugePages-2Mi}"),
    ],
)
def test_what_containers_were_made_of_is_good(text: str) -> None:
    assert findings_of(text) == []


@pytest.mark.parametrize("text", [image("' i'"), image("''"), image("5"), image("[a]")])
def test_what_the_kubelet_refuses_itself_is_said_once(text: str) -> None:
    assert len(findings_of(text)) == 1
