"""`python -m images build` makes the reference node image, `store` a store of container images; both print its folder.

`check-tool` makes the program that has the kubelet's rules, alone.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
from pathlib import Path

from images import archive, cache, command, kubelet, layers, node, outputs, storage, variant
from images.disk import Stretch
from images.errors import ArchiveError, BuildError

_TOOLS = {
    "gcc": "gcc libc6-dev",
    "make": "make",
    "patch": "patch",
    "flex": "flex",
    "bison": "bison",
    "bc": "bc",
    "depmod": "kmod",
    "lz4": "lz4",
    "lzma": "xz-utils",
    "readelf": "binutils",
    "pkg-config": "pkg-config libseccomp-dev libsqlite3-dev libelf-dev libssl-dev uuid-dev",
    "fakeroot": "fakeroot",
    "mke2fs": "e2fsprogs",
    "mkfs.vfat": "dosfstools",
    "mcopy": "mtools",
    "dpkg-deb": "dpkg",
    "xz": "xz-utils",
}


def main() -> int:
    """Runs the command line; returns its exit status: EX_DATAERR (sysexits.h) where what was handed in cannot be used."""
    arguments = _parser().parse_args()
    # Ended as by Ctrl-C, so that what a build started ends with it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        print(arguments.run(arguments))
    except BuildError as failed:
        print(f"images: {failed}", file=sys.stderr)
        return os.EX_DATAERR if isinstance(failed, ArchiveError) else 1
    except BrokenPipeError:
        # Who asked has gone: nobody reads why.
        return 1
    except OSError as failed:
        print(f"images: {failed}\n  Mend this and build again: what is done stays done.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("images: interrupted. Build again: what is done stays done.", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m images", description="Builds the kiOS-compatible reference node image.")
    commands = parser.add_subparsers(required=True)
    where = argparse.ArgumentParser(add_help=False)
    root = _default_cache()
    where.add_argument(
        "--cache", type=Path, default=root, required=root is None, help="where built parts are kept (%(default)s)"
    )
    build = commands.add_parser("build", parents=[where], help="build what is missing and print the image's folder")
    build.add_argument("--variant", choices=variant.VARIANTS, help="build this one, and print its disk image instead")
    build.add_argument("--output", type=Path, help="also copy the finished image to this folder")
    build.set_defaults(run=_build)
    find = commands.add_parser("find", parents=[where], help="print the folder of the image last built from these recipes")
    find.set_defaults(run=lambda arguments: node.find(cache.Cache(arguments.cache.absolute())))
    check = commands.add_parser(
        "check-tool", parents=[where], help="build, alone, the program that has the kubelet's rules, and print its path"
    )
    check.set_defaults(run=lambda arguments: kubelet.find_check(cache.Cache(arguments.cache.absolute())))
    store = commands.add_parser("store", help="lay OCI archives out as CRI-O's store: for /data/oci on a data partition")
    store.add_argument("archives", nargs="+", type=Path, metavar="ARCHIVE", help="as `skopeo copy ... oci-archive:` writes it")
    store.add_argument("--output", type=Path, required=True, help="the folder to make")
    store.set_defaults(run=_store)
    describe = commands.add_parser("describe", help="print what OCI archives hold, as a list in JSON")
    describe.add_argument("archives", nargs="+", type=Path, metavar="ARCHIVE")
    describe.set_defaults(run=lambda arguments: json.dumps([archive.describe(file) for file in arguments.archives]))
    made = commands.add_parser(
        "disk", parents=[where], help="make a disk of kiOS's build outputs, without containers, and print its path"
    )
    made.add_argument("--efi", type=Path, required=True, help="the EFI binary")
    made.add_argument("--modules", type=Path, required=True, help="lib/modules: a folder with one folder for each version")
    made.add_argument("--initramfs", type=Path, help="for generation B: the second initramfs, put on the EFI System Partition")
    made.add_argument(
        "--data", type=Path, help="with it, a raw disk whose bytes from --data-start on, --data-size many, are p2"
    )
    made.add_argument("--data-start", type=int, default=0, help="in bytes (%(default)s)")
    made.add_argument("--data-size", type=int, default=0, help="in bytes")
    made.add_argument("--sector-size", type=int, choices=(512, 4096), default=512, help="bytes in a block (%(default)s)")
    made.set_defaults(run=_disk)
    commands.add_parser("cache", help="print the cache folder").set_defaults(run=lambda _: cache.default_root())
    return parser


def _default_cache() -> Path | None:
    """Where parts are kept if nobody names a place; None if somebody has to."""
    try:
        return cache.default_root()
    except BuildError:
        return None


def _build(arguments: argparse.Namespace) -> Path:
    missing = [package for tool, package in _TOOLS.items() if not command.installed(tool)]
    if missing:
        raise BuildError("Programs are missing that the build needs.", f"sudo apt-get install {' '.join(missing)}")
    root = arguments.cache.absolute()
    parts = cache.Cache(root)
    lacking = cache.free_bytes_missing(root)
    if lacking and not any((root / "parts").glob("node-*")):
        raise BuildError(
            f"A first build takes 6 GiB of disk; {lacking >> 20} MiB are missing on {root}.",
            "Make room, or give another folder with --cache.",
        )
    if arguments.variant:
        return variant.build(parts, arguments.variant)
    built = node.build(parts)
    if arguments.output:
        node.publish(built, arguments.output.absolute())
    return built


def _store(arguments: argparse.Namespace) -> Path:
    output: Path = arguments.output.absolute()
    if output.exists():
        raise BuildError(f"{output} is there already.", "Remove it, or name another folder with --output.")
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as work:
        place = Path(work)
        images = [
            image for number, file in enumerate(arguments.archives) for image in layers.read(file, place / f"archive-{number}")
        ]
        storage.preload(images, place / "store")
        # A layer's set-uid programs are for nobody on this host.
        (place / "store").chmod(0o700)
        (place / "store").rename(output)
    return output


def _disk(arguments: argparse.Namespace) -> Path:
    parts = cache.Cache(arguments.cache.absolute())
    data = Stretch(arguments.data, arguments.data_start, arguments.data_size) if arguments.data else None
    return outputs.disk_of(arguments.efi, arguments.modules, parts, arguments.initramfs, arguments.sector_size, data)


if __name__ == "__main__":
    sys.exit(main())
