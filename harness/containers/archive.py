"""The content of an OCI archive, as told by `python -m images describe`, which alone reads the archive itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.containers import reference
from harness.containers.reference import Reference


@dataclass(frozen=True)
class Blob:
    """A range of bytes in an archive; `offset` and `size` are in bytes."""

    offset: int
    size: int
    media_type: str


@dataclass(frozen=True)
class ArchivedImage:
    """A container image in an archive, with its full names.

    `blobs` has the blobs by digest. `documents` are the digests of those that lead to the image, first the one that its names
    refer to. `unpacked` is the number of bytes that its `layers` take in a store; None if they are too large for one.
    """

    archive: Path
    names: Sequence[Reference]
    documents: Sequence[str]
    layers: int
    unpacked: int | None
    blobs: Mapping[str, Blob]

    @classmethod
    def of(cls, archive: Path, told: Mapping[str, Any]) -> Sequence["ArchivedImage"]:
        """The images of an archive, from its description; raises InputError for an invalid name."""
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
        """Whether a node means this image by a name."""
        if not name.digest:
            return name in self.names
        return name.digest in self.documents and name.repository in {each.repository for each in self.names}
