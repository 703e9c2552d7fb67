"""What the agent tells of a container that ended: the last line of its log that says anything."""

import shutil
import subprocess
from pathlib import Path

import pytest

_HERE = Path(__file__).parent
_SOURCES = Path(__file__).parents[2] / "images/containers/console/agent"
_STAMP = "2026-01-02T03:04:05.678901234+00:00"
pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc, of which the agent is made")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("words") / "words"
    argv: list[str | Path] = ["gcc", "-std=gnu11", "-Wall", "-Wextra", "-Werror", f"-I{_SOURCES}", "-o", made]
    subprocess.run([*argv, _SOURCES / "words.c", _HERE / "last_words.c"], check=True)
    return made


def told(program: Path, log: Path) -> str:
    return subprocess.run([program, log], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    ("pieces", "words"),
    [
        (["stderr F no such disk"], "no such disk"),
        # As resize2fs writes: pieces on stderr, and a line on stdout between them.
        (["stderr P resize2fs", "stdout F a disk", "stderr P : ", "stderr F too large"], "resize2fs: too large"),
        (["stderr F too many groups", "stderr F ", "stdout F \t \r"], "too many groups"),
        (["stderr F one", "stderr P an end without a line feed"], "an end without a line feed"),
        (["stdout F " + "x" * 2000], "x" * 511),
        (["stdout F " + "y" * 8000, "stdout F the last"], "the last"),
        (["stdout F a\0b"], "a b"),
        (["hello", "stdout", "stdout F"], ""),
        ([], ""),
    ],
)
def test_the_last_line_that_says_anything_is_told(program: Path, tmp_path: Path, pieces: list[str], words: str) -> None:
    log = tmp_path / "0.log"
    log.write_text("".join(f"{_STAMP} {piece}\n" for piece in pieces))
    assert told(program, log) == words


def test_without_a_log_there_are_no_words(program: Path, tmp_path: Path) -> None:
    assert told(program, tmp_path / "none") == ""
