"""OCI archives from elsewhere: what `skopeo copy ... oci-archive:FILE:NAME` writes.

An archive is a tar of an OCI layout (OCI image specification 1.1, image-layout, image-index, manifest and config). This is the
one reader of them: the harness, which shares nothing but files with this package, asks `python -m images describe`. Nothing in
an archive is trusted: each document, list and blob has a limit, and what does not fit ends in an ArchiveError.
"""

import gzip
import hashlib
import json
import re
import shlex
import sys
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, TypeVar

from images.errors import ArchiveError, Flaw
from images.tarball import listed

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MOST_UNPACKED = 2 << 30
"""How many bytes of an image are unpacked: they are held in memory."""

# containerd's has the whole name where the specification's has only the tag.
_NAME_ANNOTATIONS = ("io.containerd.image.name", "org.opencontainers.image.ref.name")
_HOST = r"localhost|[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]+)?"
_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"({_HOST})/({_COMPONENT}(?:/{_COMPONENT})*):(\w[\w.-]{{0,127}})", re.ASCII)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_INDEX = "application/vnd.oci.image.index.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIGS = ("application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json")
_OTHER = "application/octet-stream"
_PLATFORM = {"os": "linux", "architecture": "amd64"}
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
# What the archive itself may be compressed with, and what unpacks it.
_PACKED = {_GZIP: "gunzip", _ZSTD: "unzstd", b"\xfd7zXZ": "unxz", b"BZh": "bunzip2"}
_MOST_FILES = 10_000
# A registry takes no longer manifests (OCI distribution specification 1.1, pushing manifests).
_MOST_JSON = 4 << 20
_MOST_INDEXES = 8
# One document may be led to from many others, and is read each time.
_MOST_DOCUMENTS = 128 << 20
_BLOCK = 1 << 20
_AGAIN = "Make it again: skopeo copy SOURCE oci-archive:FILE:HOST/PATH:TAG"

_KINDS: dict[type, str] = {str: "a text", int: "a number", list: "a list", dict: "an object"}
_T = TypeVar("_T", str, int, list[Any], dict[str, Any])


@dataclass(frozen=True)
class Blob:
    """Bytes of an archive by their digest, and where in it they are."""

    digest: str
    offset: int
    size: int
    media_type: str = _OTHER


@dataclass(frozen=True)
class Image:
    """An image for linux/amd64.

    `names` are full and with a tag, `documents` those that lead to it: what its names stand for first, its manifest last.
    """

    names: Sequence[str]
    documents: Sequence[Blob]
    config: Blob
    layers: Sequence[Blob]
    diff_ids: Sequence[str]


@dataclass(frozen=True)
class _Described:
    """What an archive says of an image: the way to its manifest, that, and its configuration's `settings`.

    What is no image of a container, such as a chart or a signature, has no settings.
    """

    way: Sequence[Blob]
    manifest: Mapping[str, Any]
    config: Blob
    settings: Mapping[str, Any]


class Archive:
    """An archive that is open."""

    def __init__(self, path: Path, tar: tarfile.TarFile, files: Mapping[str, tarfile.TarInfo]) -> None:
        """For `opened`, which has the files of the tar by their names."""
        self.path = path
        self._tar, self._files = tar, files
        self._documents_left = _MOST_DOCUMENTS

    def images(self) -> Sequence[Image]:
        """Its images for linux/amd64, at least one, each once with all its names; raises Flaw or ArchiveError.

        Other images and what is none, such as a signature, are left out.
        """
        found: dict[str, tuple[_Described, list[str]]] = {}
        others: list[str] = []
        index = self._parsed(self._entry("index.json"))
        for descriptor in _list_of(dict, index, "manifests", "index.json"):
            way = next(self._ways(descriptor, (), set()), None)
            if not way:
                continue
            described = self._described(way)
            if not _fits(described.settings):
                others.append(_platform(described.settings))
                continue
            _, names = found.setdefault(way[0].digest, (described, []))
            names.append(self._name(descriptor))
        if not found:
            raise self._other_platform(", ".join(dict.fromkeys(others)) or "none")
        named = Counter(name for _, names in found.values() for name in set(names))
        if twice := [name for name, count in named.items() if count > 1]:
            raise ArchiveError(f"{self.path} holds different images named {twice[0]}.", "Leave one of them out.")
        return [self._image(described, list(dict.fromkeys(names))) for described, names in found.values()]

    def read(self, blob: Blob) -> bytes:
        """The bytes of a blob, which are checked; raises Flaw."""
        content = b"".join(self._blocks(blob, lambda raw: raw))
        if len(content) != blob.size or "sha256:" + hashlib.sha256(content).hexdigest() != blob.digest:
            raise Flaw(f"the content of blob {blob.digest} has another digest or size")
        return content

    def unpacked(self, layer: Blob) -> Iterator[bytes]:
        """A layer as a tar, block by block; raises Flaw if it is not whole."""
        with self._opened(layer) as raw:
            magic = raw.read(max(map(len, _PACKED)))
        if magic.startswith(_GZIP):
            return self._blocks(layer, lambda raw: gzip.GzipFile(fileobj=raw))
        if magic.startswith(_ZSTD):
            return self._blocks(layer, zstd.ZstdFile)
        if magic.startswith(tuple(_PACKED)):
            raise Flaw(f"layer {layer.digest} is compressed, with neither gzip nor zstd")
        return self._blocks(layer, lambda raw: raw)

    def check(self, image: Image) -> int | None:
        """Reads all of an image; returns how many bytes its layers unpack to, None if more than MOST_UNPACKED; raises Flaw."""
        total = 0
        for layer, diff_id in zip(image.layers, image.diff_ids, strict=True):
            whole = hashlib.sha256()
            for block in self._blocks(layer, lambda raw: raw):
                whole.update(block)
            if "sha256:" + whole.hexdigest() != layer.digest:
                raise Flaw(f"the content of blob {layer.digest} has another digest or size")
            unpacked = hashlib.sha256()
            for block in self.unpacked(layer):
                total += len(block)
                if total > MOST_UNPACKED:
                    return None
                unpacked.update(block)
            if "sha256:" + unpacked.hexdigest() != diff_id:
                raise Flaw(f"the layers of {image.names[0]} are not those that its configuration names")
        return total

    def _ways(self, descriptor: Mapping[str, Any], above: Sequence[Blob], seen: set[str]) -> Iterator[Sequence[Blob]]:
        """From a descriptor to the manifests for linux/amd64: the documents on the way, each once, whatever leads there."""
        if not _fits(_optional(descriptor, "platform") or _PLATFORM):
            return
        blob = self._blob(descriptor)
        if blob.digest in seen:
            return
        seen.add(blob.digest)
        if len(above) == _MOST_INDEXES:
            raise Flaw(f"more than {_MOST_INDEXES} indexes lie in each other")
        document = _parsed_json(self._document(blob), blob.digest)
        kind = document.get("mediaType") or (_INDEX if "manifests" in document else _MANIFEST)
        if not isinstance(kind, str) or not kind.isascii() or not kind.isprintable():
            raise Flaw(f"{blob.digest} has no mediaType that is a text")
        way = (*above, Blob(blob.digest, blob.offset, blob.size, kind))
        if "manifests" not in document:
            yield way
            return
        # As CRI-O chooses: what names its platform goes before what does not (containers/image, chooseInstance).
        children = _list_of(dict, document, "manifests", blob.digest)
        for child in sorted(children, key=_without_platform):
            yield from self._ways(child, way, seen)

    def _described(self, way: Sequence[Blob]) -> _Described:
        manifest = _parsed_json(self._document(way[-1]), way[-1].digest)
        descriptor = _get(manifest, "config", dict, f"manifest {way[-1].digest}")
        config = self._blob(descriptor)
        is_one = descriptor.get("mediaType", _CONFIGS[0]) in _CONFIGS
        return _Described(way, manifest, config, _parsed_json(self._document(config), config.digest) if is_one else {})

    def _image(self, described: _Described, names: Sequence[str]) -> Image:
        way, config = described.way, described.config
        layers = _list_of(dict, described.manifest, "layers", f"manifest {way[-1].digest}")
        found = [self._blob(layer) for layer in layers]
        where = f"configuration {config.digest}"
        diff_ids = _list_of(str, _get(described.settings, "rootfs", dict, where), "diff_ids", where)
        if len(diff_ids) != len(found):
            raise Flaw(f"the layers of {names[0]} are not those that its configuration names")
        return Image(names, way, config, found, diff_ids)

    def _name(self, descriptor: Mapping[str, Any]) -> str:
        annotations = _optional(descriptor, "annotations")
        name = next((annotations[key] for key in _NAME_ANNOTATIONS if annotations.get(key) is not None), "")
        match = _NAME.fullmatch(name) if isinstance(name, str) else None
        if not match or not _names_a_host(match[1]):
            raise ArchiveError(
                f"{self.path} names its image {name!r}, which is not a full name with a tag, as a node knows images by.",
                f"Name it: skopeo copy oci-archive:{shlex.quote(str(self.path))} oci-archive:FILE:HOST/PATH:TAG",
            )
        host, path, tag = match.groups()
        return f"{host}/library/{path}:{tag}" if host == "docker.io" and "/" not in path else name

    def _other_platform(self, found: str) -> ArchiveError:
        return ArchiveError(
            f"{self.path} holds no image for linux/amd64, as nodes are (found: {found}).",
            "Make it again: skopeo --override-os linux --override-arch amd64 copy SOURCE oci-archive:FILE:HOST/PATH:TAG",
        )

    def _blob(self, descriptor: Mapping[str, Any]) -> Blob:
        digest = _get(descriptor, "digest", str, "a descriptor")
        if not _DIGEST.fullmatch(digest):
            raise Flaw(f"{digest[:100]!r} is no sha256 digest")
        size = _get(descriptor, "size", int, f"the descriptor of {digest}")
        entry = self._entry(f"blobs/{digest.replace(':', '/')}")
        if entry.size != size:
            raise Flaw(f"the content of blob {digest} has another digest or size")
        return Blob(digest, entry.offset_data, entry.size)

    def _document(self, blob: Blob) -> bytes:
        if blob.size > _MOST_JSON:
            raise Flaw(f"{blob.digest} has {blob.size} bytes, which no description of an image has")
        self._documents_left -= blob.size
        if self._documents_left < 0:
            raise Flaw("its indexes and manifests are too many")
        return self.read(blob)

    def _parsed(self, entry: tarfile.TarInfo) -> dict[str, Any]:
        if entry.size > _MOST_JSON:
            raise Flaw(f"{entry.name} has {entry.size} bytes, which no index has")
        content = self._tar.extractfile(entry)
        return _parsed_json(content.read() if content else b"", entry.name)

    def _entry(self, name: str) -> tarfile.TarInfo:
        if name not in self._files:
            raise Flaw(f"{name} is missing")
        return self._files[name]

    @contextmanager
    def _opened(self, blob: Blob) -> Iterator[IO[bytes]]:
        content = self._tar.extractfile(self._entry(f"blobs/{blob.digest.replace(':', '/')}"))
        assert content is not None  # of a regular file
        with content:
            yield content

    def _blocks(self, blob: Blob, unpack: Any) -> Iterator[bytes]:
        try:
            with self._opened(blob) as raw, unpack(raw) as content:
                while block := content.read(_BLOCK):
                    yield block
        except (gzip.BadGzipFile, EOFError, zlib.error, zstd.ZstdError) as broken:
            raise Flaw(f"layer {blob.digest} cannot be unpacked: {broken}") from broken


@contextmanager
def opened(path: Path) -> Iterator[Archive]:
    """Opens an archive; whatever is found to be wrong with it until the block ends is an ArchiveError that names it."""
    _check_kind(path)
    try:
        with tarfile.open(path, "r:") as tar:
            entries = [entry for entry in listed(tar, _MOST_FILES) if entry.isreg()]
            files = {str(PurePosixPath(entry.name)): entry for entry in entries if not entry.issparse()}
            if "index.json" not in files and "manifest.json" in files:
                raise ArchiveError(
                    f"{path} is an archive of docker's own kind.",
                    f"Make one of it: skopeo copy docker-archive:{shlex.quote(str(path))} oci-archive:FILE:HOST/PATH:TAG",
                )
            yield Archive(path, tar, files)
    except (tarfile.TarError, EOFError, IndexError, OverflowError, RecursionError, ValueError, Flaw) as broken:
        raise ArchiveError(f"{path} is no whole OCI archive: {broken}.", _AGAIN) from broken


def describe(path: Path) -> dict[str, Any]:
    """What an archive holds, for who serves or unpacks it, as JSON has it.

    `images`: for each its `names`, the `digest` that they stand for, how many `layers` it has, how many bytes they take
    `unpacked` (null: more than MOST_UNPACKED), and its `blobs`: offset and size in bytes, and media type, by digest.
    """
    with opened(path) as archive:
        return {"images": [_described(archive, image) for image in archive.images()]}


def _described(archive: Archive, image: Image) -> dict[str, Any]:
    blobs = (*image.documents, image.config, *image.layers)
    return {
        "names": list(image.names),
        "digest": image.documents[0].digest,
        "documents": [document.digest for document in image.documents],
        "layers": len(image.layers),
        "unpacked": archive.check(image),
        "blobs": {blob.digest: [blob.offset, blob.size, blob.media_type] for blob in reversed(blobs)},
    }


def _check_kind(path: Path) -> None:
    if not path.is_file():
        if (path / "index.json").exists():
            raise ArchiveError(f"{path} is a folder.", f"Pack it: tar -C {shlex.quote(str(path))} -cf FILE .")
        raise ArchiveError(f"{path} is no file.", "Name an OCI archive: skopeo copy SOURCE oci-archive:FILE:HOST/PATH:TAG")
    with path.open("rb") as file:
        head = file.read(8)
    for magic, tool in _PACKED.items():
        if head.startswith(magic):
            raise ArchiveError(
                f"{path} is no whole OCI archive: it is compressed.", f"Unpack it: {tool} {shlex.quote(str(path))}"
            )


def _names_a_host(first: str) -> bool:
    """What comes before the first slash of a name is a registry (distribution/reference 0.6, splitDockerDomain)."""
    return first == "localhost" or bool(set(".:") & set(first)) or first != first.lower()


def _fits(platform: Mapping[str, Any]) -> bool:
    return all(platform.get(key) == value for key, value in _PLATFORM.items())


def _platform(settings: Mapping[str, Any]) -> str:
    """A configuration's platform, in words; what is no image has none."""
    named = [settings[key] for key in _PLATFORM if settings.get(key)]
    return "/".join(map(str, named)) or "what is no container image"


def _without_platform(descriptor: Mapping[str, Any]) -> tuple[bool, bool]:
    platform = _optional(descriptor, "platform")
    return bool(platform.get("variant")), not platform


def _parsed_json(content: bytes, where: str) -> dict[str, Any]:
    try:
        parsed = json.loads(content)
    except (ValueError, RecursionError) as odd:
        raise Flaw(f"{where} is no JSON: {odd}") from odd
    if not isinstance(parsed, dict):
        raise Flaw(f"{where} is no JSON object")
    return parsed


def _get(record: Mapping[str, Any], key: str, kind: type[_T], where: str) -> _T:
    value = record.get(key)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise Flaw(f"{where} has no {key} that is {_KINDS[kind]}")
    return value


def _list_of(kind: type[_T], record: Mapping[str, Any], key: str, where: str) -> list[_T]:
    values = _get(record, key, list, where)
    if not all(isinstance(value, kind) for value in values):
        raise Flaw(f"{where} has something in its {key} that is not {_KINDS[kind]}")
    return values


def _optional(record: Mapping[str, Any], key: str) -> dict[str, Any]:
    """An object that may be left out; null, which some tools write, is none."""
    return {} if record.get(key) is None else _get(record, key, dict, "a descriptor")
