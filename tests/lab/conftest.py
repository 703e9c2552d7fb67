"""What the tests of the lab share."""

import shutil
from pathlib import Path

import pytest

from harness import tools
from harness.lab import builder, evidence
from harness.lab.stock import PAUSE, Stock
from tests.lab.small_archives import ONE, TWO, make_archive, make_store
from tests.lab.small_images import make_disk


@pytest.fixture
def looks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the looks at a CPU's registers is no time."""
    monkeypatch.setattr(evidence, "_LOOK_SECONDS", 0.0)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The names of the archives of which stores were made, in place of `python -m images`, by the store."""
    asked: list[list[str]] = []
    builder_ask = builder.ask

    def ask(command: str, *arguments: str | Path) -> str:
        if command == "describe":
            return builder_ask(command, *arguments)
        *archives, option, output = arguments
        assert (command, option) == ("store", "--output")
        make_store([Path(file) for file in archives], Path(output))
        asked.append([Path(file).name for file in archives])
        return str(output)

    monkeypatch.setattr(builder, "ask", ask)
    return asked


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    """The folder of a reference image with the archives of PAUSE, ONE and TWO."""
    folder = tmp_path / "reference"
    for name, image in {"pause": PAUSE, "one": ONE, "two": TWO}.items():
        make_archive(folder / "containers" / f"{name}.tar", image, name.encode())
    return folder


@pytest.fixture
def archives(reference: Path) -> dict[str, Path]:
    """Its archives, by their names without the ending."""
    return {file.stem: file for file in (reference / "containers").glob("*.tar")}


@pytest.fixture
def stocked(reference: Path, tmp_path: Path, asked: list[list[str]]) -> Stock:
    return Stock(lambda: reference, (), tmp_path / "stores")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A raw disk, made once; no test may be handed this file itself."""
    return make_disk(tmp_path_factory.mktemp("made") / "kios.img")


@pytest.fixture
def raw(made: Path, tmp_path: Path) -> Path:
    """A raw disk that cannot be written to."""
    raw = Path(shutil.copyfile(made, tmp_path / "kios.img"))
    raw.chmod(0o400)
    return raw


@pytest.fixture
def qcow2(raw: Path, tmp_path: Path) -> Path:
    """The raw disk as a qcow2 one."""
    tools.run("qemu-img", "convert", "-q", "-f", "raw", "-O", "qcow2", raw, tmp_path / "kios.qcow2")
    return tmp_path / "kios.qcow2"
