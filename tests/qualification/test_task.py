"""What a qualification is to do, as its folder has it."""

from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import InputError
from harness.journal.entry import Began, Finished
from harness.journal.journal import Journal
from harness.qualification import canary, task
from harness.qualification.canary import Canary
from harness.qualification.plan import Step
from harness.qualification.task import Task

TASK = Task("kios.img", "nightly", ["plain", "canaries"], ["-n", "2"], words=[["--nic=e1000"], []], canaries=["a", "b"])


@pytest.fixture
def written(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    TASK.write(folder)
    return folder


def end(folder: Path, step: str, status: int) -> None:
    place = folder / task.RUNS / step
    place.mkdir(parents=True)
    journal = Journal(place, "r")
    journal.write(Began("r", 1.0))
    journal.write(Finished(2.0, status))
    journal.close()


def catch(folder: Path, *names: str) -> None:
    place = folder / task.RUNS / "canaries"
    place.mkdir(parents=True)
    canary.write(place / canary.NAME, [Canary(name, "x.py", "all", True, "it fails") for name in names])


def test_what_was_written_is_read(written: Path) -> None:
    assert task.read(written) == TASK
    assert task.read(written / "nothing") is None
    assert task.found_in([written, written.parent]) == {written: TASK}


def test_what_did_not_come_to_its_end_is_undone(written: Path) -> None:
    assert list(TASK.undone(written)) == ["the run of the machine 'plain'", "the run of the canaries"]
    end(written, "plain", 2)
    catch(written, "a")
    assert list(replace(TASK, shard="1/2").undone(written)) == [
        "the run of the machine 'plain' of shard 1/2",
        "the run of the canaries of shard 1/2",
    ]


def test_a_shard_that_never_began_is_undone_as_a_whole(written: Path) -> None:
    assert list(replace(TASK, shard="1/2").undone(written)) == ["shard 1/2"]


def test_of_a_damaged_image_nothing_is_undone(written: Path) -> None:
    assert list(replace(TASK, damage="it is an empty file").undone(written)) == []


@pytest.mark.parametrize("status", [0, 1, 5])
def test_what_came_to_its_end_is_done(written: Path, status: int) -> None:
    end(written, "plain", status)
    catch(written, "a", "b")
    assert list(TASK.undone(written)) == []


def test_another_task_is_told_by_what_it_has_otherwise() -> None:
    assert TASK.unlike(replace(TASK, command="kios-e2e qualify --resume", damage="it was an empty file")) == []
    assert TASK.unlike(replace(TASK, words=[["--nic=e1000e"], []], harness="x")) == ["words", "harness"]


@pytest.mark.parametrize("text", ["", "3", "null", "[]", "{}", '{"image": 1, "tier": "nightly", "steps": []}', "[" * 100_000])
def test_a_torn_one_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / task.NAME).write_text(text)
    with pytest.raises(InputError, match="is torn: name another folder"):
        task.read(tmp_path)


@pytest.mark.parametrize(
    ("names", "why"),
    [
        ([], "No machine of the matrix is in this tier"),
        (["a b", "a-b"], "'a b' and 'a-b' would have one folder"),
        (["canaries", "canaries"], "would have one folder"),
        ([""], "No folder can be named after"),
        ([".."], "No folder can be named after"),
        (["x" * 300], "No folder can be named after"),
    ],
)
def test_steps_without_folders_of_their_own_are_refused(names: list[str], why: str) -> None:
    with pytest.raises(InputError, match=why):
        task.check([Step(name) for name in names])


def test_a_folder_is_for_one_qualification_at_a_time(tmp_path: Path) -> None:
    with (
        task.alone_in(tmp_path / "out"),
        pytest.raises(InputError, match="another qualification runs in"),
        task.alone_in(tmp_path / "out"),
    ):
        pytest.fail("both are in it")
    with task.alone_in(tmp_path / "out"):
        pass
