"""The nights' file: a report is added once, and what is no night is left out."""

import json
import subprocess
from pathlib import Path

import pytest

from harness.errors import HarnessError, InputError
from harness.history import night
from harness.history.branch import Branch
from harness.history.night import Night


def test_nights_come_back_in_order_and_once(tmp_path: Path) -> None:
    later, first = Night("b", 2.0, "qualified", verdicts={"t": "passed"}), Night("a", 1.0, "not qualified", figures={"m": 3.0})
    assert [night.add(each, tmp_path / "history") for each in (later, first, later)] == [True, True, False]
    assert night.read(tmp_path / "history") == [first, later]


def test_a_torn_line_is_left_out(tmp_path: Path) -> None:
    night.add(Night("a", 1.0, "qualified"), tmp_path)
    with (tmp_path / night.NAME).open("a") as file:
        file.write('{"name": "b"}\n{"na')
    assert [each.name for each in night.read(tmp_path)] == ["a"]


def test_a_night_behind_a_torn_line_is_kept(tmp_path: Path) -> None:
    (tmp_path / night.NAME).write_text('{"name": "b", "at": 1.0, "ans')
    assert night.add(Night("a", 2.0, "qualified"), tmp_path)
    assert [each.name for each in night.read(tmp_path)] == ["a"]


def test_a_line_that_two_machines_merged_twice_is_one_night(tmp_path: Path) -> None:
    night.add(Night("a", 1.0, "qualified"), tmp_path)
    (tmp_path / night.NAME).write_text((tmp_path / night.NAME).read_text() * 2)
    assert [each.name for each in night.read(tmp_path)] == ["a"]


@pytest.mark.parametrize(
    "field",
    [{"at": "x"}, {"at": float("nan")}, {"at": None}, {"milestones": [1]}, {"milestones": {"m": "x"}}, {"verdicts": {"t": 1}}],
)
def test_a_line_of_another_shape_is_left_out(tmp_path: Path, field: dict[str, object]) -> None:
    line = {"name": "b", "at": 1, "answer": "qualified", **field}
    (tmp_path / night.NAME).write_text(f"{json.dumps(line)}\n{'[' * 100_000}\n")
    assert list(night.read(tmp_path)) == []
    night.add(Night("a", 2.0, "qualified"), tmp_path)
    assert [each.name for each in night.read(tmp_path)] == ["a"]


def test_what_a_later_version_says_of_a_night_besides_is_left_out(tmp_path: Path) -> None:
    (tmp_path / night.NAME).write_text('{"name": "b", "at": 1, "answer": "qualified", "moon": [1]}')
    assert night.read(tmp_path) == [Night("b", 1, "qualified")]


def test_nights_that_cannot_be_read_are_the_users_to_mend(tmp_path: Path) -> None:
    (tmp_path / night.NAME).mkdir()
    with pytest.raises(InputError, match="cannot be read"):
        night.read(tmp_path)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One with a commit on its branch main, in which this process is; nobody has told git who commits."""
    for name in ("GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL", "EMAIL", "GIT_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.chdir(tmp_path)
    git("init", "-q", "-b", "main")
    git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "begun")
    return tmp_path


def git(*words: str) -> str:
    return subprocess.run(["git", *words], check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("name", ["nights", "ci/nights"])
def test_nights_are_kept_on_a_branch_that_is_not_checked_out(repository: Path, name: str) -> None:
    place = Path(f"git:{name}")
    assert list(night.read(place)) == []
    first, later = Night("a", 1.0, "qualified"), Night("b", 90_000.0, "not qualified")
    assert [night.add(each, place) for each in (later, first, later)] == [True, True, False]
    assert night.read(place) == [first, later]
    assert git("log", "--format=%s by %an", name).splitlines() == [
        "The night of 1970-01-01 by kios-e2e",
        "The night of 1970-01-02 by kios-e2e",
    ]
    assert (list(repository.iterdir()), git("status", "--porcelain")) == ([repository / ".git"], "")


def test_what_else_is_on_the_branch_stays(repository: Path) -> None:
    (repository / "a folder").mkdir()
    (repository / "a folder/README").write_text("nights")
    git("checkout", "-q", "-b", "nights")
    git("add", ".")
    git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "-m", "a word")
    with pytest.raises(InputError, match=f"The branch nights is checked out in {repository}: name that folder"):
        night.add(Night("a", 1.0, "qualified"), Path("git:nights"))
    git("checkout", "-q", "main")
    assert night.add(Night("a", 1.0, "qualified"), Path("git:nights"))
    assert git("ls-tree", "-r", "--name-only", "nights").splitlines() == ["a folder/README", night.NAME]
    assert git("rev-list", "--count", "nights").strip() == "3"


def test_what_somebody_else_commits_meanwhile_is_not_lost(repository: Path) -> None:
    branch, seen = Branch("nights"), list[str]()

    def add_ours(text: str) -> str:
        seen.append(text)
        if len(seen) == 1:
            branch.change("file", lambda before: f"{before}theirs\n", "theirs")
        return f"{text}ours\n"

    branch.change("file", add_ours, "ours")
    assert (seen, branch.read("file")) == (["", "theirs\n"], "theirs\nours\n")
    assert git("log", "--format=%s", "nights").splitlines() == ["ours", "theirs"]


def test_a_branch_that_takes_no_commit_is_said_to(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.history.branch._PAUSE", 0)
    (repository / ".git/refs/heads/nights.lock").touch()
    with pytest.raises(InputError, match=r"The branch nights takes no commit: .*nights.lock"):
        night.add(Night("a", 1.0, "qualified"), Path("git:nights"))


def test_nights_that_cannot_be_read_are_not_replaced(repository: Path) -> None:
    night.add(Night("a", 1.0, "qualified"), Path("git:nights"))
    blob, tip = git("rev-parse", f"nights:{night.NAME}").strip(), git("rev-parse", "nights")
    (repository / ".git/objects" / blob[:2] / blob[2:]).unlink()
    with pytest.raises(HarnessError):
        night.add(Night("b", 2.0, "qualified"), Path("git:nights"))
    assert git("rev-parse", "nights") == tip


@pytest.mark.parametrize("name", ["", "two..dots", "a b"])
def test_what_is_no_branch_is_refused(repository: Path, name: str) -> None:
    with pytest.raises(InputError, match="names no branch of a repository here"):
        night.read(Path(f"git:{name}"))


def test_where_there_is_no_repository_there_is_no_branch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="names no branch of a repository here"):
        night.add(Night("a", 1.0, "qualified"), Path("git:nights"))


def test_no_nights_are_none(tmp_path: Path) -> None:
    assert list(night.read(tmp_path)) == []
