"""Why a pod does not begin: the reason out of the kubelet's log, as a real kubelet 1.34.9 wrote it."""

import subprocess
from pathlib import Path

import pytest

from harness.guest import hindrance

_AT = "E1125 23:17:13.831355      51 "
_VOLUME = (
    _AT + 'nestedpendingoperations.go:348] Operation for "{volumeName:kubernetes.io/empty-dir/f4c9-v podName:f4c9 nodeName:}" '
    "failed. No retries permitted until 2026-11-25 23:17:45.831181026 +0000 UTC m=+84.9 (durationBeforeRetry 32s). Error: "
    'MountVolume.SetUp failed for volume "v" (UniqueName: "kubernetes.io/empty-dir/f4c9-v") pod "medium" (UID: "f4c9") : '
    'unknown storage medium "memory"'
)
_SANDBOX = (
    _AT + r'pod_workers.go:1324] "Error syncing pod, skipping" err="failed to \"CreatePodSandbox\" for \"small_default(e8c1)\" '
    r"with CreatePodSandboxError: \"Failed to create sandbox for pod \\\"small_default(e8c1)\\\": rpc error: code = Unknown "
    r'desc = pod set memory limit 4194304 too low; should be at least 12582912 bytes\"" pod="default/small" podUID="e8c1"'
)
_CREATED = (
    _AT + 'kuberuntime_manager.go:1353] "CreatePodSandbox for pod failed" err="rpc error: code = Unknown desc = create dropped '
    'infra 7ff3 cgroup: cannot allocate memory" pod="default/tiny"'
)
_MOUNT = (
    _AT + r'pod_workers.go:1324] "Error syncing pod, skipping" err="failed to \"StartContainer\" for \"main\" with '
    r"CreateContainerError: \"container create failed: mount `/var/lib/x` to `dev`: Not a directory\\n\"\" "
    r'pod="default/dev" podUID="1"'
).replace(r"\"\" pod", r'\"" pod')
_NETWORK = (
    _AT + 'pod_workers.go:1324] "Error syncing pod, skipping" err="network is not ready: container runtime network not ready: '
    'NetworkReady=false" pod="default/web" podUID="1"'
)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("medium", 'MountVolume.SetUp failed for volume "v": unknown storage medium "memory"'),
        ("small", "pod set memory limit 4194304 too low; should be at least 12582912 bytes"),
        ("dev", "container create failed: mount `/var/lib/x` to `dev`: Not a directory"),
        ("tiny", "create dropped infra 7ff3 cgroup: cannot allocate memory"),
        ("web", "network is not ready: container runtime network not ready: NetworkReady=false"),
        ("other", ""),
        ("smal", ""),
    ],
)
def test_the_reason_is_told_in_its_own_words(name: str, reason: str) -> None:
    lines = [_VOLUME, _SANDBOX, _CREATED, _MOUNT, _NETWORK, f'{_AT}kubelet.go:1] "SyncLoop ADD" pods=["default/other"]', ""]
    assert hindrance.reason_in("\n".join(lines), "default", name) == reason
    assert hindrance.reason_in("\n".join(lines), "kube-system", name) == (reason if name == "medium" else "")


@pytest.mark.parametrize(
    "step", ["MountVolume.MountDevice failed", "MountVolume.NewMounter initialization failed", "MapVolume.SetUpDevice failed"]
)
def test_whichever_step_of_a_mount_fails_is_told(step: str) -> None:
    line = _VOLUME.replace("MountVolume.SetUp failed", step)
    assert hindrance.reason_in(line, "default", "medium") == f'{step} for volume "v": unknown storage medium "memory"'


def test_a_mount_that_fails_is_told_with_what_it_said() -> None:
    mount = _VOLUME.replace('unknown storage medium "memory"', "mount failed: exit status 32")
    rest = "Mounting command: mount\nMounting arguments: -t nfs store:/x /var/lib/kubelet/pods/f4c9/v\n"
    said = "Output: mount: mounting store:/x on /var/lib/kubelet/pods/f4c9/v failed: No such device"
    reason = 'MountVolume.SetUp failed for volume "v": mount failed: exit status 32: mount: mounting store:/x on '
    assert hindrance.reason_in(f"{mount}\n{rest}{said}\n\n", "default", "medium").startswith(reason)
    assert hindrance.reason_in(f"{rest}{said}\n", "default", "medium") == ""


def test_the_last_reason_counts() -> None:
    other = _SANDBOX.replace("too low", "too odd")
    assert "too odd" in hindrance.reason_in(f"{_SANDBOX}\n{other}\n", "default", "small")


def test_a_volumes_own_reason_is_told_and_not_that_it_is_not_there() -> None:
    summed_up = (
        _AT + 'pod_workers.go:1324] "Error syncing pod, skipping" err="unmounted volumes=[v], unattached volumes=[], '
        'failed to process volumes=[]: context deadline exceeded" pod="default/medium" podUID="1"'
    )
    assert hindrance.reason_in(f"{_VOLUME}\n{summed_up}\n", "default", "medium").endswith('unknown storage medium "memory"')
    assert hindrance.reason_in(f"{summed_up}\n", "default", "medium").startswith("unmounted volumes=[v]")
    assert "deadline" not in hindrance.reason_in(f"{summed_up}\n{_VOLUME}\n", "default", "medium")


def asked_of(mirrored: str, folder: Path) -> str:
    """What the command prints where the kubelet's log is mirrored so."""
    log = folder / "var/log/pods/kube-system_node_uid/kubelet/0.log"
    log.parent.mkdir(parents=True)
    log.write_text(mirrored)
    command = hindrance.command().replace("/host/", f"{folder}/")
    return subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=20, check=True).stdout


def test_the_end_of_the_log_is_read(tmp_path: Path) -> None:
    mirrored = "".join(f"2026-11-25T23:52:39.4+00:00 stdout F line {number}\n" for number in range(1000))
    assert asked_of(mirrored, tmp_path).splitlines() == [f"line {number}" for number in range(700, 1000)]


def test_a_line_that_the_mirror_has_in_parts_is_whole(tmp_path: Path) -> None:
    parts = [("P", _SANDBOX[:150]), ("P", _SANDBOX[150:390]), ("F", _SANDBOX[390:])]
    mirrored = "".join(f"2026-11-25T23:17:13.831842821+00:00 stdout {tag} {text}\n" for tag, text in parts)
    log = asked_of(mirrored, tmp_path)
    assert log == f"{_SANDBOX}\n"
    assert hindrance.reason_in(log, "default", "small").startswith("pod set memory limit")
