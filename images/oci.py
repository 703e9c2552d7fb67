"""Container images as reproducible OCI archives (OCI image specification 1.1, image-layout and media types)."""

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from images import tree

_EPOCH = "1970-01-01T00:00:00Z"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"


@dataclass(frozen=True)
class Image:
    """A container image of one layer: its full name with tag, entry point and environment."""

    name: str
    entrypoint: Sequence[str]
    command: Sequence[str] = ()
    environment: Sequence[str] = field(default=("PATH=/usr/sbin:/usr/bin:/sbin:/bin",))


@dataclass(frozen=True)
class Blob:
    """Bytes by their digest."""

    data: bytes

    @cached_property
    def digest(self) -> str:
        return "sha256:" + hashlib.sha256(self.data).hexdigest()


@dataclass(frozen=True)
class Built:
    """An image of one layer, whose files are in a folder, and the blobs that describe it.

    `names` are full and with a tag; `layer` is a tar of the files, `packed` the same as the manifest names it, which may be
    compressed.
    """

    names: Sequence[str]
    root: Path
    layer: Blob
    packed: Blob
    config: Blob
    manifest: Blob


def build(image: Image, root: Path) -> Built:
    """Makes an image of the files under `root`: all owned by root and dated 1970."""
    settings = {
        "created": _EPOCH,
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "Entrypoint": list(image.entrypoint),
            **({"Cmd": list(image.command)} if image.command else {}),
            "Env": list(image.environment),
        },
    }
    return assemble([image.name], root, settings)


def assemble(names: Sequence[str], root: Path, settings: Mapping[str, object]) -> Built:
    """Makes an image of the files under `root` whose configuration is `settings` but for what it says of layers."""
    layer = Blob(_layer_of(root))
    config = Blob(
        _json(
            {
                **settings,
                "rootfs": {"type": "layers", "diff_ids": [layer.digest]},
                "history": [{"created": _EPOCH, "created_by": "images build"}],
            }
        )
    )
    manifest = Blob(
        _json(
            {
                "schemaVersion": 2,
                "mediaType": _MANIFEST,
                "config": _descriptor(_CONFIG, config),
                "layers": [_descriptor(_LAYER, layer)],
            }
        )
    )
    return Built(names, root, layer, layer, config, manifest)


def write_archive(built: Built, archive: Path) -> None:
    """Writes the image as a tar of an OCI layout, which `skopeo` and `podman load` read as `oci-archive:`."""
    index = {
        "schemaVersion": 2,
        "manifests": [
            {**_descriptor(_MANIFEST, built.manifest), "annotations": {"org.opencontainers.image.ref.name": name}}
            for name in built.names
        ],
    }
    with tarfile.open(archive, "w", format=tarfile.USTAR_FORMAT) as tar:
        _add_file(tar, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}), 0o644)
        _add_file(tar, "index.json", _json(index), 0o644)
        for blob in (built.manifest, built.config, built.packed):
            _add_file(tar, f"blobs/sha256/{blob.digest.removeprefix('sha256:')}", blob.data, 0o644)


def _layer_of(root: Path) -> bytes:
    output = io.BytesIO()
    # As ustar wherever that has room for a name.
    with tarfile.open(fileobj=output, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in tree.below(root):
            name = str(path.relative_to(root))
            if path.is_symlink():
                link = tarfile.TarInfo(name)
                link.type, link.linkname = tarfile.SYMTYPE, str(path.readlink())
                tar.addfile(link)
            elif path.is_dir():
                folder = tarfile.TarInfo(name)
                folder.type, folder.mode = tarfile.DIRTYPE, path.stat().st_mode & 0o7777
                tar.addfile(folder)
            else:
                _add_file(tar, name, path.read_bytes(), path.stat().st_mode & 0o7777)
    return output.getvalue()


def _add_file(tar: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    tar.addfile(entry, io.BytesIO(content))


def _descriptor(media_type: str, blob: Blob) -> dict[str, object]:
    return {"mediaType": media_type, "digest": blob.digest, "size": len(blob.data)}


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
