"""What an OCI archive holds, as `python -m images describe` tells it: the archive itself is read there only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.containers import reference
from harness.containers.reference import Reference


@dataclass(frozen=True)
class Blob:
    """Bytes in an archive: `offset` and `size` in bytes."""

    offset: int
    size: int
    media_type: str


@dataclass(frozen=True)
class ArchivedImage:
    """A container image in an archive, its names in full.

    `blobs` are by their digests; of them the `documents` lead to the image, what its names stand for first. `unpacked` is how
    many bytes its `layers` take in a store; None if they are too many for one.
    """

    archive: Path
    names: Sequence[Reference]
    documents: Sequence[str]
    layers: int
    unpacked: int | None
    blobs: Mapping[str, Blob]

    @classmethod
    def of(cls, archive: Path, told: Mapping[str, Any]) -> Sequence["ArchivedImage"]:
        """The images of an archive, from what was told of it; raises InputError for a name that is none."""
        return [
            cls(
                archive.absolute(),
                [reference.parse(name) for name in image["names"]],
                image["documents"],
                image["layers"],
                image["unpacked"],
                {digest: Blob(*blob) for digest, blob in image["blobs"].items()},
            )
            for image in told["images"]
        ]

    def is_called(self, name: Reference) -> bool:
        """Says whether a node means this image by a name."""
        if not name.digest:
            return name in self.names
        return name.digest in self.documents and name.repository in {each.repository for each in self.names}
