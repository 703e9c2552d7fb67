"""The second initramfs of a node of generation B: the user's, which is not changed, and the harness's, unpacked over it."""

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from harness.errors import InputError
from harness.storage import cpio, modules
from harness.storage.modules import Modules

LOADED = ("initrd=\\user", "initrd=\\e2e")
"""Load options by which the EFI stub joins the user's initramfs and the harness's, both files on the ESP."""
OWN_FILE = "e2e"
"""The name of the harness's on the ESP; the user's is `user`."""
STORAGE_CONF = PurePosixPath("/etc/containers/storage.conf")
OWN_STORE = PurePosixPath("/var/lib/kios-e2e/containers")
"""The store with the container images that the harness brings."""

_OF_PODS = (".yaml", ".yml", ".json")
_IMAGES = PurePosixPath("overlay-images/images.json")
_MODULES = PurePosixPath("/lib/modules")
_STORES = re.compile(r"^(\s*additionalimagestores\s*=\s*\[)", re.MULTILINE)
_OPTIONS = re.compile(r"^\[storage\.options\][ \t]*$", re.MULTILINE)
_BARE = '[storage]\ndriver = "overlay"\nrunroot = "/run/containers/storage"\ngraphroot = "/var/lib/containers/storage"\n'
# Folders of generation A's data partition, and where they are at run time (kiOS contract): a node of B has them only there.
_LAYOUT = {
    "/meta/etc": "/etc",
    "/meta/log": "/var/log",
    "/data/oci": "/var/lib/containers/storage",
    "/data/pods": "/var/lib/kubelet/pods",
    "/modules": "/lib/modules",
}


@dataclass(frozen=True)
class Initramfs:
    """The user's: where it is, and those of its files on which a node's configuration depends.

    It is unpacked over what is `built_in`. `loaded_as` is the last file on the ESP that a user's boot loader passes to the
    kernel; if empty, a boot entry of the harness's has the kernel load it. `kernel_arguments` are those that came with it.
    """

    path: Path
    files: Mapping[PurePosixPath, bytes]
    built_in: Mapping[PurePosixPath, bytes] = field(default_factory=dict)
    loaded_as: str = ""
    kernel_arguments: tuple[str, ...] = ()

    @classmethod
    def read(cls, path: Path, built_in: Mapping[PurePosixPath, bytes] | None = None, loaded_as: str = "") -> "Initramfs":
        """Reads it; raises InputError for one that kiOS's kernel cannot unpack."""

        def is_wanted(file: PurePosixPath) -> bool:
            return is_configuration(file) or _is_of_containers_or_modules(file)

        return cls(path, cpio.read(path, is_wanted), {} if built_in is None else built_in, loaded_as)

    def file_if_there(self, path: PurePosixPath) -> bytes | None:
        """A file by its path on the data partition of generation A, None if there is none."""
        return self._file(on_node(path))

    def folder(self, path: PurePosixPath) -> list[str]:
        """The sorted names of the known files in a folder, by its path on the data partition."""
        return sorted({file.name for file in (*self.files, *self.built_in) if file.parent == on_node(path)})

    def modules(self) -> Modules:
        """The kernel modules in it."""
        listed = {path.parent.name: text for path, text in self.files.items() if _is_modules_dep(path)}
        return {version: modules.names_in(text) for version, text in listed.items()}

    def image_names(self) -> frozenset[str]:
        """The names of the container images in the stores of its `storage.conf`; raises InputError for a broken list."""
        names: set[str] = set()
        for store in self._stores():
            text = self.files.get(store / _IMAGES, b"[]")
            try:
                names.update(name for record in json.loads(text) for name in record.get("names") or ())
            except (ValueError, AttributeError, TypeError) as broken:
                raise InputError(f"{self.path}: {store / _IMAGES} is no list of container images.") from broken
        return frozenset(names)

    def storage_conf(self) -> bytes:
        """Its `storage.conf`, with the harness's store added before its own stores."""
        text = (self._file(STORAGE_CONF) or _BARE.encode()).decode(errors="replace")
        own = f'"{OWN_STORE}"'
        if _STORES.search(text):
            merged = _STORES.sub(lambda found: f"{found[1]}{own}, ", text, count=1)
        elif _OPTIONS.search(text):
            merged = _OPTIONS.sub(f"[storage.options]\nadditionalimagestores = [{own}]", text, count=1)
        else:
            merged = f"{text.rstrip()}\n\n[storage.options]\nadditionalimagestores = [{own}]\n"
        stores = self._stores()
        try:
            added = list(_stores_in(merged)) == [OWN_STORE, *stores]
        except ValueError:
            added = False
        if not added:
            raise InputError(f"{self.path}: a store cannot be added to its {STORAGE_CONF}: write [storage.options] as a table.")
        return merged.encode()

    def _file(self, path: PurePosixPath) -> bytes | None:
        own = self.files.get(path)
        return self.built_in.get(path) if own is None else own

    def _stores(self) -> Sequence[PurePosixPath]:
        try:
            return _stores_in((self._file(STORAGE_CONF) or b"").decode(errors="replace"))
        except ValueError as broken:
            raise InputError(f"{self.path}: its {STORAGE_CONF} cannot be read: {broken}.") from broken


def on_node(path: PurePosixPath) -> PurePosixPath:
    """The run-time path of a file on the data partition; any other path is returned unchanged."""
    for there, here in _LAYOUT.items():
        if path.is_relative_to(there):
            return PurePosixPath(here) / path.relative_to(there)
    return path


def on_data_partition(path: PurePosixPath) -> PurePosixPath:
    """The path on the data partition of a file below /etc on the node; any other path is returned unchanged."""
    return PurePosixPath("/meta/etc") / path.relative_to("/etc") if path.is_relative_to("/etc") else path


def _stores_in(storage_conf: str) -> list[PurePosixPath]:
    """The additional stores that a storage.conf names; raises ValueError for anything else."""
    options: object = tomllib.loads(storage_conf)
    for table in ("storage", "options"):
        options = options.get(table, {}) if isinstance(options, dict) else None
    stores = options.get("additionalimagestores", []) if isinstance(options, dict) else None
    if not isinstance(stores, list) or not all(isinstance(store, str) for store in stores):
        raise ValueError("its additionalimagestores are no list of paths")
    return list(map(PurePosixPath, stores))


def is_configuration(path: PurePosixPath) -> bool:
    """Whether a file of an initramfs is one that the harness merges with its own or might replace.

    Static pods are where the kubelet's configuration says (Kubernetes, staticPodPath), in files with these endings.
    """
    if path.is_relative_to("/etc") and path.suffix in _OF_PODS:
        return True
    return path in (STORAGE_CONF, PurePosixPath("/etc/hosts"), PurePosixPath("/etc/hostname")) or path.is_relative_to(
        "/etc/kubernetes"
    )


def _is_of_containers_or_modules(path: PurePosixPath) -> bool:
    return not path.is_relative_to("/etc") and (_is_modules_dep(path) or path.parts[-2:] == _IMAGES.parts)


def _is_modules_dep(path: PurePosixPath) -> bool:
    return path.name == "modules.dep" and path.parent.parent == _MODULES
