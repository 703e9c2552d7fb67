"""Debian's packages, taken as files: resolved and downloaded by apt from the machine's own sources, never installed."""

import os
import platform
import re
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from images import command
from images.cache import Cache
from images.errors import BuildError

_LISTS_STAY_FRESH = 12 * 3600
_URI_LINE = re.compile(r"^'(?P<uri>[^']+)' (?P<file>\S+) (?P<size>\d+) (?P<digest>\S*)$", re.MULTILINE)


@dataclass(frozen=True)
class Archive:
    """A package's file as apt names it: `NAME_VERSION_ARCH.deb`, and its digest in the form `SHA256:...`."""

    file: str
    digest: str

    @property
    def package(self) -> str:
        return self.file.split("_")[0]

    @property
    def version(self) -> str:
        """The version, with apt's escape of the epoch's colon undone."""
        return self.file.split("_")[1].replace("%3a", ":")


def suite() -> str:
    """The code name of the Debian this machine runs; raises BuildError on anything else."""
    release = platform.freedesktop_os_release()
    if release.get("ID") != "debian":
        raise BuildError(
            f"This is {release.get('PRETTY_NAME', 'no Debian')}: the reference image is made from Debian's packages.",
            "Build it on Debian 12 or 13, or in a Debian container.",
        )
    return release["VERSION_CODENAME"]


def closure(packages: Sequence[str], cache: Cache, of_suite: str | None = None) -> tuple[Archive, ...]:
    """Resolves packages and all they depend on, as on an empty machine, in the machine's suite or another."""
    options = _apt_options(cache, of_suite)
    output = _apt([*options, "-y", "--print-uris", "install", *packages])
    return tuple(sorted((Archive(m["file"], m["digest"]) for m in _URI_LINE.finditer(output)), key=lambda a: a.file))


def single(package: str, cache: Cache) -> Archive:
    """Resolves one package alone."""
    output = _apt([*_apt_options(cache, None), "--print-uris", "download", package])
    match = _URI_LINE.search(output)
    if match is None:
        raise BuildError(f"apt knows no download of {package}.", "Refresh its lists: sudo apt-get update")
    return Archive(match["file"], match["digest"])


def fetch(archives: Sequence[Archive], cache: Cache, of_suite: str | None = None) -> list[Path]:
    """Downloads what is not there yet; returns the files' paths in the same order."""
    folder = cache.workspace("debs")
    missing = [a for a in archives if not (folder / a.file).exists()]
    if missing:
        command.run(
            ["apt-get", *_apt_options(cache, of_suite), "download", *(f"{a.package}={a.version}" for a in missing)],
            cwd=folder,
            log=cache.logs / "apt.log",
        )
    return [folder / a.file for a in archives]


def unpack(files: Sequence[Path], folder: Path, log: Path) -> Path:
    """Unpacks packages over each other into `folder`, without their scripts."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        command.run(["dpkg-deb", "-x", file, folder], log=log)
    return folder


def upstream_source(package: str, cache: Cache) -> tuple[str, Path]:
    """Downloads the upstream archive of a source package of the machine's suite; returns its version and path.

    Debian's own changes are not asked for: a mirror may have dropped those of an update that its list still names.
    """
    # The machine's own sources seldom name source packages.
    options = _private_options(cache, "deb-src", suite())
    folder = cache.workspace("sources")
    asked = ["apt-get", *options, "source", "--download-only", "--tar-only", package]
    command.run(asked, cwd=folder, log=cache.logs / "apt.log")
    found = sorted(folder.glob(f"{package}_*.orig.tar.[!a]z"), key=lambda file: file.stat().st_mtime)
    if not found:
        raise BuildError(f"apt brought no source of {package}.", f"See {cache.logs / 'apt.log'}")
    return found[-1].name.partition("_")[2].partition(".orig.")[0], found[-1]


def _mirror() -> str:
    targets = _apt(["indextargets", "--format", "$(CODENAME) $(LABEL) $(SITE)", "Created-By: Packages"])
    for line in targets.splitlines():
        codename, label, site = [*line.split(maxsplit=2), "", ""][:3]
        if codename == suite() and label == "Debian":
            return site
    raise BuildError(f"apt has no source for Debian {suite()}.", "Add one to /etc/apt/sources.list.d and run apt-get update.")


def _apt_options(cache: Cache, of_suite: str | None) -> list[str]:
    if of_suite is not None and of_suite != suite():
        return _private_options(cache, "deb", of_suite)
    return _settings(cache, {})


def _private_options(cache: Cache, kind: str, of_suite: str) -> list[str]:
    """Lists of their own for what the machine's sources do not name, from its mirror; the machine's stay as they are."""
    folder = cache.workspace(f"apt-{kind}-{of_suite}")
    sources, lists = folder / "sources.list", folder / "lists"
    (lists / "partial").mkdir(parents=True, exist_ok=True)
    sources.write_text(f"{kind} {_mirror()} {of_suite} main\n")
    own = {"Dir::State::lists": lists, "Dir::Etc::sourcelist": sources, "Dir::Etc::sourceparts": os.devnull}
    options = _settings(cache, own)
    updated = folder / "updated"
    if not updated.exists() or time.time() - updated.stat().st_mtime > _LISTS_STAY_FRESH:
        command.run(["apt-get", *options, "update"], log=cache.logs / "apt.log")
        updated.touch()
    return options


def _settings(cache: Cache, more: Mapping[str, object]) -> list[str]:
    # An empty folder of archives: apt does not name what it already has.
    empty = cache.workspace("apt-archives")
    (empty / "partial").mkdir(exist_ok=True)
    settings = {
        "Dir::State::status": os.devnull,
        "Dir::Cache": empty,
        "Dir::Cache::archives": empty,
        "Debug::NoLocking": "1",
        "APT::Install-Recommends": "0",
        "APT::Sandbox::User": "root",
        **more,
    }
    return [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]


def _apt(arguments: Sequence[str]) -> str:
    try:
        return command.capture(["apt-get", *arguments])
    except BuildError as failed:
        raise BuildError(
            f"apt cannot do {shlex.join(arguments[-3:])}: {failed}",
            "Refresh its lists and try again: sudo apt-get update",
        ) from failed
