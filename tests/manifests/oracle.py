"""`make check-oracle`: generated manifests, on which our rules are held against the kubelet's own program.

Collected only by name. An error of ours has to be a refusal of the kubelet's, a field that it drops, or a rule of our own.
"""

import json
import os
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.lab import cache
from harness.manifests import fields, kubelet_rules
from harness.manifests.kubelet_rules import KubeletRules
from harness.manifests.manifest import check
from setup import pod_fields

MANIFESTS = int(os.environ.get("ORACLE_MANIFESTS", "3000"))
# Rules of our own, by their words: what the kubelet takes, and drops, or never runs, or cannot be (docs/manifests.md).
OWN = re.compile(
    r"the kubelet drops it|only the last counts|refers to a|never runs it|and never runs|the node's is linux|"
    r"the kubelet forbids|which no plugin here mounts|it never starts|is for a running pod|is a static pod's own|"
    r"has no image:|which the pod has not|where its image is|of which its subPathExpr is made|which Linux has not|"
    r"thousandths of a byte|has the medium|CRI-O makes none|crashes at it|at a uid with"
)
_WORDS = st.sampled_from(
    ["", "a", "web", "A b", "a.b", "80", "/a", "../b", "main", "v", "Always", "TCP", "metadata.name", "limits.cpu"]
)
_KEYS = st.sampled_from(["a", "cpu", "memory", "two words", "x.y/z"])
_SCALARS: dict[str, st.SearchStrategy[object]] = {
    "string": _WORDS,
    "bool": st.booleans(),
    "int32": st.sampled_from([-1, 0, 1, 80, 420, 644, 65536, 2**31 - 1]),
    "int64": st.sampled_from([-1, 0, 1, 30, 2**31, 2**63 - 1]),
    "quantity": st.sampled_from(["64Mi", " 1Gi ", "0.5", "-1", 1, "ten"]),
    "int-or-string": st.sampled_from([0, 80, 65536, "http", "80", "HTTP"]),
    "time": st.sampled_from(["2026-01-31T12:00:00Z", "2026-13-01T00:00:00Z", "soon"]),
    "any": st.just({}),
}


def of_kind(kind: str, depth: int) -> st.SearchStrategy[object]:
    """Values of a kind of the table; sparse, and no deeper than `depth`."""
    kind = kind.rstrip("!")
    if kind.startswith("[]"):
        return st.lists(of_kind(kind[2:], depth - 1), max_size=2)
    if kind.startswith("{}"):
        return st.dictionaries(
            st.sampled_from(["a", "cpu", "memory", "two words", "x.y/z"]), of_kind(kind[2:], depth - 1), max_size=2
        )
    if kind in _SCALARS:
        return _SCALARS[kind]
    if kind not in fields.types():
        return st.sampled_from([*kind.split("|"), "", "other"])
    return of_type(kind, depth)


def of_type(name: str, depth: int) -> st.SearchStrategy[dict[str, object]]:
    table = fields.types()[name]
    needed = {field: of_kind(kind, depth - 1) for field, kind in table.items() if kind.endswith("!")}
    if depth <= 0:
        return st.fixed_dictionaries(needed)
    chosen = st.lists(st.sampled_from(sorted(table.keys() - needed.keys()) or [""]), max_size=2, unique=True)
    return chosen.flatmap(
        lambda names: st.fixed_dictionaries({**needed, **{each: of_kind(table[each], depth - 1) for each in names if each}})
    )


def pods() -> st.SearchStrategy[dict[str, object]]:
    """Good pods in which a few fields were put, anywhere."""

    def made(parts: tuple[dict[str, object], dict[str, object], dict[str, object], dict[str, object]]) -> dict[str, object]:
        spec, container, volume, metadata = parts
        good = {"name": "main", "image": "i", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}
        source = {key: value for key, value in volume.items() if key != "name"} or {"emptyDir": {}}
        whole = {
            **{key: value for key, value in spec.items() if key != "ephemeralContainers"},
            "hostNetwork": True,
            "containers": [{**container, **good}],
            "volumes": [{**source, "name": "v"}],
        }
        return {"apiVersion": "v1", "kind": "Pod", "metadata": {**metadata, "name": "small"}, "spec": whole}

    return st.tuples(of_type("PodSpec", 4), of_type("Container", 5), of_type("Volume", 4), of_type("ObjectMeta", 2)).map(made)


@pytest.fixture(scope="session")
def program() -> KubeletRules:
    found = kubelet_rules.find(cache.folder(None))
    if found is None:
        pytest.fail("the kubelet's rules were not built: make check-tool")
    return found


def test_the_table_of_fields_is_made_of_the_kubelets_own_types() -> None:
    assert pod_fields.made() == Path(fields.__file__).with_name("pod-fields.json").read_text("utf-8")


def test_our_rules_refuse_what_the_kubelet_refuses(program: KubeletRules) -> None:
    drawn: list[bytes] = []

    @settings(max_examples=MANIFESTS, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(pod=pods())
    def draw(pod: dict[str, object]) -> None:
        drawn.append(json.dumps(pod).encode())

    draw()
    different = list(dict.fromkeys(drawn))
    taken_wrongly, refused_wrongly, left_to_it = [], [], 0
    for data, answer in zip(different, program.ask(different), strict=True):
        reading = check(Path("pod.yaml"), data)
        errors = list(reading.errors)
        if not errors and not answer.takes_it:
            left_to_it += 1
            assert reading.root is not None
            if not list(kubelet_rules.in_words(answer, reading.root)):
                taken_wrongly.append((data, answer))
        if answer.takes_it and not answer.dropped:
            refused_wrongly += [(data, error.words) for error in errors if not OWN.search(error.words)]
    print(f"\n{len(different)} manifests: {left_to_it} left to the kubelet's program, {len(refused_wrongly)} refused wrongly")
    for _, words in refused_wrongly:
        print(words)
    assert not taken_wrongly, taken_wrongly[:3]
    assert len(refused_wrongly) <= len(different) * 0.002, refused_wrongly[:5]
