"""The fixtures that give what is under test: the image, what a user brought, the page; and which tests it does not support."""

import contextlib
import hashlib
from pathlib import Path

import pytest

from harness import options
from harness.errors import HarnessError, InputError
from harness.journal.entry import Fact, Figure
from harness.lab import builder
from harness.lab.brought import Brought
from harness.lab.generation import THE_REFERENCE
from harness.lab.wanted import LARGE_BLOCKS
from harness.options import cache_of, wanted
from harness.scribe import NEVER_PROMISED, SCRIBE
from harness.storage import esp
from harness.storage.disk import Disk
from harness.summary import tell


@pytest.fixture(scope="session")
def node_image(pytestconfig: pytest.Config) -> Path:
    """The folder of the reference node image, built now if it is missing."""
    capture = pytestconfig.pluginmanager.get_plugin("capturemanager")
    # A first build takes many minutes, and shows its progress.
    with capture.global_and_fixture_disabled() if capture else contextlib.nullcontext():
        return builder.reference_image(cache_of(pytestconfig))


@pytest.fixture(scope="session")
def brought(pytestconfig: pytest.Config) -> Brought | None:
    """What the user brought to test; None for the reference image."""
    found = wanted(pytestconfig).bring(cache_of(pytestconfig))
    if found is None:
        return None
    tell(pytestconfig, found.belief.words())
    for name, digest in found.digests.items():
        tell(pytestconfig, f"under test: {name}, sha256 {digest}")
        pytestconfig.stash[SCRIBE].note(Fact("under test", name, digest))
    return found


@pytest.fixture(scope="session")
def image(request: pytest.FixtureRequest, brought: Brought | None) -> Disk:
    """The disk image under test."""
    scribe = request.config.stash[SCRIBE]
    if brought is None:
        digests, parts = builder.contents_of(request.getfixturevalue("node_image"))
        for name, digest in digests.items():
            scribe.note(Fact("under test", name, digest))
        for part, version in parts.items():
            scribe.note(Fact("inside", part, version))
    else:
        digests = brought.digests
    try:
        tested = wanted(request.config).tested(brought, lambda: request.getfixturevalue("node_image"))
    except InputError as unfit:
        if brought is None:
            raise
        pytest.skip(str(unfit))
    for name, digest in options.tested_beside(request.config).items():
        scribe.note(Fact("under test", name, digest))
    # Of one without an EFI binary, the tests say so.
    with contextlib.suppress(HarnessError):
        scribe.note(Fact("inside", "EFI binary, SHA-256", hashlib.sha256(esp.loader(tested)).hexdigest()))
    # A disk that was made from what was brought has the digests of its parts.
    own = tested.path.name
    for name, digest in ({own: digests[own]} if own in digests else digests).items():
        scribe.note(Fact("image", name, digest))
        if brought is None:
            tell(request.config, f"under test: the reference image, {name}, sha256 {digest}")
    scribe.note(Figure(request.node.name, "image size", tested.size / (1 << 20), "MiB"))
    return tested


@pytest.fixture
def image_4k(request: pytest.FixtureRequest, brought: Brought | None) -> Disk:
    """What is under test, on a disk of 4096-byte blocks; an image that a user brought has blocks of one size.

    Skips if that is another one, of which no test of large blocks is a promise.
    """
    if request.config.getoption("kios_image"):
        whole: Disk = request.getfixturevalue("image")
        if whole.table.sector_size == LARGE_BLOCKS:
            return whole
        request.node.stash[NEVER_PROMISED] = "elsewhere"
        pytest.skip(f"the image is made for blocks of {whole.table.sector_size} bytes")
    large = wanted(request.config).of_large_blocks()
    found = large.bring(cache_of(request.config))
    return large.tested(found, lambda: request.getfixturevalue("node_image"))


@pytest.fixture(scope="session")
def page(pytestconfig: pytest.Config) -> Path:
    """The documentation page to run."""
    named: Path | None = pytestconfig.getoption("page")
    if named is None:
        pytest.skip("no --page FILE was given")
    return named.absolute()


@pytest.fixture(autouse=True)
def _supported(request: pytest.FixtureRequest) -> None:
    """Skips a test that the image under test does not support, with the reason."""
    for mark in request.node.iter_markers("needs_module"):
        under_test = request.getfixturevalue("brought") or request.getfixturevalue("image")
        lacking = [name for name in mark.args if not under_test.has_module(name)]
        if lacking:
            pytest.skip(f"the image under test has no module {', '.join(lacking)}")
    for mark in request.node.iter_markers("generation"):
        brought = request.getfixturevalue("brought")
        generation = brought.belief.generation if brought else THE_REFERENCE.generation
        if generation in mark.args:
            continue
        if cannot := mark.kwargs.get("cannot"):
            tell(request.config, f"a promise that generation {generation.upper()} cannot keep: {request.node.nodeid}: {cannot}")
        request.node.stash[NEVER_PROMISED] = "known" if cannot else "elsewhere"
        pytest.skip(cannot or f"holds for generation {' and '.join(mark.args).upper()} only")
