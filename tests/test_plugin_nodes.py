"""What the plugin does with the nodes of a test as it ends, in a run of its own whose nodes are made up."""

import hashlib
import xml.etree.ElementTree as ET
from collections.abc import Sequence

import pytest

from harness.journal import journal
from harness.journal.entry import Ended, Fact

_CONFTEST = """
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.serial.result import Result

pytest_plugins = ["harness.plugin"]
IMAGE = Path(__file__).parent / "kios.img"
IMAGE.write_bytes(b"an image")
ANSWERS = {"uname -r": "6.12.1", "chroot /host /bin/kubelet --version": "Kubernetes v1.33.0"}


@pytest.fixture(scope="session")
def host():
    return SimpleNamespace(facts=dict)


@pytest.fixture
def stock():
    return None


@pytest.fixture(scope="session")
def brought():
    return SimpleNamespace(digests={}, initramfs=None, built_in={}, belief=SimpleNamespace(generation="b"))


@pytest.fixture
def node(node_maker, artifacts):
    def run(command):
        return Result(0, ANSWERS.get(command, "").encode())

    def keep_logs():
        (artifacts / "pods").mkdir()

    boot = SimpleNamespace(
        agent=SimpleNamespace(answers=True), run=run, keep_logs=keep_logs, screen=lambda: "", process=SimpleNamespace()
    )
    made = SimpleNamespace(
        artifacts=artifacts / "node-1",
        name="node-1",
        boot=boot,
        boots=[],
        started=1.0,
        was_started=True,
        is_clone=True,
        why_void="",
        timeline=list,
        awaited=list,
        close=lambda: None,
        order=SimpleNamespace(image=SimpleNamespace(path=IMAGE)),
    )
    node_maker.nodes.append(made)
    return made
"""


_BROUGHT = "SimpleNamespace(digests={}, initramfs=None, built_in={{}}, belief=SimpleNamespace(generation='b'))"


@pytest.fixture
def run(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeconftest(_CONFTEST)
    pytester.makeini("[pytest]\naddopts = -p no:hypothesispytest\n")
    return pytester


def facts(run: pytest.Pytester) -> dict[str, str]:
    [file] = journal.found_in(run.path / "artifacts")
    return {entry.name: entry.value for entry in journal.read(file) if isinstance(entry, Fact)}


def verdicts(run: pytest.Pytester) -> Sequence[tuple[str, str]]:
    [file] = journal.found_in(run.path / "artifacts")
    return [(entry.verdict, entry.sentence) for entry in journal.read(file) if isinstance(entry, Ended)]


@pytest.mark.parametrize(
    ("raised", "words", "tag"),
    [
        ("assert False, 'the lease is gone'", "the node", "failure"),
        ("pytest.fail('the lease is gone')", "the node", "failure"),
        ("{}['key']", "the test, or what was handed to it", "error"),
    ],
)
def test_what_a_scenario_raises_by_itself_has_a_party(run: pytest.Pytester, raised: str, words: str, tag: str) -> None:
    run.makepyfile(f"import pytest\n\ndef test_it(node):\n    {raised}\n")
    done = run.runpytest("--junitxml", "junit.xml")
    done.stdout.fnmatch_lines(["*- at fault -*", words])
    [case] = ET.parse(run.path / "junit.xml").iter("testcase")
    assert [child.tag for child in case if child.tag in ("failure", "error")] == [tag]


def properties(run: pytest.Pytester) -> dict[str, str]:
    [case] = ET.parse(run.path / "junit.xml").iter("testcase")
    return {str(each.get("name")): str(each.get("value")) for each in case.iter("property")}


@pytest.mark.parametrize(
    ("brought", "named"),
    [
        pytest.param("None", {"sha256 of kios.img": hashlib.sha256(b"an image").hexdigest()}, id="the reference image"),
        pytest.param(_BROUGHT.format("{'my.qcow2': 'its own'}"), {"sha256 of my.qcow2": "its own"}, id="one that was brought"),
    ],
)
def test_junit_has_the_hash_of_what_was_tested(run: pytest.Pytester, brought: str, named: dict[str, str]) -> None:
    run.makepyfile(f"""
        from types import SimpleNamespace

        import pytest

        @pytest.fixture(scope="session")
        def brought():
            return {brought}

        def test_it(node):
            pass
    """)
    run.runpytest("--junitxml", "junit.xml").assert_outcomes(passed=1)
    found = properties(run)
    assert {name: value for name, value in found.items() if name.startswith("sha256")} == named
    assert found["start of node-1"] == "clone"


@pytest.mark.parametrize(("ends", "kept"), [("pass", False), ("assert False", True)])
def test_a_test_that_failed_has_the_logs_of_its_pods(run: pytest.Pytester, ends: str, kept: bool) -> None:
    run.makepyfile(f"def test_it(node):\n    {ends}\n")
    run.runpytest()
    assert bool(list(run.path.glob("artifacts/*/*/pods"))) == kept


@pytest.mark.parametrize(("options", "own_pods"), [([], "left-out"), (["--own-pods=run"], "run")])
def test_an_images_own_pods_are_left_out_if_nothing_else_is_asked(
    run: pytest.Pytester, options: list[str], own_pods: str
) -> None:
    run.makepyfile(f"def test_it(node_maker):\n    assert node_maker._own_pods == {own_pods!r}\n")
    run.runpytest("-p", "harness.plugin", *options).assert_outcomes(passed=1)


def test_what_runs_in_a_brought_image_is_asked_of_a_node_once(run: pytest.Pytester) -> None:
    run.makepyfile("def test_one(node):\n    pass\n\ndef test_two(node):\n    node.boot.run = None\n")
    run.runpytest().assert_outcomes(passed=2)
    assert facts(run) == {"kernel": "6.12.1", "kubelet": "v1.33.0"}


def test_a_node_that_failed_is_not_asked_what_runs_in_it(run: pytest.Pytester) -> None:
    run.makepyfile("def test_one(node):\n    node.boot.run = None\n    assert False\n")
    run.runpytest().assert_outcomes(failed=1)
    assert facts(run) == {}


def test_what_another_generation_promises_proves_nothing_and_lacks_nothing(run: pytest.Pytester) -> None:
    run.makepyfile(
        """
import pytest

@pytest.mark.generation("a", cannot="the disk grows")
def test_cannot(artifacts):
    pass

@pytest.mark.generation("a")
def test_other(artifacts):
    pass
"""
    )
    run.runpytest().assert_outcomes(skipped=2)
    assert verdicts(run) == [("known", "the disk grows"), ("elsewhere", "holds for generation A only")]
