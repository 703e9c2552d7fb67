"""What a kubelet's configuration says of it: where its static pods are, and where it can be asked."""

from pathlib import PurePosixPath

import pytest

from harness.errors import InputError
from harness.guest.kubelet_config import Settings, settings

_KIND = b"kind: KubeletConfiguration\n"
_PODS = _KIND + b"staticPodPath: /etc/kubernetes/manifests\n"


@pytest.mark.parametrize(
    ("shipped", "said"),
    [
        (None, Settings(PurePosixPath("/etc/kubernetes/manifests"), 10250)),
        (b"\n", Settings()),
        (_PODS, Settings()),
        (_KIND + b"staticPodPath: /etc/pods/\nport: 10350\naddress: 0.0.0.0\n", Settings(PurePosixPath("/etc/pods"), 10350)),
        (b"kind: Nonsense\nport: 1\n", Settings()),
        (_PODS + b"port: 0\npodLogsDir: /var/log/pods\nenableServer: true\n", Settings()),
    ],
)
def test_where_pods_go_and_the_kubelet_is_asked_is_as_it_was_shipped(shipped: bytes | None, said: Settings) -> None:
    assert settings(shipped) == said


@pytest.mark.parametrize(
    ("shipped", "why"),
    [
        (_KIND, "it has no staticPodPath, and such a kubelet runs no static pod at all"),
        (_KIND + b"staticPodPath: /var/lib/kubelet/pods\n", "its staticPodPath is /var/lib/kubelet/pods, .* below /etc only"),
        (_KIND + b"staticPodPath: /etc/../run\n", "its staticPodPath is /etc/../run"),
        (_PODS + b"enableServer: false\n", "its enableServer is false, and nobody can ask"),
        (_PODS + b"address: 127.0.0.1\n", r"its address is 127\.0\.0\.1, where nobody but its own node"),
        (_PODS + b"podLogsDir: /var/log/all\n", "its podLogsDir is /var/log/all"),
        (_PODS + b"port: 70000\n", "its port is 70000"),
        (_PODS + b"port: kubelet\n", "its port is 'kubelet'"),
        (b"hello\n", "is no kubelet configuration"),
    ],
)
def test_a_kubelet_that_no_harness_could_deal_with_is_named_before_it_boots(shipped: bytes, why: str) -> None:
    with pytest.raises(InputError, match=rf"/etc/kubernetes/config\.yaml.*{why}"):
        settings(shipped)
