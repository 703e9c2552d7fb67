"""Static pods: loaded only if they would run, and variants leave the original alone."""

import copy
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from harness.errors import HarnessError, InputError
from harness.lab.expectation import milestones_of
from harness.manifests.pods import StaticPod, load, refuse_clashes, warn_of_short_names
from harness.verdict.feed import ContainerState

PROJECT = Path(__file__).parents[2]
_POD = """\
apiVersion: v1
kind: Pod
metadata:
  name: small
spec:
  initContainers:
  - {name: first, image: i, args: ["-a", "8250"]}
  - {name: second, image: i}
  containers:
  - name: main
    image: i
    volumeMounts:
    - {name: data, mountPath: /data}
  - {name: side, image: i}
  volumes:
  - {name: data, emptyDir: {}}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "pod.yaml"


@pytest.fixture
def pod(file: Path) -> StaticPod:
    file.write_text(_POD)
    return load(file)


def test_the_node_pod_of_the_scenarios_loads() -> None:
    pod = load(PROJECT / "scenarios/manifests/node.yaml")
    assert (pod.file, pod.name) == ("node.yaml", "node")
    assert pod.init_containers == ("modprobe", "dhcpcd", "parted", "resize2fs")
    assert pod.containers == ("crio", "kubelet")


def test_the_harness_own_pod_loads() -> None:
    pod = load(PROJECT / "harness/lab/kios-e2e.yaml")
    assert (pod.name, pod.init_containers, pod.containers) == ("kios-e2e", (), ("console",))


def test_a_manifest_that_would_not_run_is_refused_with_every_reason(file: Path) -> None:
    file.write_text(_POD.replace("name: side", "name: main").replace("kind: Pod", "kind: Pod\nkinds: Pod"))
    with pytest.raises(HarnessError) as raised:
        load(file)
    first, second = str(raised.value).splitlines()
    assert first.startswith(f"{file}:3: the pod has no field kinds")
    assert second.startswith(f"{file}:15: two containers are named main")


def test_without_takes_one_container_out_of_a_copy(pod: StaticPod) -> None:
    before = copy.deepcopy(pod.manifest)
    assert pod.without("first").init_containers == ("second",)
    assert pod.without("first").containers == ("main", "side")
    assert pod.without("side").containers == ("main",)
    assert pod.manifest == before


def test_with_args_changes_one_containers_arguments_in_a_copy(pod: StaticPod) -> None:
    before = copy.deepcopy(pod.manifest)
    changed = pod.with_args("first", ("-v", "2"))
    assert [entry.get("args") for entry in changed.manifest["spec"]["initContainers"]] == [["-v", "2"], None]
    assert changed.manifest["spec"]["containers"] == before["spec"]["containers"]
    assert pod.with_args("main", ["x"]).manifest["spec"]["containers"][0]["args"] == ["x"]
    assert pod.manifest == before


@pytest.mark.parametrize("variant", [lambda pod: pod.without("side"), lambda pod: pod.with_args("side", ["x"])])
def test_variants_share_nothing_with_the_original(pod: StaticPod, variant: object) -> None:
    assert callable(variant)
    before = copy.deepcopy(pod.manifest)
    changed = variant(pod)
    changed.manifest["metadata"]["name"] = "other"
    changed.manifest["spec"]["volumes"].clear()
    assert pod.manifest == before
    assert changed.file == pod.file


@pytest.mark.parametrize(
    ("vary", "says"),
    [
        (lambda pod: pod.with_args("main", "-a"), "'-a' is one text: give a list of words"),
        (lambda pod: pod.with_program("main", "i", "sh -c true"), "'sh -c true' is one text: give a list of words"),
        (lambda pod: pod.with_args("main", ["-v", 2]), r'spec.containers\[main\].args\[1\] is the number 2; .*write "2"'),
        (
            lambda pod: pod.with_program("main", "a/B", []),
            "Pod small would not run as it was varied: container main has no image",
        ),
        (lambda pod: pod.without("main").without("side"), "spec.containers is missing: a pod has at least one"),
    ],
)
def test_a_variant_that_would_not_run_is_refused(pod: StaticPod, vary: Callable[[StaticPod], StaticPod], says: str) -> None:
    with pytest.raises(InputError, match=says):
        vary(pod)


def test_milestones_are_init_containers_done_in_order_and_then_the_others_running(pod: StaticPod) -> None:
    milestones = milestones_of(pod)
    assert [milestone.name for milestone in milestones] == ["small/first", "small/second", "small/main", "small/side"]
    assert [milestone.within for milestone in milestones] == sorted({milestone.within for milestone in milestones})
    done = ContainerState("small", "first", "terminated", exit_code=0)
    running = ContainerState("small", "main", "running")
    assert [milestone.passed(done) for milestone in milestones] == [True, False, False, False]
    assert [milestone.passed(running) for milestone in milestones] == [False, False, True, False]
    assert not milestones[0].passed(ContainerState("small", "first", "running"))


@pytest.mark.parametrize("path", ["scenarios/manifests/node.yaml", "harness/lab/kios-e2e.yaml"])
def test_text_reads_back_as_the_same_pod(path: str, tmp_path: Path) -> None:
    pod = load(PROJECT / path)
    written = tmp_path / pod.file
    written.write_bytes(pod.text())
    assert load(written) == pod


@pytest.mark.parametrize("word", ["8250", "on", "0x1f", "1:30", "null", "100%", "a: b", "größer", "", " x ", "two\nlines"])
def test_text_keeps_an_argument_a_string(pod: StaticPod, word: str) -> None:
    read = yaml.safe_load(pod.with_args("main", [word]).text())
    assert read["spec"]["containers"][0]["args"] == [word]


@pytest.mark.parametrize("word", ["1e3", "0o17", "5E2", "y", "N"])
def test_text_quotes_what_is_no_text_to_the_kubelet(pod: StaticPod, word: str) -> None:
    text = pod.with_args("main", [word]).text().decode()
    assert f"- {word}\n" not in text


def test_a_container_that_is_not_there_cannot_be_varied(pod: StaticPod) -> None:
    with pytest.raises(HarnessError, match="has no container thrid"):
        pod.without("thrid")
    with pytest.raises(HarnessError, match="has no container thrid"):
        pod.with_args("thrid", [])


def test_another_program_leaves_the_rest_of_the_container(pod: StaticPod) -> None:
    changed = pod.with_program("first", "probe", ["sh", "-c", "true"])
    assert changed.container("first") == {"name": "first", "image": "probe", "command": ["sh", "-c", "true"]}
    assert changed.container("main") == pod.container("main")
    assert pod.container("first")["args"] == ["-a", "8250"]


@pytest.mark.parametrize("ask", [lambda pod: pod.container("none"), lambda pod: pod.with_program("none", "i", [])])
def test_a_container_that_is_not_there_is_named(pod: StaticPod, ask: Callable[[StaticPod], object]) -> None:
    with pytest.raises(HarnessError, match="Pod small has no container none"):
        ask(pod)


def test_a_node_gets_the_authors_own_bytes_unless_the_pod_was_varied(tmp_path: Path) -> None:
    written = b"# why\n" + (PROJECT / "scenarios/manifests/node.yaml").read_bytes() + b"# the end\n"
    (tmp_path / "node.yaml").write_bytes(written)
    pod = load(tmp_path / "node.yaml")
    assert pod.text() == written
    assert b"# why" not in pod.without("dhcpcd").text()
    assert pod == load(PROJECT / "scenarios/manifests/node.yaml")


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (["a/web.yaml", "b/web.yaml"], "Two manifests are named web.yaml"),
        (["a/web.yaml", "a/other.yaml"], "web.yaml and other.yaml are both the pod default/web"),
    ],
)
def test_pods_that_cannot_be_on_one_node_are_refused(files: list[str], says: str) -> None:
    pods = []
    for number, file in enumerate(files):
        name = "web" if file.startswith("a") else f"web-{number}"
        pods.append(StaticPod(Path(file).name, {"metadata": {"name": name}, "spec": {"containers": []}}))
    with pytest.raises(InputError, match=says):
        refuse_clashes(pods)


def test_one_name_in_two_namespaces_is_no_clash() -> None:
    spec: dict[str, object] = {"containers": []}
    refuse_clashes(
        StaticPod(f"{namespace}.yaml", {"metadata": {"name": "web", "namespace": namespace}, "spec": spec})
        for namespace in ("a", "b")
    )


def test_a_name_without_a_registry_is_warned_of() -> None:
    containers = [{"name": name, "image": image} for name, image in (("a", "busybox"), ("b", "a/b:1"), ("c", "localhost/c"))]
    pod = StaticPod("a.yaml", {"metadata": {"name": "a"}, "spec": {"containers": containers}})
    with pytest.warns(UserWarning, match="names no registry") as heard:
        warn_of_short_names([pod])
    assert [re.sub(".*: ", "", str(each.message)) for each in heard] == [
        "write docker.io/library/busybox:latest.",
        "write docker.io/a/b:1.",
    ]
