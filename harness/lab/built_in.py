"""The configuration that is built into kiOS's EFI binary, beneath the user's own."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from harness.errors import HarnessError, NodeFailure
from harness.escape import shown
from harness.lab.cache import NotKept, hold
from harness.lab.initramfs import is_configuration, on_node
from harness.storage import cpio, kernel
from harness.storage.disk import Disk
from harness.storage.kernel import KernelError

# The version of `is_configuration`: what was kept by another version is looked for again.
_RULE = 2


class BuiltIn(Mapping[PurePosixPath, bytes]):
    """Files of the initramfs inside an EFI binary, by path; read when the first is asked for, which takes seconds.

    If they cannot be read there are none, and a warning says that kiOS's own are assumed.
    """

    def __init__(self, path: Path, read: Callable[[], bytes], kept: Path) -> None:
        """`read` returns the EFI binary, which is in, or is, the file `path`; what is found is kept beside the file `kept`."""
        self._path, self._read = path, read
        self._kept = kept.with_name(f"{kept.name}.built-in-{_RULE}")

    def __getitem__(self, path: PurePosixPath) -> bytes:
        return self._files[path]

    def __iter__(self) -> Iterator[PurePosixPath]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    @cached_property
    def _files(self) -> Mapping[PurePosixPath, bytes]:
        try:
            return self._found()
        except (KernelError, HarnessError, OSError) as unread:
            warnings.warn(
                f"the EFI binary of {self._path} cannot be looked into ({shown(str(unread))}): its kubelet's config.yaml and "
                "its hosts, if its data partition or initramfs has none, are taken to be kiOS's own",
                stacklevel=2,
            )
            return {}

    def _found(self) -> Mapping[PurePosixPath, bytes]:
        try:
            return cpio.read(hold(self._kept, Path.exists, self._keep), is_configuration)
        except NotKept:
            return kernel.initramfs_in(self._read(), is_configuration)

    def _keep(self, place: Path) -> None:
        place.write_bytes(cpio.archive(kernel.initramfs_in(self._read(), is_configuration)))


@dataclass(frozen=True)
class Overlaid:
    """The own files of an image of generation A: those of its data partition over those that are built in."""

    disk: Disk
    built_in: Mapping[PurePosixPath, bytes]

    @property
    def path(self) -> Path:
        """The image."""
        return self.disk.path

    def file_if_there(self, path: PurePosixPath) -> bytes | None:
        """A file by its path on the data partition, None if there is none."""
        own = self.disk.file_if_there(path)
        return self.built_in.get(on_node(path)) if own is None else own

    def folder(self, path: PurePosixPath) -> list[str]:
        """The names in a folder by its path on the data partition, sorted."""
        try:
            own = self.disk.folder(path)
        except NodeFailure:
            own = []
        return sorted({*own, *(file.name for file in self.built_in if file.parent == on_node(path))})
