"""What the tests of manifests share."""

from pathlib import Path

import pytest

from tests.manifests.kettle_page import PAGE


@pytest.fixture
def page(tmp_path: Path) -> Path:
    file = tmp_path / "page.md"
    file.write_text(PAGE)
    return file
