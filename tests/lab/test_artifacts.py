"""Each run, and each test in it, has a folder of its own for what it leaves."""

import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import HarnessError, InputError, Party
from harness.lab.artifacts import OneTest, emptied, is_free, taken

PROJECT = Path(__file__).parents[2]

_RUN = """
import sys
from pathlib import Path
from harness.lab.artifacts import taken
with taken(Path(sys.argv[1]), sys.argv[2]) as root:
    print(root.name, flush=True)
    sys.stdin.read()
"""


class Run:
    """Another process that writes artifacts."""

    def __init__(self, wanted: Path, name: str) -> None:
        argv = [sys.executable, "-c", _RUN, str(wanted), name]
        self.process = subprocess.Popen(argv, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        self.root = self.process.stdout.readline().decode().strip()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def test_runs_at_a_time_have_folders_of_their_own(tmp_path: Path) -> None:
    first, second = Run(tmp_path / "artifacts", "a"), Run(tmp_path / "artifacts", "b")
    third = Run(tmp_path / "artifacts", "c")
    assert (first.root, second.root, third.root) == ("artifacts", "artifacts-2", "artifacts-3")
    for run in (first, second, third):
        run.kill()
    with taken(tmp_path / "artifacts", "d") as root:
        assert root.name == "artifacts", "a killed run holds nothing"


def test_the_processes_of_a_run_share_one(tmp_path: Path) -> None:
    runs = [Run(tmp_path / "artifacts", name) for name in ("a", "b", "a", "b", "b")]
    assert [run.root for run in runs] == ["artifacts", "artifacts-2", "artifacts", "artifacts-2", "artifacts-2"]
    runs[0].kill()
    with taken(tmp_path / "artifacts", "c") as root:
        assert root.name == "artifacts-3", "one process of the first run still lives"
    for run in runs[1:]:
        run.kill()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (OneTest(Path("a/test_x.py"), "test_it"), OneTest(Path("b/test_x.py"), "test_it")),
        (OneTest(Path("test_x.py"), "test_it[a/b]"), OneTest(Path("test_x.py"), "test_it[a-b]")),
        (OneTest(Path("test_x.py"), "test_it[" + "x" * 300 + "1]"), OneTest(Path("test_x.py"), "test_it[" + "x" * 300 + "2]")),
        (OneTest(Path("test_x.py"), "test_it[\N{SNOWMAN}]"), OneTest(Path("test_x.py"), "test_it[\N{COMET}]")),
    ],
    ids=["files of one name", "parameters", "long names", "signs"],
)
def test_tests_whose_names_are_alike_have_folders_of_their_own(tmp_path: Path, one: OneTest, other: OneTest) -> None:
    folder = emptied(tmp_path, one, [one, other])
    (folder / "log").write_text("x")
    assert emptied(tmp_path, other, [one, other]) != folder
    assert (folder / "log").exists()


def test_a_test_that_is_alone_has_the_plain_names(tmp_path: Path) -> None:
    test = OneTest(Path("scenarios/resize.py"), "test_it[8G]")
    assert emptied(tmp_path, test, [test, test]) == tmp_path / "resize/test_it-8G"


def test_what_an_earlier_run_left_is_removed(tmp_path: Path) -> None:
    test = OneTest(Path("scenarios/resize.py"), "test_it")
    (emptied(tmp_path, test, [test]) / "old").write_text("x")
    assert list(emptied(tmp_path, test, [test]).iterdir()) == []


@pytest.mark.parametrize("name", ["ü" * 300, "x" * 255])
def test_a_long_name_is_cut(tmp_path: Path, name: str) -> None:
    test = OneTest(Path(f"{name}.py"), name)
    (emptied(tmp_path, test, [test]) / "node-1").mkdir()


def test_a_folder_that_cannot_be_written_is_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match=r"cannot be written to .*file"), taken(tmp_path / "file/artifacts", "a"):
        pass
    (tmp_path / "resize").write_text("x")
    test = OneTest(Path("scenarios/resize.py"), "test_it")
    with pytest.raises(InputError, match=r"cannot be written to .*resize.*: name another with --artifacts DIR\."):
        emptied(tmp_path, test, [test])


def test_a_folder_is_free_once_nobody_writes_to_it(tmp_path: Path) -> None:
    assert is_free(tmp_path / "artifacts")
    run = Run(tmp_path / "artifacts", "a")
    assert not is_free(tmp_path / "artifacts")
    run.kill()
    assert is_free(tmp_path / "artifacts")


def test_a_full_disk_is_no_mistake_of_its_users(small_disk: Path) -> None:
    with pytest.raises(OSError, match="No space left"):
        (small_disk / "filler").write_bytes(bytes(5 << 20))
    full = pytest.raises(HarnessError, match=r"cannot be written to .*/artifacts \(No space left")
    with full as refused, taken(small_disk / "artifacts", "a"):
        pass
    assert refused.value.party is Party.HOST
