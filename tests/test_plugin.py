"""The plugin in a run of its own: options that no node could be made from, and tests that say why they did not run."""

import pytest

from harness.lab import brought

_SKIPPING = "-rs"
_IMAGE = """
import pytest

class Image:
    def has_module(self, name):
        return name in {"igb", "e1000e"}

@pytest.fixture(scope="session")
def image():
    return Image()
"""


@pytest.fixture
def run(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeconftest("pytest_plugins = ['harness.plugin']")
    # As in pyproject.toml; a run that ends in its configuration would leave hypothesis half set up in this process.
    pytester.makeini("[pytest]\naddopts = -p no:hypothesispytest\n")
    return pytester


@pytest.mark.parametrize(
    ("options", "why"),
    [
        pytest.param(["--kios-efi", "a"], "--kios-efi and --kios-modules belong together", id="a kernel without modules"),
        pytest.param(["--kios-modules", "a"], "--kios-efi and --kios-modules belong together", id="modules without a kernel"),
        pytest.param(
            ["--kios-image", "a", "--kios-efi", "b", "--kios-modules", "c"], "give either", id="an image and its parts"
        ),
        pytest.param(["--kios-image", "missing.img"], "There is no file missing.img.", id="an image that is missing"),
        pytest.param(["--kios-image", "no.img"], "no.img is not a GPT disk image", id="an image that is none"),
        pytest.param(["--kios-efi", "no.img", "--kios-modules", "."], "no.img is no EFI binary", id="a kernel that is none"),
        pytest.param(["--container", "missing.tar"], "There is no file missing.tar.", id="an archive that is missing"),
        pytest.param(
            ["--container", "."], ". is no regular file: it is a folder. Give an OCI archive", id="a folder for an archive"
        ),
        pytest.param(["--container", "layout"], "layout is an OCI layout: pack it, tar -C layout -cf FILE .", id="a layout"),
        pytest.param(["--page", "missing.md"], "There is no file missing.md.", id="a page that is missing"),
        pytest.param(["--page", "."], ". is no regular file: it is a folder.", id="a folder for a page"),
        pytest.param(["--page", "p" * 300], "cannot be read: File name too long.", id="a page that cannot be read"),
        pytest.param(["--container", "c" * 300], "cannot be read: File name too long.", id="an archive that cannot be read"),
        pytest.param(["--shard", "5/4"], "no shard", id="a shard that is none"),
        pytest.param(["--disk-size", "2X"], "'2X' is no size", id="a disk size that is none"),
        pytest.param(["--disk-size", "1000"], "no whole number of 512-byte blocks", id="half a block"),
        pytest.param(["--memory", "1000000000"], "no whole number of MiB: ask for 953M", id="half a MiB"),
        pytest.param(["--memory", "1.5G"], "'1.5G' is no size", id="a memory size that is none"),
        pytest.param(["--memory", "575M"], "boots from 576 MiB on", id="too little memory"),
        pytest.param(["--memory", "64T"], "never fits here: nodes may take", id="more memory than there is"),
        pytest.param(["--accelerator", "abacus"], "abacus", id="an accelerator that is none"),
        pytest.param(["--image-cache="], "--image-cache: it is empty", id="a cache from a variable that is not set"),
        pytest.param(["--artifacts="], "--artifacts: it is empty", id="artifacts from a variable that is not set"),
        pytest.param(["--shard="], "--shard: it is empty", id="a shard from a variable that is not set"),
        pytest.param(["--disk-size="], "--disk-size: it is empty", id="a disk size from a variable that is not set"),
        pytest.param(["--disk-size", "9" * 5000], "is no size", id="a disk size of many digits"),
        pytest.param(["--disk-size", "9999999T"], "of a disk are too many", id="a disk larger than any"),
    ],
)
def test_options_are_refused_before_anything_runs(run: pytest.Pytester, options: list[str], why: str) -> None:
    run.makepyfile("print('it was collected')")
    run.makefile(".img", no="nothing of the kind")
    (run.mkdir("layout") / "index.json").write_text("{}")
    ended = run.runpytest(*options)
    assert ended.ret is pytest.ExitCode.USAGE_ERROR
    assert why in ended.stderr.str()
    assert "Traceback" not in ended.stderr.str()
    assert "it was collected" not in ended.stdout.str()


def test_a_host_without_a_home_runs_what_needs_no_node(run: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/nonexistent")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    run.makepyfile("def test_it(): pass\ndef test_node(host): pass")
    ended = run.runpytest()
    ended.assert_outcomes(passed=1, errors=1)
    ended.stdout.fnmatch_lines(["There is no home folder for the cache: name one with --image-cache DIR*"])


def test_a_disk_that_is_smaller_than_the_image_is_refused(run: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(brought, "check_file", lambda _: None)
    run.makepyfile("def test_it(): pass")
    run.path.joinpath("whole.img").write_bytes(bytes(2 << 20))
    ended = run.runpytest("--kios-image", "whole.img", "--disk-size", "1M")
    assert ended.ret is pytest.ExitCode.USAGE_ERROR
    ended.stderr.fnmatch_lines(["*--disk-size 1M cannot hold whole.img, which has 2 MiB."])
    run.runpytest("--kios-image", "whole.img", "--disk-size", "2M").assert_outcomes(passed=1)


_OF_LARGE_BLOCKS = """
import pytest
from types import SimpleNamespace

@pytest.fixture(scope="session")
def brought():
    return None

@pytest.fixture(scope="session")
def image():
    return SimpleNamespace(table=SimpleNamespace(sector_size={}))

def test_it(image_4k):
    assert image_4k.table.sector_size == 4096
"""

_TELLS_WHY = """
from harness.scribe import NEVER_PROMISED

def pytest_runtest_teardown(item):
    print(item.stash.get(NEVER_PROMISED, ""))
"""


@pytest.mark.parametrize(("blocks", "ends"), [(512, {"skipped": 1}), (4096, {"passed": 1})])
def test_an_image_of_other_blocks_promises_nothing_of_large_ones(
    run: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, blocks: int, ends: dict[str, int]
) -> None:
    monkeypatch.setattr(brought, "check_file", lambda _: None)
    run.path.joinpath("whole.img").write_bytes(bytes(2 << 20))
    run.makepyfile(_OF_LARGE_BLOCKS.format(blocks))
    run.makeconftest(_TELLS_WHY)
    ended = run.runpytest("--kios-image", "whole.img", "-s")
    ended.assert_outcomes(**ends)
    assert ("elsewhere" in ended.stdout.str()) == (blocks == 512)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param([], id="none"),
        pytest.param(["--kios-efi", "boot.efi", "--kios-modules", "."], id="the parts of an image"),
        pytest.param(["--disk-size", "2g", "--memory", "603979776"], id="sizes"),
    ],
)
def test_other_options_are_taken(run: pytest.Pytester, options: list[str]) -> None:
    run.makepyfile("def test_it(): pass")
    run.makefile(".efi", boot="MZ and so on")
    run.mkdir("6.12").joinpath("modules.dep").touch()
    run.runpytest("--strict-markers", *options).assert_outcomes(passed=1)


def test_an_option_names_a_file_where_it_was_given(run: pytest.Pytester) -> None:
    named = run.makefile(".md", page="# Static pods")
    run.makepyfile(f"from pathlib import Path\ndef test_it(page): assert page == Path({str(named)!r})")
    run.runpytest("--page", "page.md").assert_outcomes(passed=1)


def test_without_a_page_its_tests_say_what_they_lack(run: pytest.Pytester) -> None:
    run.makepyfile("def test_it(page): pass")
    ended = run.runpytest(_SKIPPING)
    ended.assert_outcomes(skipped=1)
    ended.stdout.fnmatch_lines(["*no --page FILE was given"])


@pytest.mark.parametrize(
    ("needed", "lacking"),
    [
        pytest.param(["wireguard"], "wireguard", id="one"),
        pytest.param(["igb", "wireguard", "e1000e", "btrfs"], "wireguard, btrfs", id="those that are lacking"),
    ],
)
def test_a_module_that_is_lacking_skips_with_its_name(run: pytest.Pytester, needed: list[str], lacking: str) -> None:
    run.makepyfile(f"{_IMAGE}\n@pytest.mark.needs_module(*{needed})\ndef test_it(): pass")
    ended = run.runpytest(_SKIPPING)
    ended.assert_outcomes(skipped=1)
    ended.stdout.fnmatch_lines([f"*the image under test has no module {lacking}"])


def test_a_module_that_is_there_skips_nothing(run: pytest.Pytester) -> None:
    run.makepyfile(f"{_IMAGE}\n@pytest.mark.needs_module('igb', 'e1000e')\ndef test_it(): pass")
    run.runpytest("--strict-markers").assert_outcomes(passed=1)


def test_no_image_is_made_for_a_test_that_needs_none(run: pytest.Pytester) -> None:
    run.makepyfile("""
        import pytest

        @pytest.fixture(scope="session")
        def image():
            raise AssertionError("an image was made")

        def test_it(): pass
    """)
    run.runpytest().assert_outcomes(passed=1)


def test_a_node_that_cannot_be_had_is_said_in_one_line(run: pytest.Pytester) -> None:
    run.makepyfile("def test_it(host): pass")
    ended = run.runpytest("--qemu", "missing-qemu")
    ended.assert_outcomes(errors=1)
    ended.stdout.fnmatch_lines(["There is no missing-qemu.*"])
    ended.stdout.no_fnmatch_line("*Error: There is no*")


def test_an_error_of_another_kind_keeps_its_traceback(run: pytest.Pytester) -> None:
    run.makepyfile("import pytest\n@pytest.fixture\ndef broken(): return {}['key']\ndef test_it(broken): pass")
    ended = run.runpytest()
    ended.assert_outcomes(errors=1)
    ended.stdout.fnmatch_lines(["*KeyError: 'key'*"])


def test_a_test_may_ask_what_the_run_has_chosen_of_its_machine(run: pytest.Pytester) -> None:
    run.makepyfile("def test_it(dimensions): assert dimensions == {'nic': 'e1000e', 'cpus': '2', 'start': 'cold'}")
    run.runpytest("--nic", "e1000e", "--cpus", "2", "--cold").assert_outcomes(passed=1)


@pytest.mark.parametrize("mark", ["'e1000e'", "drive='floppy'"])
def test_a_mark_that_is_no_machine_is_the_tests_fault(run: pytest.Pytester, mark: str) -> None:
    run.makepyfile(
        f"""
        from types import SimpleNamespace

        import pytest

        @pytest.fixture
        def node_maker():
            return SimpleNamespace(prepare=None)

        @pytest.mark.machine({mark})
        def test_it(new_node):
            pass
        """
    )
    run.runpytest("-p", "no:cacheprovider").stdout.fnmatch_lines(["*The mark `machine` takes disk_size, memory, nic, cpus*"])
