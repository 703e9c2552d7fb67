"""Preloading: images laid out as containers/storage's overlay driver keeps them, so that CRI-O finds them without a network.

Written from the library's own sources (layers.go, images.go, store.go and drivers/overlay/overlay.go of the version that
CRI-O is built with). Laying it out needs neither root nor a mount, which the library's own tools do; whether it is right
is seen at every boot, where CRI-O starts all containers from it.
"""

import base64
import json
import shutil
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from images.errors import ArchiveError
from images.oci import Built

_EPOCH = "1970-01-01T00:00:00Z"
# pkg/archive's Compression, by how what is compressed begins.
_PLAIN = 0
_COMPRESSIONS = {b"\x1f\x8b": 2, b"\x28\xb5\x2f\xfd": 4}
_SIMPLE = frozenset(".0123456789abcdefghijklmnopqrstuvwxyz")


def preload(images: Sequence[Built], store: Path) -> None:
    """Fills `store`, the folder that is `/var/lib/containers/storage` on the node, with images.

    ArchiveError if two of them that differ have a name in common: to the node it would be the name of one.
    """
    _check_names(images)
    layers: dict[str, dict[str, object]] = {}
    same: dict[str, list[Built]] = {}
    (store / "overlay/l").mkdir(parents=True)
    for built in images:
        if built.layer.digest not in layers:
            layers[built.layer.digest] = _add_layer(built, store)
        same.setdefault(built.config.digest, []).append(built)
    _write_json(store / "overlay-layers/layers.json", list(layers.values()))
    _write_json(store / "overlay-images/images.json", [_add_image(group, store) for group in same.values()])
    for lock in ("storage.lock", "overlay-layers/layers.lock", "overlay-images/images.lock"):
        (store / lock).touch()


def _check_names(images: Sequence[Built]) -> None:
    owners: dict[str, str] = {}
    for built in images:
        for name in built.names:
            if owners.setdefault(name, built.config.digest) != built.config.digest:
                raise ArchiveError(f"Two different images are named {name}.", "Leave one of them out.")


def _add_layer(built: Built, store: Path) -> dict[str, object]:
    identity = built.layer.digest.removeprefix("sha256:")
    link = sha256(f"link {identity}".encode()).hexdigest()[:26].upper()
    folder = store / "overlay" / identity
    shutil.copytree(built.root, folder / "diff", symlinks=True)
    (folder / "work").mkdir()
    (folder / "empty").mkdir()
    (folder / "link").write_text(link)
    (store / "overlay/l" / link).symlink_to(f"../{identity}/diff")
    return {
        "id": identity,
        "created": _EPOCH,
        "compressed-diff-digest": built.packed.digest,
        "compressed-size": len(built.packed.data),
        "diff-digest": built.layer.digest,
        "diff-size": len(built.layer.data),
        "compression": next((kind for magic, kind in _COMPRESSIONS.items() if built.packed.data.startswith(magic)), _PLAIN),
        "uidset": [0],
        "gidset": [0],
    }


def _add_image(same: Sequence[Built], store: Path) -> dict[str, object]:
    """Adds one image, which may have come more than once under different names."""
    built = same[0]
    identity = built.config.digest.removeprefix("sha256:")
    big = {
        built.config.digest: built.config,
        "manifest": built.manifest,
        f"manifest-{built.manifest.digest}": built.manifest,
    }
    folder = store / "overlay-images" / identity
    folder.mkdir(parents=True)
    for name, blob in big.items():
        (folder / _file_name(name)).write_bytes(blob.data)
    return {
        "id": identity,
        "digest": built.manifest.digest,
        "names": list(dict.fromkeys(name for each in same for name in each.names)),
        "layer": built.layer.digest.removeprefix("sha256:"),
        "metadata": "{}",
        "big-data-names": list(big),
        "big-data-sizes": {name: len(blob.data) for name, blob in big.items()},
        "big-data-digests": {name: blob.digest for name, blob in big.items()},
        "created": _EPOCH,
    }


def _file_name(name: str) -> str:
    if set(name[:-1]) <= _SIMPLE:
        return name
    return "=" + base64.b64encode(name.encode()).decode()


def _write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
