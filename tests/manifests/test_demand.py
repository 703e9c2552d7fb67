"""What pods request together is what the kubelet looks for, and what no node has is refused."""

from typing import Any

import pytest

from harness.errors import InputError
from harness.manifests import demand
from harness.manifests.demand import CPUS, MEMORY
from harness.manifests.pods import StaticPod, refuse_too_large

_MIB = 1 << 20


def container(request: object = None, limit: object = None, **more: object) -> dict[str, Any]:
    named = {"requests": request, "limits": limit}
    return {"name": "c", "resources": {kind: {"memory": asked} for kind, asked in named.items() if asked is not None}, **more}


def pod(*containers: dict[str, Any], init: tuple[dict[str, Any], ...] = (), **more: object) -> dict[str, Any]:
    spec = {"containers": list(containers), "initContainers": list(init), **more}
    return {"metadata": {"name": "p"}, "spec": spec}


_SIDECAR = container("20Mi", restartPolicy="Always")


@pytest.mark.parametrize(
    ("quantity", "size"),
    [
        ("1e999999999", (1 << 63) - 1),
        ("64Mi", 64 * _MIB), ("1Gi", 1 << 30), ("1G", 10**9), ("1e3", 1000), ("1E", 10**18), ("0.5Gi", 1 << 29), (1000, 1000),
        ("1500m", 2), (" 1Ki ", 1024), ("", 0), ("ten", 0), (None, 0), ("-1Gi", 0),
    ],
)  # fmt: skip
def test_a_quantity_is_bytes(quantity: object, size: int) -> None:
    assert demand.requested(pod(container(quantity)), MEMORY) == size


@pytest.mark.parametrize(
    ("told", "mib"),
    [
        pytest.param(pod(container("10Mi"), container("20Mi")), 30, id="side by side"),
        pytest.param(pod(container("10Mi"), init=(container("50Mi"), container("40Mi"))), 50, id="one after the other"),
        pytest.param(
            pod(container("10Mi"), init=(container("20Mi", restartPolicy="Always"), container("15Mi"))),
            35,
            id="beside a sidecar",
        ),
        pytest.param(pod(container("30Mi"), init=(_SIDECAR, container("15Mi"))), 50, id="a sidecar beside the rest"),
        pytest.param(pod(container(limit="30Mi")), 30, id="a limit"),
        pytest.param(pod(container("10Mi", "30Mi")), 10, id="a request goes before a limit"),
        pytest.param(pod(container("10Mi"), overhead={"memory": "5Mi"}), 15, id="overhead"),
        pytest.param(pod(container("10Mi"), resources={"requests": {"memory": "99Mi"}}), 99, id="the pod's own"),
        pytest.param(pod(container()), 0, id="none"),
    ],
)
def test_requests_add_up_as_the_kubelet_adds_them(told: dict[str, Any], mib: int) -> None:
    assert demand.requested(told, MEMORY) == mib * _MIB


def test_pods_that_no_node_has_room_for_are_refused_before_it_boots() -> None:
    pods = [StaticPod(f"{name}.yaml", pod(container("600Mi"))) for name in ("a", "b")]
    refuse_too_large(pods[:1], 1 << 30, 1)
    with pytest.raises(InputError, match=r"^The pods request 1200 MiB of memory .*, the node has 1024 MiB.*--memory"):
        refuse_too_large(pods, 1 << 30, 1)


@pytest.mark.parametrize(("quantity", "thousandths"), [("250m", 250), (2, 2000), ("0.0001", 1), ("1e1", 10000), (0.5, 500)])
def test_cpus_are_thousandths(quantity: object, thousandths: int) -> None:
    assert demand.requested(pod({"name": "c", "resources": {"requests": {"cpu": quantity}}}), CPUS) == thousandths


def test_pods_that_no_node_has_cpus_for_are_refused_before_it_boots() -> None:
    half = {"name": "c", "resources": {"limits": {"cpu": "500m"}}}
    pods = [StaticPod(f"{name}.yaml", pod(half)) for name in ("a", "b", "c")]
    refuse_too_large(pods[:2], 1 << 30, 1)
    with pytest.raises(InputError, match=r"^The pods request 1\.5 CPUs \(p 0\.5, p 0\.5, p 0\.5\), the node has 1: .*--cpus\."):
        refuse_too_large(pods, 1 << 30, 1)
