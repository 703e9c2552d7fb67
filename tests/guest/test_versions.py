"""What runs in a node is told by its own words, and by nothing that only looks so."""

from harness.guest import versions
from harness.serial.result import Result

_ANSWERS = {
    "uname -r": "6.12.117\n",
    "sha256sum /host/proc/1/exe": f"{'a' * 64}  /host/proc/1/exe\n",
    "chroot /host /bin/kubelet --version": "Kubernetes v1.34.9\n",
    "chroot /host /bin/crio --version": "crio version 1.34.0\n   GitCommit: unknown\n",
}


def test_each_part_has_its_version() -> None:
    found = versions.of(lambda command: Result(0, _ANSWERS[command].encode()))
    assert found == {"kernel": "6.12.117", "init, SHA-256": "a" * 64, "kubelet": "v1.34.9", "CRI-O": "1.34.0"}


def test_what_does_not_answer_has_none() -> None:
    assert versions.of(lambda _: Result(127, b"chroot: can't execute: No such file")) == {}
