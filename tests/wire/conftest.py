"""What the tests of the wire share."""

from pathlib import Path

import pytest


@pytest.fixture
def pcap(tmp_path: Path) -> Path:
    return tmp_path / "eth0.pcap"
