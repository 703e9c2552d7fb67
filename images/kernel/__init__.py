"""The kernel: Debian's 6.12 LTS source, our fragment, and the initramfs inside; one EFI binary and its modules.

It comes in flavours: NAME.config has what a flavour sets beside the fragment. All are compiled in one tree, one after the
other, so that a flavour costs what its options touch.
"""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from images import command, debian
from images.cache import Cache, Part, digest_of
from images.errors import BuildError
from images.kernel import font

_SOURCE = "linux-source-6.12"
_HERE = Path(__file__).parent
# Not for an x86-64 PC, and a quarter of the tree.
_LEFT_OUT = ("*/arch/*/boot/dts", "*/drivers/gpu/drm/amd/include", "*/Documentation/devicetree")
# Another checkout may still have the fragment of the one before.
_KEPT_TREES = 2


def part(cache: Cache, initramfs: Path, flavour: str) -> Part:
    """`Bootx64.efi`, `config`, `version`, `modules/VERSION/` and `font-8x16.bin`, the font of its screen.

    From a fragment over allnoconfig, the flavour's options and an initramfs.
    """
    options = _HERE / f"{flavour}.config"
    source = debian.single(_SOURCE, cache)
    compiler = command.capture(["gcc", "-dumpfullversion"]).strip()
    tree_inputs = {
        "source": f"{source.file} {source.digest}",
        "fragment": digest_of(_HERE / "fragment.config"),
        "gcc": compiler,
    }
    # Only what all objects depend on names the tree: a changed initramfs is linked in without compiling again.
    tree = Part("kernel-tree", tree_inputs, lambda _: None)

    def make(place: Path) -> None:
        with cache.locked("kernel-tree"):
            _build(cache, source, f"kernel-{tree.key}", initramfs, options, place)

    return Part(
        f"kernel-{flavour}",
        {
            **tree_inputs,
            "flavour": digest_of(options),
            "version": source.version,
            "initramfs": digest_of(initramfs),
            "recipe": digest_of(Path(__file__), Path(font.__file__)),
        },
        make,
    )


def _build(cache: Cache, source: debian.Archive, name: str, initramfs: Path, options: Path, place: Path) -> None:
    workspace = cache.workspace(name)
    log = cache.logs / "kernel.log"
    tree = _unpacked(cache, source, workspace, log)
    objects = workspace / "objects"
    objects.mkdir(exist_ok=True)
    shutil.copyfile(initramfs, objects / "initramfs.cpio")
    make: list[str | Path] = ["make", "-s", "-C", tree, f"O={objects}"]
    # Equal inputs give equal bytes, whoever builds and when.
    env = {"KBUILD_BUILD_TIMESTAMP": "1970-01-01", "KBUILD_BUILD_USER": "kios", "KBUILD_BUILD_HOST": "images"}
    asked = workspace / "asked.config"
    asked.write_text((_HERE / "fragment.config").read_text() + options.read_text())
    command.run([*make, f"KCONFIG_ALLCONFIG={asked}", "allnoconfig"], log=log, env=env)
    _check_config(objects / ".config", asked)
    command.run([*make, f"-j{os.cpu_count()}", "bzImage", "modules"], log=log, env=env)
    installed = place / "installed"
    command.run([*make, f"INSTALL_MOD_PATH={installed}", "modules_install"], log=log, env=env)
    (version,) = (installed / "lib/modules").iterdir()
    (version / "build").unlink(missing_ok=True)
    (installed / "lib/modules").rename(place / "modules")
    shutil.rmtree(installed)
    shutil.copyfile(objects / "arch/x86/boot/bzImage", place / "Bootx64.efi")
    shutil.copyfile(objects / ".config", place / "config")
    (place / "version").write_text(version.name)
    (place / "font-8x16.bin").write_bytes(font.extract(tree / "lib/fonts/font_8x16.c"))
    os.utime(workspace)
    _drop_old_trees(workspace.parent)


def _unpacked(cache: Cache, source: debian.Archive, workspace: Path, log: Path) -> Path:
    tree = workspace / "source"
    if tree.exists():
        return tree
    (package,) = debian.fetch([source], cache)
    unpacking = workspace / "unpacking"
    shutil.rmtree(unpacking, ignore_errors=True)
    debian.unpack([package], unpacking / "package", log)
    (archive,) = (unpacking / "package/usr/src").glob(f"{_SOURCE}.tar.*")
    excluded: Sequence[str] = [f"--exclude={pattern}" for pattern in _LEFT_OUT]
    command.run(["tar", "-x", "-C", unpacking, "-f", archive, *excluded], log=log)
    (unpacking / _SOURCE).rename(tree)
    shutil.rmtree(unpacking)
    return tree


def _check_config(config: Path, asked: Path) -> None:
    got = set(config.read_text().splitlines())
    lines = [line for line in asked.read_text().splitlines() if line.startswith("CONFIG_")]
    # A flavour may set what the fragment sets.
    last = {line.partition("=")[0]: line for line in lines}.values()
    lost = [line for line in last if line not in got and not line.endswith("=n")]
    if lost:
        raise BuildError(
            f"This kernel source does not take {', '.join(lost)}.",
            "An option was renamed or lacks a dependency: mend the fragment.",
        )


def _drop_old_trees(work: Path) -> None:
    trees = sorted(work.glob("kernel-*"), key=lambda tree: tree.stat().st_mtime, reverse=True)
    for old in trees[_KEPT_TREES:]:
        shutil.rmtree(old, ignore_errors=True)
