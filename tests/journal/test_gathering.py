"""Runs put together: shards are a whole, copies count once, and what is not there is said."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from harness.errors import InputError
from harness.journal.entry import Began, Ended, Entry, Fact, Finished, Planned, Started
from harness.journal.gathering import PLAIN, gather
from harness.journal.journal import Journal


def run(folder: Path, name: str, entries: list[Entry], shard: str = "", machine: Mapping[str, str] | None = None) -> Path:
    folder.mkdir()
    journal = Journal(folder, name)
    journal.write(Began(name, 1.0, shard=shard, machine=machine or {}))
    for entry in entries:
        journal.write(entry)
    journal.close()
    return folder


def passed(test: str) -> list[Entry]:
    return [Planned(test), Started(test, 2.0), Ended(test, "passed", 3.0), Finished(4.0, 0)]


def test_two_shards_are_one_whole(tmp_path: Path) -> None:
    one = run(tmp_path / "one", "a", passed("t1"), "1/2")
    two = run(tmp_path / "two", "b", passed("t2"), "2/2")
    whole = gather([one, two])
    assert [attempt.ended.test for attempt in whole.attempts] == ["t1", "t2"]
    assert (whole.missing, [run.cell for run in whole.runs]) == ([], [PLAIN, PLAIN])


def test_a_missing_shard_is_said_for_each_machine(tmp_path: Path) -> None:
    one = run(tmp_path / "one", "a", passed("t1"), "1/3")
    other = run(tmp_path / "two", "b", passed("t1"), "2/2", {"nic": "e1000e"})
    assert gather([one, other]).missing == ["shard 2/3", "shard 3/3", "shard 1/2 of the machine with nic e1000e"]


def test_a_run_that_is_there_twice_counts_once_and_the_later_copy_counts(tmp_path: Path) -> None:
    one = run(tmp_path / "one", "a", passed("t1")[:2])
    shutil.copytree(one, tmp_path / "early")
    [file] = one.glob("journal-*")
    journal = Journal(one, "a")
    for entry in passed("t1")[2:]:
        journal.write(entry)
    for order in ([one, tmp_path / "early"], [tmp_path / "early", one], [tmp_path, one]):
        [attempt] = gather(order).attempts
        assert (attempt.ended.verdict, attempt.folder) == ("passed", one)
    assert file.exists()


def test_what_a_killed_run_left_undone_is_known(tmp_path: Path) -> None:
    folder = run(tmp_path / "one", "a", [Planned("t1"), Planned("t2"), Started("t1", 2.0)])
    [killed] = gather([folder]).runs
    assert (killed.status, killed.undone, killed.ended_at) == (None, ["t1", "t2"], 2.0)


def test_a_journal_without_its_beginning_is_missing(tmp_path: Path) -> None:
    whole, torn = run(tmp_path / "one", "a", passed("t1")), run(tmp_path / "two", "b", passed("t2"))
    [file] = torn.glob("journal-*")
    shutil.copytree(torn, tmp_path / "copy")
    file.write_text("".join(file.read_text().splitlines(keepends=True)[1:]))
    assert gather([whole, torn]).missing == [f"the beginning of {file}"]
    assert gather([whole, torn, tmp_path / "copy"]).missing == []


def test_facts_of_several_runs_stand_beside_each_other(tmp_path: Path) -> None:
    one = run(tmp_path / "one", "a", [Fact("host", "QEMU", "11.1"), Fact("host", "QEMU", "11.1")])
    two = run(tmp_path / "two", "b", [Fact("host", "QEMU", "10.0")])
    assert gather([one, two]).facts == {"host": {"QEMU": ["11.1", "10.0"]}}


def test_a_folder_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        gather([tmp_path])
