"""The pod of the tests of manifests: small, good, and varied by a line."""

from pathlib import Path

from harness.manifests.manifest import check

PROJECT = Path(__file__).parents[2]
NODE = PROJECT / "scenarios/manifests/node.yaml"
# Line 5 is the spec, 12 the first container's fields, 20 the end.
POD = """\
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


def findings_of(text: str, file: str = "pod.yaml") -> list[str]:
    return [finding.at(Path(file)) for finding in check(Path(file), text.encode()).findings]


def changed(old: str, new: str) -> str:
    assert POD.count(old) == 1
    return POD.replace(old, new)


def in_spec(lines: str) -> str:
    return changed("  hostNetwork: true\n", f"  hostNetwork: true\n  {lines}\n")


def in_container(lines: str) -> str:
    return changed("  - name: main\n", f"  - name: main\n    {lines}\n")


def as_volume(source: str) -> str:
    return changed("emptyDir: {}", source)
