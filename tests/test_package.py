"""The package as a user installs it: everything that the checkout has, and their own repository runs with it."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

_ROOT = Path(__file__).parent.parent
_DATA_TYPE = "97aac693-d920-465a-94fe-eb59fc86dfaa"
_SCENARIO = """
from pathlib import Path

import pytest

from harness.lab.maker import NewNode
from harness.lab.stock import Stock, Supplies
from harness.storage.disk import Disk
from harness.verdict.timeline import KERNEL


class Nothing(Stock):
    def supply(self, disk, names, served):
        return Supplies({})


@pytest.fixture
def stock(tmp_path: Path) -> Stock:
    return Nothing(lambda: tmp_path, (), tmp_path)


def test_boots(new_node: NewNode, image: Disk) -> None:
    node = new_node(image, [])
    node.start()
    node.wait(KERNEL)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built of a copy: a build leaves its own folders beside the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "checkout"
    copy.mkdir()
    for name in ("harness", "images"):
        shutil.copytree(_ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "LICENSE"):
        shutil.copy(_ROOT / name, copy)
    build = f"from setuptools.build_meta import build_wheel; build_wheel({str(folder)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=copy, check=True, capture_output=True, timeout=120)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the wheel in it, and this one's packages behind it."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    site = next(folder.glob("lib/python3*/site-packages"))
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(site)
    (site / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin/python"


def run(python: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs the Python in a folder, with a cache of its own: nodes of other runs on this host are none of its business."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "PYTHON"))}
    clean["XDG_CACHE_HOME"] = str(folder.parent / "cache")
    return subprocess.run([python, *words], cwd=folder, env=clean, capture_output=True, text=True, timeout=120, check=False)


def test_every_file_of_the_sources_is_in_the_wheel(wheel: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "harness", "images"], cwd=_ROOT, capture_output=True, check=True, text=True
    )
    with zipfile.ZipFile(wheel) as packed:
        assert set(listed.stdout.split("\0")) - {""} <= set(packed.namelist())


def test_images_is_a_program_of_the_installed_package(python: Path, tmp_path: Path) -> None:
    done = run(python, tmp_path, "-c", "import images; print(images.__file__)")
    assert Path(done.stdout.strip()).is_relative_to(python.parents[1]), done.stderr
    assert "Builds the kiOS-compatible reference node image" in run(python, tmp_path, "-m", "images", "--help").stdout


def test_the_command_runs_from_the_installed_package(python: Path, tmp_path: Path) -> None:
    manifest = _ROOT / "scenarios/manifests/node.yaml"
    done = run(python, tmp_path, "-m", "harness", "check", "--no-build", str(manifest))
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_doctor_examines_the_host_from_the_installed_package(python: Path, tmp_path: Path) -> None:
    done = run(python, tmp_path, "-m", "harness", "doctor")
    found = {line[7:].partition(":")[0]: line for line in done.stdout.splitlines()}
    assert {"qemu-img", "disk", "memory and CPUs", "reference image"} <= found.keys(), done.stdout + done.stderr
    assert found["reference image"].startswith("LACKS")
    assert done.stdout.endswith("->  python -m images build\n")
    assert done.returncode == 1


def test_boot_says_what_is_wrong_with_an_image(python: Path, tmp_path: Path) -> None:
    (tmp_path / "no.img").write_bytes(bytes(1 << 20))
    done = run(python, tmp_path, "-m", "harness", "boot", "--kios-image", "no.img")
    assert done.returncode == 1
    assert done.stderr.startswith("kios-e2e: ")
    assert "no.img" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unrelated_run_is_left_alone(python: Path, tmp_path: Path) -> None:
    (tmp_path / "test_other.py").write_text("def test_nothing():\n    pass\n")
    for options in ([], ["-p", "no:harness.plugin"]):
        done = run(python, tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options)
        assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "__pycache__") == ["test_other.py"]


@pytest.mark.parametrize("conftest", ["", 'pytest_plugins = ["harness.plugin"]\n'], ids=["without", "with"])
def test_a_users_own_repository_reaches_the_firmware(python: Path, tmp_path: Path, conftest: str) -> None:
    """With a conftest.py that names the plugin too, as the checkout's does, it is loaded once."""
    if not Path("/usr/share/qemu/firmware").is_dir():
        pytest.skip("no UEFI firmware is installed: setup/debian.sh test")
    image = tmp_path / "blank.img"
    image.touch()
    os.truncate(image, 32 << 20)
    layout = f"label: gpt\nstart=2048, size=4096, type=U\nstart=8192, size=40960, type={_DATA_TYPE}\n"
    subprocess.run(["/sbin/sfdisk", "-q", image], input=layout.encode(), check=True)
    subprocess.run(["/sbin/mke2fs", "-q", "-t", "ext4", "-E", f"offset={8192 * 512}", image, "20M"], check=True)
    (tmp_path / "test_mine.py").write_text(_SCENARIO)
    if conftest:
        (tmp_path / "conftest.py").write_text(conftest)
    done = run(python, tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--accelerator=tcg", f"--kios-image={image}")
    assert "the firmware found nothing to boot" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 1
