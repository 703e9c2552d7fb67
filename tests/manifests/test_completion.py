"""A page's pod, completed by what was declared of it."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.errors import HarnessError
from harness.manifests.completion import completed
from harness.manifests.page import read
from harness.manifests.pods import StaticPod, load
from tests.manifests.kettle_page import PAGE, POD, changed

PROJECT = Path(__file__).parents[2]
COMPLETION = PROJECT / "scenarios/page-completion.yaml"
NODE = PROJECT / "scenarios/manifests/node.yaml"
_COMPLETION = """\
spec:
  hostNetwork: true
volumes:
- name: water
  emptyDir: {}
before:
  fetch: pour
args:
  fetch:
  - "8250"
container_level:
- readOnlyRootFilesystem
"""
_NOTHING = """\
spec: {}
volumes: []
before: {}
args: {}
container_level: []
"""


@pytest.fixture
def completion(tmp_path: Path) -> Path:
    file = tmp_path / "completion.yaml"
    file.write_text(_COMPLETION)
    return file


def test_completed_is_the_page_and_what_was_declared(page: Path, completion: Path) -> None:
    pod = completed(read(page), completion)
    assert (pod.file, pod.init_containers, pod.containers) == (
        "kettle.yaml",
        ("fetch", "pour", "leaves"),
        ("boiler", "whistle"),
    )
    assert pod.manifest == {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "kettle"},
        "spec": {
            "containers": [
                {"name": "boiler", "image": "tea/boiler:v1", "securityContext": {"readOnlyRootFilesystem": True}},
                {"name": "whistle", "image": "tea/whistle:v1", "securityContext": {"privileged": True}},
            ],
            "securityContext": {"fsGroup": 7},
            "initContainers": [
                {"image": "tea/fetch:v2", "name": "fetch", "args": ["--from", "well", "8250"]}
                | {"securityContext": {"readOnlyRootFilesystem": True}},
                {"name": "pour", "image": "tea/pour:v1", "volumeMounts": [{"name": "water", "mountPath": "/water"}]}
                | {"securityContext": {"readOnlyRootFilesystem": True}},
                {"name": "leaves", "image": "tea/leaves:v1", "securityContext": {"readOnlyRootFilesystem": True}},
            ],
            "hostNetwork": True,
            "volumes": [{"name": "water", "emptyDir": {}}],
        },
    }


def test_completing_a_page_leaves_it_as_it_was(page: Path, completion: Path) -> None:
    found = read(page)
    first = completed(found, completion)
    assert found == read(page)
    assert completed(found, completion) == first


def test_what_nothing_is_declared_of_is_the_pages_own(page: Path, completion: Path) -> None:
    page.write_text(changed(POD, "    readOnlyRootFilesystem: true\n", ""))
    completion.write_text(_NOTHING)
    shown = yaml.safe_load(page.read_text().split("```")[1].removeprefix("yaml"))
    assert completed(read(page), completion).manifest == shown


def test_a_pod_that_was_left_without_a_context_has_none(page: Path, completion: Path) -> None:
    page.write_text(changed(PAGE, "    fsGroup: 7\n", ""))
    assert "securityContext" not in completed(read(page), completion).manifest["spec"]


def test_init_containers_of_the_pod_itself_stand_before_the_one_shots(page: Path, completion: Path) -> None:
    page.write_text(changed(PAGE, "spec:\n", "spec:\n  initContainers:\n  - {name: wake, image: tea/wake:v1}\n"))
    assert completed(read(page), completion).init_containers == ("wake", "fetch", "pour", "leaves")


def test_what_an_alias_shares_is_completed_once(page: Path, completion: Path) -> None:
    text = changed(PAGE, "    args:\n", "    args: &words\n").replace(
        "```\n\n!!!", "  - {name: taste, image: tea/taste:v1, args: *words}\n```\n\n!!!"
    )
    page.write_text(text)
    *_, taste, _leaves = completed(read(page), completion).manifest["spec"]["initContainers"]
    assert taste["args"] == ["--from", "well"]


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("spec:\n  containers", "spec:\n  hostNetwork: false\n  containers", 2, "it has hostNetwork itself by now"),
        (
            "  securityContext:\n    read",
            "  volumes:\n  - name: water\n  securityContext:\n    read",
            4,
            "declares the volume water",
        ),
        ("    - name: water\n", "    - name: milk\n", 4, "none of its containers mounts the volume water"),
        ("    name: fetch\n", "    name: bring\n", 7, "fetch is none of its containers"),
        ("  - name: pour\n", "  - name: fill\n", 7, "pour is none of its containers"),
        ("    - well\n", "    - '8250'\n", 10, "it has 8250 among the arguments itself by now"),
        ("readOnlyRootFilesystem: true\n", "runAsUser: 7\n", 12, "has no readOnlyRootFilesystem any more"),
        ("  securityContext:\n    read", "  other:\n    read", 12, "has no readOnlyRootFilesystem any more"),
    ],
    ids=["field", "volume", "no-mount", "moved", "target", "argument", "pod-level-field", "pod-level"],
)
def test_a_completion_that_no_longer_fits_is_refused(
    page: Path, completion: Path, old: str, new: str, line: int, says: str
) -> None:
    page.write_text(changed(PAGE, old, new))
    with pytest.raises(HarnessError, match=rf"completion\.yaml:{line}: does not fit the pod at .*page\.md:7: .*{says}"):
        completed(read(page), completion)


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("  fetch: pour\n", "  pour: fetch\n", 7, "it has pour before fetch itself by now"),
        ("  fetch: pour\n", "  pour: pour\n", 7, "it has pour before pour itself by now"),
        ("  fetch: pour\n", "  fetch: whistle\n", 7, "whistle is none of its containers here"),
        ("  fetch:\n", "  stir:\n", 9, "stir is none of its containers"),
    ],
    ids=["in-order", "itself", "no-one-shot", "args"],
)
def test_a_completion_of_what_is_not_there_is_refused(
    page: Path, completion: Path, old: str, new: str, line: int, says: str
) -> None:
    completion.write_text(changed(_COMPLETION, old, new))
    with pytest.raises(HarnessError, match=rf"completion\.yaml:{line}: does not fit the pod at .*page\.md:7: .*{says}"):
        completed(read(page), completion)


def test_fields_that_no_container_would_take_are_not_dropped(page: Path, completion: Path) -> None:
    text = changed(POD, "tea/boiler:v1\n", "tea/boiler:v1\n    securityContext: {privileged: true}\n")
    page.write_text(text)
    completion.write_text(changed(_NOTHING, "container_level: []", "container_level: [readOnlyRootFilesystem]"))
    with pytest.raises(HarnessError, match=r"completion\.yaml:5: .*each of its containers has a securityContext"):
        completed(read(page), completion)


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("    image: tea/boiler:v1\n", "", 13),
        ("  - name: whistle\n", "  - name: leaves\n", 15),
        ("    - well\n", "    - 7\n", 39),
        ("      mountPath: /water\n", "      mountPth: /water\n", 33),
        ("    fsGroup: 7\n", "    privileged: true\n", 21),
        ("spec:\n  containers", "sepc:\n  containers", 11),
        ("  name: kettle\n", "  nmae: kettle\n", 10),
        ("      image: tea/leaves:v1\n", "      image: tea/leaves:v1\n      volumeMounts: {}\n", 47),
    ],
)
def test_a_pod_that_would_not_run_even_so_is_refused_with_the_pages_line(
    page: Path, completion: Path, old: str, new: str, line: int
) -> None:
    page.write_text(changed(PAGE, old, new))
    with pytest.raises(HarnessError, match=rf"(?m)^\S+page\.md:{line}: "):
        completed(read(page), completion)


def test_all_that_would_not_run_is_named_in_the_order_of_the_lines(page: Path, completion: Path) -> None:
    page.write_text(changed(changed(PAGE, "    - well\n", "    - 7\n"), "- name: whistle\n", "- name: leaves\n"))
    completion.write_text(changed(_COMPLETION, "emptyDir: {}", "emptyDir: []"))
    with pytest.raises(HarnessError) as refused:
        completed(read(page), completion)
    places = re.findall(r"(?m)^\S+/(\S+): ", str(refused.value))
    assert places == ["page.md:15", "page.md:39", "completion.yaml:5"]


def test_a_completion_that_would_not_run_is_refused_with_its_own_line(page: Path, completion: Path) -> None:
    completion.write_text(changed(_COMPLETION, '"8250"', "8250"))
    with pytest.raises(HarnessError, match=r"^\S+completion\.yaml:10: [^\n]+$"):
        completed(read(page), completion)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (_COMPLETION, "", r"completion\.yaml:1: is empty"),
        (_COMPLETION, "- spec", r"completion\.yaml:1: is no completion for want of spec"),
        ("before:\n  fetch: pour\n", "", "for want of before"),
        ("before:\n  fetch: pour\n", "before: [fetch, pour]\n", "for want of before"),
        ("- readOnlyRootFilesystem\n", "", "for want of container_level"),
        ("before:\n", "behind: {}\nbefore:\n", r"completion\.yaml:6: behind is nothing that completes a page"),
        ("args:\n", "args:\n  fetch: []\n", r"completion\.yaml:10: fetch is there twice"),
    ],
)
def test_what_is_no_completion_is_named(page: Path, completion: Path, old: str, new: str, says: str) -> None:
    completion.write_text(changed(_COMPLETION, old, new))
    with pytest.raises(HarnessError, match=says):
        completed(read(page), completion)


def test_the_scenarios_completion_makes_their_node_pod_of_what_it_leaves_over(page: Path) -> None:
    page.write_text(_without_completion(load(NODE), yaml.safe_load(COMPLETION.read_text())))
    made, meant = completed(read(page), COMPLETION).manifest, load(NODE).manifest
    for manifest in (made, meant):
        manifest["spec"]["volumes"].sort(key=lambda volume: volume["name"])
    assert made == meant


def _without_completion(pod: StaticPod, completion: dict[str, Any]) -> str:
    """A page that shows a pod, but for what the completion adds to it or changes in it."""
    spec = pod.manifest["spec"]
    one_shots = {one["name"]: one for one in spec.pop("initContainers")}
    for name in completion["spec"]:
        del spec[name]
    spec["volumes"] = [volume for volume in spec["volumes"] if volume not in completion["volumes"]]
    for name, words in completion["args"].items():
        one_shots[name]["args"] = one_shots[name]["args"][: -len(words)]
    contexts = [container.pop("securityContext") for container in spec["containers"]]
    spec["securityContext"] = {field: contexts[0][field] for field in completion["container_level"]}
    assert contexts == [spec["securityContext"]] * len(contexts)
    order = [name for name in one_shots if name not in completion["before"]]
    for name, other in completion["before"].items():
        order.insert(order.index(other) + 1, name)
    blocks = [pod.manifest, *([one_shots[name]] for name in order)]
    return "\n".join(f"```yaml\n{yaml.safe_dump(block)}```\n" for block in blocks)
