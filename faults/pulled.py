"""A container image that no node has, and nobody has to run: what is asked of a registry that is broken."""

import hashlib
import io
import json
import random
import tarfile
from pathlib import Path

NAME = "localhost/kios-e2e/pulled:v1"
_TYPES = "application/vnd.oci.image"
_LAYER_BYTES = 64 << 10


def archive(file: Path) -> Path:
    """Writes it as an OCI archive (image-spec 1.1, image-layout.md), and returns the file."""
    layer = _tar({"content": random.Random(1).randbytes(_LAYER_BYTES)})
    blobs: dict[str, bytes] = {}

    def described(kind: str, content: bytes) -> dict[str, object]:
        digest = hashlib.sha256(content).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = content
        return {"mediaType": f"{_TYPES}.{kind}", "digest": f"sha256:{digest}", "size": len(content)}

    rootfs = {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]}
    configuration = _json({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": rootfs})
    parts = {"config": described("config.v1+json", configuration), "layers": [described("layer.v1.tar", layer)]}
    manifest = described("manifest.v1+json", _json({"schemaVersion": 2, "mediaType": f"{_TYPES}.manifest.v1+json", **parts}))
    named = {**manifest, "annotations": {"org.opencontainers.image.ref.name": NAME}}
    whole = {
        "oci-layout": _json({"imageLayoutVersion": "1.0.0"}),
        "index.json": _json({"schemaVersion": 2, "manifests": [named]}),
    }
    file.write_bytes(_tar({**whole, **blobs}))
    return file


def _json(content: object) -> bytes:
    return json.dumps(content).encode()


def _tar(files: dict[str, bytes]) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return written.getvalue()
