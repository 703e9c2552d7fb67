"""The image that a broken registry is asked for is one that a whole one serves."""

from pathlib import Path

from faults import pulled
from harness.lab.stock import Stock


def test_it_can_be_read_and_is_called_by_its_name(tmp_path: Path) -> None:
    archive = pulled.archive(tmp_path / "pulled.tar")
    [image] = Stock(lambda: tmp_path, (archive,), tmp_path)._named_images()
    assert [str(name) for name in image.names] == [pulled.NAME]
    assert image.layers == 1
