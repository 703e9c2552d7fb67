"""The container images of a node, with the names, tags and entry points that kiOS's documentation uses."""

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from images import command, debian, elf, oci
from images.cache import Cache, Part, digest_of
from images.containers import parted

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Materials:
    """What an image is made from: unpacked packages, the part it builds on (an empty folder if none), and a log."""

    system: Path
    built: Path
    log: Path


Install = Callable[[Materials, Path], None]


@dataclass(frozen=True)
class Recipe:
    """How one image is made: what it is made from, and what installs that into its root."""

    image: oci.Image
    install: Install
    packages: Sequence[str] = ()
    builds_on: Callable[[Cache], Part] | None = None

    @property
    def short_name(self) -> str:
        """`dhcp` for `docker.io/emilyls/dhcp:9.4.1`."""
        return self.image.name.rpartition("/")[2].partition(":")[0]


def _from_package(places: Sequence[str], path: str) -> Install:
    """Installs a program, found at one of its places in the packages, with the libraries it needs."""

    def install(materials: Materials, root: Path) -> None:
        elf.install([(_existing(materials.system, places), path)], materials.system, root)

    return install


def _from_source(name: str, path: str) -> Install:
    """Installs a static program of our own, one C file."""
    return lambda materials, root: _compile([_HERE / name / f"{name}.c"], root / path, materials.log)


def _compile(sources: Sequence[Path], program: Path, log: Path) -> None:
    program.parent.mkdir(parents=True, exist_ok=True)
    argv: list[str | Path] = ["gcc", "-std=gnu11", "-Os", "-static", "-s", "-Wall", "-Wextra", "-o", program]
    command.run([*argv, *sources], log=log)


def _install_parted(materials: Materials, root: Path) -> None:
    elf.copy(materials.built / "parted", root / "sbin/parted")


def _install_dhcpcd(materials: Materials, root: Path) -> None:
    _from_package(["sbin/dhcpcd", "usr/sbin/dhcpcd"], "sbin/dhcpcd")(materials, root)
    for folder in ("etc", "run", "tmp", "var/lib", "var/db/dhcpcd"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    # The page mounts volumes at /var/run/dhcpcd and /var/db/dhcpcd; Debian's dhcpcd keeps its files elsewhere.
    (root / "var/run").symlink_to("/run")
    (root / "run/dhcpcd").mkdir()
    (root / "var/lib/dhcpcd").symlink_to("/var/db/dhcpcd")
    shutil.copyfile(_HERE / "dhcp/dhcpcd.conf", root / "etc/dhcpcd.conf")


def _install_console(materials: Materials, root: Path) -> None:
    for source in (_HERE / "console").glob("*.c"):
        _compile([source], root / "bin" / source.stem, materials.log)
    _compile(sorted((_HERE / "console/agent").glob("*.c")), root / "bin/console", materials.log)
    _install_busybox(materials, root)


def _install_agetty(materials: Materials, root: Path) -> None:
    elf.install([(_existing(materials.system, ["sbin/agetty", "usr/sbin/agetty"]), "sbin/agetty")], materials.system, root)
    _install_busybox(materials, root)
    _install_settings("agetty", root)


def _install_sshd(materials: Materials, root: Path) -> None:
    # Debian 13 has split what serves one connection off into programs of its own.
    helpers = [path for path in (materials.system / "usr/lib/openssh").glob("sshd-*") if path.is_file()]
    programs = [materials.system / "usr/sbin/sshd", *helpers]
    installed = [(program, str(program.relative_to(materials.system))) for program in programs]
    elf.install(installed, materials.system, root)
    _install_busybox(materials, root)
    _install_settings("sshd", root)
    (root / "run/sshd").mkdir(parents=True)


def _install_udev(materials: Materials, root: Path) -> None:
    """udevd and udevadm are one program; of the rules, those that load drivers: kiOS leaves eth0 its kernel's name."""
    udevadm = _existing(materials.system, ["bin/udevadm", "usr/bin/udevadm"])
    elf.install([(udevadm, "sbin/udevadm")], materials.system, root)
    (root / "sbin/udevd").symlink_to("udevadm")
    rules = root / "lib/udev/rules.d"
    rules.mkdir(parents=True)
    for name in ("50-udev-default.rules", "80-drivers.rules"):
        shutil.copyfile(_existing(materials.system, [f"lib/udev/rules.d/{name}", f"usr/lib/udev/rules.d/{name}"]), rules / name)
    (root / "usr/lib").mkdir(parents=True, exist_ok=True)
    (root / "usr/lib/udev").symlink_to("/lib/udev")
    for folder in ("etc/udev", "run/udev"):
        (root / folder).mkdir(parents=True)


def _install_busybox(materials: Materials, root: Path) -> None:
    elf.copy(_existing(materials.system, ["bin/busybox", "usr/bin/busybox"]), root / "bin/busybox")
    for applet in command.capture([root / "bin/busybox", "--list"]).split():
        if not (root / "bin" / applet).exists():
            (root / "bin" / applet).symlink_to("busybox")
    for folder in ("tmp", "proc", "sys", "dev", "host"):
        (root / folder).mkdir(exist_ok=True)


def _install_settings(name: str, root: Path) -> None:
    """Copies the files under `NAME/etc` here to `/etc` in the image."""
    shutil.copytree(_HERE / name / "etc", root / "etc", dirs_exist_ok=True)


RECIPES = (
    Recipe(oci.Image("docker.io/emilyls/dhcp:9.4.1", ["dhcpcd", "-B"]), _install_dhcpcd, ["dhcpcd-base"]),
    Recipe(
        oci.Image("docker.io/emilyls/modprobe:v1-alpha1", ["modprobe"]),
        _from_package(["bin/kmod", "usr/bin/kmod"], "sbin/modprobe"),
        ["kmod"],
    ),
    Recipe(oci.Image("docker.io/emilyls/parted:v2", ["parted"]), _install_parted, builds_on=parted.part),
    Recipe(
        oci.Image("docker.io/emilyls/resize2fs:v1", ["resize2fs"]),
        _from_package(["sbin/resize2fs", "usr/sbin/resize2fs"], "sbin/resize2fs"),
        ["e2fsprogs"],
    ),
    Recipe(oci.Image("docker.io/emilyls/tinycat:v1-alpha2", ["tinycat"], ["/in"]), _from_source("tinycat", "bin/tinycat")),
    Recipe(oci.Image("registry.k8s.io/pause:3.6", ["/pause"]), _from_source("pause", "pause")),
    Recipe(oci.Image("docker.io/emilyls/udev:v1-amd64", ["udevd"]), _install_udev, ["udev"]),
    Recipe(oci.Image("localhost/kios-e2e/console:v1", ["/bin/console"]), _install_console, ["busybox-static"]),
    Recipe(oci.Image("localhost/kios-e2e/agetty:v1", ["agetty"]), _install_agetty, ["util-linux", "busybox-static"]),
    Recipe(
        oci.Image("localhost/kios-e2e/sshd:v1", ["/usr/sbin/sshd", "-D", "-e"]),
        _install_sshd,
        ["openssh-server", "busybox-static"],
    ),
)

# What a released disk has: the images that kiOS's page on static pods names, and the sandbox of every pod.
RELEASED = ("dhcp", "modprobe", "parted", "resize2fs", "tinycat", "pause")


def parts(cache: Cache) -> list[tuple[Recipe, Part]]:
    """For each recipe its part: `root/`, the image's files, and `packages.txt`."""
    return [(recipe, _part(cache, recipe)) for recipe in RECIPES]


def _part(cache: Cache, recipe: Recipe) -> Part:
    archives = debian.closure(recipe.packages, cache) if recipe.packages else ()
    base = recipe.builds_on(cache) if recipe.builds_on else None

    def make(place: Path) -> None:
        log = cache.logs / f"{recipe.short_name}.log"
        system = debian.unpack(debian.fetch(archives, cache), place / "system", log)
        root = place / "root"
        root.mkdir()
        recipe.install(Materials(system, cache.get(base) if base else system, log), root)
        (place / "packages.txt").write_text("".join(f"{a.package} {a.version}\n" for a in archives))
        shutil.rmtree(system)

    inputs = {
        "image": repr(recipe.image),
        "packages": " ".join(f"{a.file} {a.digest}" for a in archives),
        "recipe": digest_of(*_sources_of(recipe)),
        "builds on": base.key if base else "",
    }
    return Part(f"container-{recipe.short_name}", inputs, make)


def _sources_of(recipe: Recipe) -> Iterable[Path]:
    folder = _HERE / recipe.short_name
    return (Path(__file__), folder) if folder.is_dir() else (Path(__file__),)


def _existing(system: Path, places: Sequence[str]) -> Path:
    return next((system / place for place in places if (system / place).exists()), system / places[0])
