"""Images of archives with their files in folders: layers put over each other (OCI image specification 1.1, layer).

Several layers become one: between layers, containers/storage needs a character device for what one of them deletes, which
nobody but root can make. Such an image has a configuration and a digest of its own; one of a single layer keeps both.
"""

import errno
import io
import json
import os
import shutil
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from images import archive, oci
from images.archive import MOST_UNPACKED, Archive, Image
from images.cache import say
from images.errors import ArchiveError, Flaw
from images.tarball import listed

_DELETED, _OPAQUE = ".wh.", ".wh..wh..opq"
_MOST_ENTRIES = 500_000
# Python's own removal of a folder gives up where folders lie some hundred deep.
_DEEPEST = 100
# What a system says to a name, a link or a tree that it cannot have.
_IMPOSSIBLE = {
    errno.EINVAL,
    errno.EILSEQ,
    errno.EISDIR,
    errno.ELOOP,
    errno.EMLINK,
    errno.ENAMETOOLONG,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EPERM,
}

_Parts = tuple[str, ...]


def read(path: Path, work: Path) -> list[oci.Built]:
    """Returns the images of an archive, with their files in folders under `work`, all owned by root.

    What belongs to other users, devices and extended attributes do not survive that; it is said which. Every file and
    folder can be read by who unpacks it. ArchiveError, which names the archive, if it is damaged, its image has no full
    name, is not for linux/amd64, or has more than MOST_UNPACKED bytes.
    """
    with archive.opened(path) as found:
        return [_built(found, image, work / f"{number}") for number, image in enumerate(found.images())]


def _built(found: Archive, image: Image, root: Path) -> oci.Built:
    packed = [oci.Blob(found.read(layer)) for layer in image.layers]
    unpacked: list[oci.Blob] = []
    left = MOST_UNPACKED
    for layer in image.layers:
        unpacked.append(oci.Blob(_unpacked(found, layer, left)))
        left -= len(unpacked[-1].data)
    if [layer.digest for layer in unpacked] != list(image.diff_ids):
        raise Flaw(f"the layers of {image.names[0]} are not those that its configuration names")
    root.mkdir(parents=True)
    root.chmod(0o755)
    lost: Counter[str] = Counter()
    for each in unpacked:
        lost += _apply(each.data, root)
    if lost:
        say(f"{image.names[0]}: not kept of its files: {', '.join(f'{count} {what}' for what, count in sorted(lost.items()))}")
    config = oci.Blob(found.read(image.config))
    if len(unpacked) == 1:
        return oci.Built(image.names, root, unpacked[0], packed[0], config, oci.Blob(found.read(image.documents[-1])))
    return oci.assemble(image.names, root, json.loads(config.data))


def _unpacked(found: Archive, layer: archive.Blob, most: int) -> bytes:
    output = io.BytesIO()
    for block in found.unpacked(layer):
        if output.tell() + len(block) > most:
            raise ArchiveError(
                f"{found.path} has an image that unpacks to more than {MOST_UNPACKED >> 20} MiB, too much for a store.",
                "Leave it out, or take away from it what no node needs.",
            )
        output.write(block)
    return output.getvalue()


def _apply(layer: bytes, root: Path) -> Counter[str]:
    """Puts a layer over what is under `root`; returns what of it is lost there, and how often; raises Flaw if it cannot be."""
    lost: Counter[str] = Counter()
    with _flaws(), tarfile.open(fileobj=io.BytesIO(layer), mode="r:") as tar:
        entries = [(_parts(entry.name), entry) for entry in listed(tar, _MOST_ENTRIES)]
        # A sparse file of terabytes takes a few blocks of a tar.
        if sum(entry.size for _, entry in entries if entry.isreg()) > MOST_UNPACKED:
            raise Flaw(f"a layer has more than {MOST_UNPACKED >> 20} MiB of files")
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


@contextmanager
def _flaws() -> Iterator[None]:
    """Has what Python and the system say to a layer that cannot be come as a Flaw."""
    try:
        yield
    except OSError as refused:
        if refused.errno not in _IMPOSSIBLE:
            raise
        raise Flaw(f"a layer has a file that cannot be made: {refused}") from refused
    except (tarfile.TarError, EOFError, IndexError, OverflowError, RecursionError, ValueError) as broken:
        raise Flaw(f"a layer is no whole tar: {broken}") from broken


def _is_whiteout(parts: _Parts) -> bool:
    return bool(parts) and parts[-1].startswith(_DELETED)


def _parts(name: str) -> _Parts:
    parts = tuple(part for part in PurePosixPath(name).parts if part != "/")
    if ".." in parts:
        raise Flaw(f"a layer has a file {name!r}, which is outside of it")
    if len(parts) > _DEEPEST:
        raise Flaw(f"a layer has a file {name[:80]!r}..., which lies more than {_DEEPEST} folders deep")
    return parts


def _check_way(parts: _Parts, links: Iterable[_Parts]) -> None:
    if any(parts[:length] in links for length in range(1, len(parts))):
        raise Flaw(f"a layer has a file {'/'.join(parts)!r}, which lies under a link of the same layer")


def _delete(root: Path, parts: _Parts) -> None:
    deleted = parts[-1].removeprefix(_DELETED)
    if deleted in ("", ".", ".."):
        raise Flaw(f"a layer deletes {'/'.join(parts)!r}, which names nothing in a folder")
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
        raise Flaw(f"a layer has a hard link {entry.name!r} to {entry.linkname!r}, which it does not have")
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
