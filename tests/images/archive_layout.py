"""OCI layouts of others, made entry by entry."""

import hashlib
import io
import json
import sys
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from images import __main__ as program
from images import layers, oci
from images.tree import below

NAME = "docker.io/emilyls/tinycat:v1"
REF_NAME = "org.opencontainers.image.ref.name"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
AMD64 = {"os": "linux", "architecture": "amd64"}
ARM64 = {"os": "linux", "architecture": "arm64"}
RUN = {"Entrypoint": ["/bin/a"], "Cmd": ["-v"], "Env": ["A=b"], "User": "7:7", "WorkingDir": "/work"}
Entry = tuple[tarfile.TarInfo, bytes]


def entry(name: str, kind: bytes, mode: int = 0o755, content: bytes = b"", link: str = "", uid: int = 0) -> Entry:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.size, info.linkname, info.uid = kind, mode, len(content), link, uid
    return info, content


def file(name: str, content: bytes = b"", mode: int = 0o644, uid: int = 0) -> Entry:
    return entry(name, tarfile.REGTYPE, mode, content, uid=uid)


def link(name: str, target: str) -> Entry:
    return entry(name, tarfile.SYMTYPE, link=target)


def tar_of(entries: Sequence[Entry]) -> bytes:
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, content in entries:
            tar.addfile(info, io.BytesIO(content))
    return output.getvalue()


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Layout:
    """The files of an OCI layout in the making."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}
        self.index: list[Mapping[str, Any]] = []

    def add(self, data: bytes, **more: Any) -> dict[str, Any]:
        """Adds a blob; returns its descriptor."""
        self.files["blobs/" + digest_of(data).replace(":", "/")] = data
        return {"digest": digest_of(data), "size": len(data), **more}

    def add_json(self, value: object, **more: Any) -> dict[str, Any]:
        return self.add(json.dumps(value).encode(), **more)

    def add_image(
        self,
        layers: Sequence[bytes],
        pack: Callable[[bytes], bytes] = bytes,
        platform: Mapping[str, str] = AMD64,
        diff_ids: Sequence[str] | None = None,
    ) -> dict[str, Any]:
        """Adds an image; returns its manifest's descriptor."""
        found = [digest_of(layer) for layer in layers] if diff_ids is None else diff_ids
        config = {**platform, "author": "me", "config": RUN, "rootfs": {"type": "layers", "diff_ids": found}}
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.add_json({**config, "history": [{"comment": "theirs"}]}, mediaType=CONFIG),
            "layers": [self.add(pack(layer), mediaType=LAYER) for layer in layers],
        }
        return self.add_json(manifest, mediaType=MANIFEST)

    def name(self, descriptor: Mapping[str, Any], **annotations: str) -> None:
        self.index.append({**descriptor, "annotations": annotations})

    def write(self, path: Path) -> Path:
        self.files.setdefault("index.json", json.dumps({"schemaVersion": 2, "manifests": self.index}).encode())
        path.write_bytes(tar_of([file(name, data) for name, data in self.files.items()]))
        return path


def layout_of(*layers: Sequence[Entry], pack: Callable[[bytes], bytes] = bytes) -> Layout:
    """A layout of one image of these layers."""
    layout = Layout()
    layout.name(layout.add_image([tar_of(layer) for layer in layers], pack), **{REF_NAME: NAME})
    return layout


def read(layout: Layout, place: Path) -> oci.Built:
    """The only image of a layout, read from an archive of it."""
    (built,) = layers.read(layout.write(place / "image.tar"), place / "work")
    return built


def tree_of(root: Path) -> dict[str, bytes | str | None]:
    """Content of files, target of links, None for folders; by path."""
    paths = {str(path.relative_to(root)): path for path in below(root)}
    return {
        name: str(path.readlink()) if path.is_symlink() else None if path.is_dir() else path.read_bytes()
        for name, path in paths.items()
    }


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["images", *map(str, arguments)])
    return program.main()
