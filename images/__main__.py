"""`python -m images build`: makes the reference node image and prints its folder."""

import argparse
import sys
from pathlib import Path

from images import cache, command, node
from images.errors import BuildError

_TOOLS = {
    "gcc": "gcc libc6-dev",
    "make": "make",
    "patch": "patch",
    "flex": "flex",
    "bison": "bison",
    "bc": "bc",
    "depmod": "kmod",
    "lz4": "lz4",
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
    """Runs the command line; returns its exit status."""
    arguments = _parser().parse_args()
    try:
        print(arguments.run(arguments))
    except BuildError as failed:
        print(f"images: {failed}", file=sys.stderr)
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
    where.add_argument("--cache", type=Path, default=cache.default_root(), help="where built parts are kept (%(default)s)")
    build = commands.add_parser("build", parents=[where], help="build what is missing and print the image's folder")
    build.add_argument("--output", type=Path, help="also copy the finished image to this folder")
    build.set_defaults(run=_build)
    find = commands.add_parser("find", parents=[where], help="print the folder of the image last built from these recipes")
    find.set_defaults(run=lambda arguments: node.find(cache.Cache(arguments.cache.absolute())))
    commands.add_parser("cache", help="print the cache folder").set_defaults(run=lambda _: cache.default_root())
    return parser


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
    built = node.build(parts)
    if arguments.output:
        node.publish(built, arguments.output.absolute())
    return built


if __name__ == "__main__":
    sys.exit(main())
