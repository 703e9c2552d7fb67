"""OCI archives from elsewhere, read into images of one layer each: what `skopeo copy ... oci-archive:FILE:NAME` writes.

An archive is a tar of an OCI layout (OCI image specification 1.1, image-layout, image-index, manifest, config and layer).
Several layers become one: between layers, containers/storage needs a character device for what one of them deletes, which
nobody but root can make. Such an image has a configuration and a digest of its own; one of a single layer keeps both.
"""

import gzip
import io
import json
import os
import re
import shutil
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from images import oci
from images.cache import say
from images.errors import BuildError

# containerd's has the whole name where the specification's has only the tag.
_NAME_ANNOTATIONS = ("io.containerd.image.name", "org.opencontainers.image.ref.name")
_NAME = re.compile(r"(localhost|[^/]*[.:][^/]*)/([a-z0-9._/-]+):([\w.-]{1,128})", re.ASCII)
_PLATFORM = {"os": "linux", "architecture": "amd64"}
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_DELETED, _OPAQUE = ".wh.", ".wh..wh..opq"
_AGAIN = "Make it again: skopeo copy SOURCE oci-archive:FILE:HOST/PATH:TAG"

_Parts = tuple[str, ...]


class _ArchiveError(Exception):
    """What an archive says of itself and what it holds do not fit."""


def read(archive: Path, work: Path) -> list[oci.Built]:
    """Returns the images of an archive, with their files in folders under `work`, all owned by root.

    What belongs to other users, devices and extended attributes do not survive that; it is said which. Every file and
    folder can be read by who unpacks it. BuildError, which names the archive, if it is damaged, its image has no full
    name, is not for linux/amd64, or has a layer that is compressed with zstd.
    """
    try:
        with tarfile.open(archive, "r:") as tar:
            layout = _Layout(archive, {str(PurePosixPath(entry.name)): entry for entry in tar if entry.isreg()}, tar)
            return [
                _image(layout, names, manifest, work / f"{number}") for number, (manifest, names) in enumerate(_named(layout))
            ]
    except (tarfile.TarError, _ArchiveError) as broken:
        raise BuildError(f"{archive} is no whole OCI archive: {broken}.", _AGAIN) from broken
    except (AttributeError, KeyError, TypeError, ValueError) as odd:
        raise BuildError(f"{archive} is no whole OCI archive: {type(odd).__name__} {odd}.", _AGAIN) from odd


@dataclass(frozen=True)
class _Layout:
    """The files of an open archive, by name."""

    archive: Path
    files: Mapping[str, tarfile.TarInfo]
    tar: tarfile.TarFile

    def file(self, name: str) -> bytes:
        entry = self.files.get(name)
        opened = self.tar.extractfile(entry) if entry else None
        if opened is None:
            raise _ArchiveError(f"{name} is missing")
        return opened.read()

    def blob(self, descriptor: Mapping[str, Any]) -> oci.Blob:
        algorithm, _, value = str(descriptor["digest"]).partition(":")
        blob = oci.Blob(self.file(f"blobs/{algorithm}/{value}"))
        if (blob.digest, len(blob.data)) != (descriptor["digest"], descriptor["size"]):
            raise _ArchiveError(f"the content of blob {descriptor['digest']} has another digest or size")
        return blob


def _named(layout: _Layout) -> list[tuple[oci.Blob, list[str]]]:
    """The manifests of the archive, each once, with all its names."""
    found: dict[str, tuple[oci.Blob, list[str]]] = {}
    for descriptor in json.loads(layout.file("index.json"))["manifests"]:
        for manifest in _manifests(layout, descriptor):
            _, names = found.setdefault(manifest.digest, (manifest, []))
            names.append(_name(layout, descriptor.get("annotations") or {}))
    if not found:
        raise _other_platform(layout, "none")
    return list(found.values())


def _manifests(layout: _Layout, descriptor: Mapping[str, Any]) -> Iterator[oci.Blob]:
    """The manifest of a descriptor, or those of an index that are for linux/amd64."""
    if not _fits(descriptor.get("platform") or _PLATFORM):
        return
    blob = layout.blob(descriptor)
    content = json.loads(blob.data)
    if "manifests" in content:
        for child in content["manifests"]:
            yield from _manifests(layout, child)
    else:
        yield blob


def _name(layout: _Layout, annotations: Mapping[str, str]) -> str:
    name = next((annotations[key] for key in _NAME_ANNOTATIONS if key in annotations), "")
    match = _NAME.fullmatch(name)
    if not match:
        raise BuildError(
            f"{layout.archive} names its image {name!r}, which is not a full name with a tag, as a node knows images by.",
            f"Name it: skopeo copy oci-archive:{layout.archive} oci-archive:FILE:HOST/PATH:TAG",
        )
    host, path, tag = match.groups()
    return f"{host}/library/{path}:{tag}" if host == "docker.io" and "/" not in path else name


def _image(layout: _Layout, names: list[str], manifest: oci.Blob, root: Path) -> oci.Built:
    description = json.loads(manifest.data)
    config = layout.blob(description["config"])
    settings = json.loads(config.data)
    if not _fits(settings):
        raise _other_platform(layout, f"{settings.get('os')}/{settings.get('architecture')}")
    packed = [layout.blob(descriptor) for descriptor in description["layers"]]
    layers = [_unpacked(layout, blob) for blob in packed]
    if [layer.digest for layer in layers] != settings["rootfs"]["diff_ids"]:
        raise _ArchiveError(f"the layers of {names[0]} are not those that its configuration names")
    root.mkdir(parents=True)
    root.chmod(0o755)
    lost: Counter[str] = Counter()
    for layer in layers:
        lost += _apply(layer, root)
    if lost:
        say(f"{names[0]}: not kept of its files: {', '.join(f'{count} {what}' for what, count in sorted(lost.items()))}")
    if len(layers) == 1:
        return oci.Built(names, root, layers[0], packed[0], config, manifest)
    return oci.assemble(names, root, settings)


def _fits(platform: Mapping[str, Any]) -> bool:
    return all(platform.get(key) == value for key, value in _PLATFORM.items())


def _other_platform(layout: _Layout, found: str) -> BuildError:
    return BuildError(
        f"{layout.archive} holds no image for linux/amd64, as nodes are (found: {found}).",
        "Make it again: skopeo --override-os linux --override-arch amd64 copy SOURCE oci-archive:FILE:HOST/PATH:TAG",
    )


def _unpacked(layout: _Layout, blob: oci.Blob) -> oci.Blob:
    if blob.data.startswith(_ZSTD):
        raise BuildError(
            f"{layout.archive} has a layer that is compressed with zstd, which is not read here.",
            "Make it again with gzip: skopeo copy --dest-force-compress-format --dest-compress-format gzip "
            f"oci-archive:{layout.archive} oci-archive:FILE:HOST/PATH:TAG",
        )
    if not blob.data.startswith(_GZIP):
        return blob
    try:
        return oci.Blob(gzip.decompress(blob.data))
    except (gzip.BadGzipFile, EOFError, zlib.error) as broken:
        raise _ArchiveError(f"layer {blob.digest} cannot be unpacked: {broken}") from broken


def _apply(layer: oci.Blob, root: Path) -> Counter[str]:
    """Puts a layer over what is under `root`; returns what of it is lost there, and how often."""
    lost: Counter[str] = Counter()
    with tarfile.open(fileobj=io.BytesIO(layer.data), mode="r:") as tar:
        entries = [(_parts(entry.name), entry) for entry in tar]
        # Whiteouts are about the layers below, wherever in the tar they stand.
        for parts, _ in entries:
            if _is_whiteout(parts):
                _delete(root, parts)
        links = {parts for parts, entry in entries if entry.issym()}
        for parts, entry in entries:
            if not _is_whiteout(parts):
                _check_way(parts, links)
                _put(tar, entry, root, parts)
                lost.update(_losses(entry))
    return lost


def _is_whiteout(parts: _Parts) -> bool:
    return bool(parts) and parts[-1].startswith(_DELETED)


def _parts(name: str) -> _Parts:
    parts = tuple(part for part in PurePosixPath(name).parts if part != "/")
    if ".." in parts:
        raise _ArchiveError(f"a layer has a file {name!r}, which is outside of it")
    return parts


def _check_way(parts: _Parts, links: Iterable[_Parts]) -> None:
    if any(parts[:length] in links for length in range(1, len(parts))):
        raise _ArchiveError(f"a layer has a file {'/'.join(parts)!r}, which lies under a link of the same layer")


def _delete(root: Path, parts: _Parts) -> None:
    deleted = parts[-1].removeprefix(_DELETED)
    if deleted in ("", ".", ".."):
        raise _ArchiveError(f"a layer deletes {'/'.join(parts)!r}, which names nothing in a folder")
    folder = _folder_there(root, parts)
    if folder and parts[-1] == _OPAQUE:
        for child in folder.iterdir():
            _remove(child)
    elif folder:
        _remove(folder / deleted)


def _put(tar: tarfile.TarFile, entry: tarfile.TarInfo, root: Path, parts: _Parts) -> None:
    """Makes a file, folder or link, over whatever of another kind a layer below has at its place."""
    target = _place(root, parts)
    if entry.isdir():
        _make_folder(target)
        # Who unpacks it must be able to read it, to put more into it, and to remove it.
        target.chmod(entry.mode & 0o7777 | 0o700)
    elif entry.issym():
        _remove(target)
        target.symlink_to(entry.linkname)
    elif entry.islnk():
        source = _link_source(root, entry)
        _remove(target)
        os.link(source, target, follow_symlinks=False)
    elif (content := tar.extractfile(entry)) is not None:
        _remove(target)
        with target.open("wb") as file:
            shutil.copyfileobj(content, file)
        target.chmod(entry.mode & 0o7777 | 0o400)


def _link_source(root: Path, entry: tarfile.TarInfo) -> Path:
    parts = _parts(entry.linkname)
    folder = _folder_there(root, parts)
    source = folder / parts[-1] if folder and parts else root
    if not source.is_symlink() and not source.is_file():
        raise _ArchiveError(f"a layer has a hard link {entry.name!r} to {entry.linkname!r}, which it does not have")
    return source


def _losses(entry: tarfile.TarInfo) -> Iterator[str]:
    if (entry.uid, entry.gid) != (0, 0):
        yield "owners other than root"
    if entry.isdev():
        yield "devices"
    if any(key.startswith("SCHILY.xattr.") for key in entry.pax_headers):
        yield "extended attributes"


def _folder_there(root: Path, parts: _Parts) -> Path | None:
    """The folder that an entry is in, None if there is none or the way to it goes through a link."""
    folder = root
    for part in parts[:-1]:
        folder /= part
        if folder.is_symlink() or not folder.is_dir():
            return None
    return folder


def _place(root: Path, parts: _Parts) -> Path:
    """The path of an entry, with real folders on the way to it."""
    folder = root
    for part in parts[:-1]:
        folder /= part
        _make_folder(folder)
    return folder / parts[-1] if parts else root


def _make_folder(path: Path) -> None:
    if path.is_symlink() or not path.is_dir():
        _remove(path)
        path.mkdir()
        path.chmod(0o755)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
