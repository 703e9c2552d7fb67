"""Container images for a node whose own image lacks them: added to the store that CRI-O finds on its data partition.

The store is that of containers/storage with the overlay driver: a list of images, a list of layers, and folders for both.
`python -m images store` makes one from OCI archives; here it is added to the one on a disk.
"""

import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from harness.containers.reference import Reference, parse
from harness.errors import HarnessError, InputError
from harness.storage.disk import Disk
from harness.storage.overlay import Entry, File, Folder, Link, Tree

STORE = PurePosixPath("/data/oci")
"""The path of the store on the data partition (kiOS contract)."""

_IMAGES = "overlay-images/images.json"
_LAYERS = "overlay-layers/layers.json"

_Record = dict[str, Any]
_Check = Callable[[Any], bool]


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _maps_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_text, value.values()))


# The fields of a record that are read here, and their types.
_FIELDS: Mapping[str, Mapping[str, _Check]] = {
    _IMAGES: {"id": _is_text, "names": _are_texts, "layer": _is_text, "digest": _is_text, "big-data-digests": _maps_texts},
    _LAYERS: {"id": _is_text, "parent": _is_text},
}


@dataclass(frozen=True)
class _Lists:
    """The lists of a store's images and layers (containers/storage, images.go and layers.go)."""

    images: Sequence[_Record]
    layers: Sequence[_Record]


def missing(disk: Disk, names: Iterable[str]) -> list[str]:
    """Returns those of the `names`, unchanged and each once, for which the disk's store has no image.

    Raises InputError if one of them is not a valid name, or if the store cannot be read.
    """
    images = _on_disk(disk).images
    return [name for name in dict.fromkeys(names) if not any(_is_called(image, parse(name)) for image in images)]


def files(disk: Disk, store: Path, names: Iterable[str]) -> Tree:
    """Returns the files that add the images `names` of `store` to the store on the data partition.

    What the disk has is not changed: a name of one of its images is not given to another image, and an image of `store` whose
    names are all taken is left out. Empty if no image is left. Raises InputError if the disk's store cannot be read,
    HarnessError if `store` cannot.
    """
    old, new = _on_disk(disk), _in_folder(store)
    wanted = [parse(name) for name in names]
    images = _merged(old.images, [image for image in new.images if any(_is_called(image, name) for name in wanted)])
    if images == old.images:
        return {}
    there = {record["id"] for record in (*old.images, *old.layers)}
    added = [image for image in images if image["id"] not in there]
    layers = [layer for layer in _layers_of(added, new.layers, store) if layer["id"] not in there]
    tree: dict[PurePosixPath, Entry] = {
        STORE / _IMAGES: json.dumps(images).encode(),
        STORE / _LAYERS: json.dumps([*old.layers, *layers]).encode(),
    }
    for image in added:
        tree.update(_tree(store, store / "overlay-images" / image["id"]))
    for layer in layers:
        tree.update(_tree(store, store / "overlay" / layer["id"]))
        tree.update(_short_links(store, layer["id"]))
    return tree


def whole(store: Path, at: PurePosixPath) -> Tree:
    """Returns all of `store` as files at another place, as a separate store that storage.conf has to name."""
    return {at / path.relative_to(store).as_posix(): _entry(path) for path in _below(store)}


def _merged(old: Sequence[_Record], new: Iterable[_Record]) -> Sequence[_Record]:
    """The `old` images, and those `new` ones that have a name which is still free; images with the same id are joined."""
    taken = {name for image in old for name in _names(image)}
    merged = {image["id"]: image for image in old}
    for image in new:
        if names := [name for name in _names(image) if name not in taken]:
            known = merged.get(image["id"], {**image, "names": []})
            merged[image["id"]] = {**known, "names": [*_names(known), *names]}
    return list(merged.values())


def _layers_of(images: Iterable[_Record], layers: Iterable[_Record], store: Path) -> Sequence[_Record]:
    """The layers of `images` and those beneath them, each once, in the order of `layers`."""
    by_id = {layer["id"]: layer for layer in layers}
    needed: set[str] = set()
    for image in images:
        identity = image.get("layer")
        while identity and identity not in needed:
            if identity not in by_id:
                raise _unreadable(store, f"it has no layer {identity}, which {image['id']} is made of")
            needed.add(identity)
            identity = by_id[identity].get("parent")
    return [layer for identity, layer in by_id.items() if identity in needed]


def _is_called(image: _Record, reference: Reference) -> bool:
    """Whether CRI-O finds the image by a name (containers/image, storage_reference.go, `resolveImage`)."""
    called = list(_references(image))
    if reference in called:
        return True
    return reference.digest in _digests(image) and reference.repository in {each.repository for each in called}


def _references(image: _Record) -> Iterator[Reference]:
    for name in _names(image):
        # The library does not find an image by an invalid name either.
        with suppress(InputError):
            yield parse(name)


def _names(image: _Record) -> Sequence[str]:
    return image.get("names") or []


def _digests(image: _Record) -> Iterator[str]:
    """The digests of an image's manifests."""
    yield image.get("digest") or ""
    for name, digest in (image.get("big-data-digests") or {}).items():
        if name.startswith("manifest"):
            yield digest


def _on_disk(disk: Disk) -> _Lists:
    try:
        return _Lists(*(_records(disk.file_if_there(STORE / name), name, known) for name, known in _FIELDS.items()))
    except _StoreError as flaw:
        raise InputError(
            f"The store {STORE} on the data partition of {disk.path}: {flaw}. Make it again: "
            "python -m images store makes one of OCI archives."
        ) from flaw


def _in_folder(store: Path) -> _Lists:
    try:
        return _Lists(*(_records((store / name).read_bytes(), name, known) for name, known in _FIELDS.items()))
    except OSError as error:
        raise _unreadable(store, f"{error.strerror}: {error.filename}") from error
    except _StoreError as flaw:
        raise _unreadable(store, str(flaw)) from flaw


class _StoreError(Exception):
    """A list of a store cannot be read; in words, why."""


def _records(text: bytes | None, name: str, fields: Mapping[str, _Check]) -> Sequence[_Record]:
    """Reads a list of images or layers; like containers/storage, takes a missing file as an empty list."""
    try:
        records = json.loads(text) if text else []
    except (ValueError, RecursionError) as error:
        raise _StoreError(f"{name} is no JSON, {error}") from error
    if not isinstance(records, list) or not all(isinstance(record, dict) and record.get("id") for record in records):
        raise _StoreError(f"{name} is no list of records with an id")
    for record in records:
        for field, holds in fields.items():
            # Go reads null as nothing.
            if record.get(field) is not None and not holds(record[field]):
                raise _StoreError(f"{name} has a record whose {field} is not what it has to be: {record[field]!r:.100}")
    return records


def _unreadable(store: Path, why: str) -> HarnessError:
    return HarnessError(f"The store {store} cannot be read ({why}): remove it, and it is made again")


def _tree(store: Path, folder: Path) -> Iterator[tuple[PurePosixPath, Entry]]:
    """A folder of the store with all its content, by path on the data partition."""
    if not folder.is_dir():
        raise _unreadable(store, f"it has no folder {folder.relative_to(store)}")
    for path in (folder, *_below(folder)):
        yield STORE / path.relative_to(store).as_posix(), _entry(path)


def _below(folder: Path) -> list[Path]:
    """Everything below a folder, sorted, without following links, some of which crash `Path.rglob` (Python 3.11.2)."""
    return sorted(Path(place, name) for place, folders, files in os.walk(folder) for name in (*folders, *files))


def _short_links(store: Path, layer: str) -> Iterator[tuple[PurePosixPath, Entry]]:
    """The short links by which the overlay driver names a layer's folder in mount options, whose length is limited."""
    for path in sorted((store / "overlay/l").iterdir()):
        if path.is_symlink() and path.readlink().parts[-2:-1] == (layer,):
            yield STORE / path.relative_to(store).as_posix(), _entry(path)


def _entry(path: Path) -> Entry:
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        return Link(str(path.readlink()))
    if stat.S_ISDIR(mode):
        return Folder(stat.S_IMODE(mode))
    if stat.S_ISREG(mode):
        return File(path.read_bytes(), stat.S_IMODE(mode))
    raise HarnessError(f"{path} is neither a file nor a folder nor a link: leave it out of the store")
