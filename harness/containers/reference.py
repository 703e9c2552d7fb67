"""The name of a container image, read as CRI-O does (distribution/reference 0.6: normalize.go, regexp.go)."""

import re
from dataclasses import dataclass

from harness.errors import InputError

_HUB = "docker.io"
_OLD_HUB = "index.docker.io"
_DOMAIN = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\])(?::[0-9]+)?"
_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_PATH = rf"{_COMPONENT}(?:/{_COMPONENT})*"
# The digests are those of opencontainers/go-digest.
_DIGEST = "sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128}"
_REFERENCE = re.compile(rf"({_DOMAIN}/({_PATH}))(?::(\w[\w.-]{{0,127}}))?(?:@({_DIGEST}))?", re.ASCII)
_LONGEST_PATH = 255
# Such a name would be taken for the id of an image.
_ID = re.compile("[0-9a-f]{64}")
_PREFIX = re.compile(rf"{_DOMAIN}(?:/{_PATH})?")


@dataclass(frozen=True)
class Reference:
    """A full name: the repository with its registry, as `docker.io/emilyls/parted`, and a tag or, if it is empty, a digest."""

    repository: str
    tag: str
    digest: str

    def __str__(self) -> str:
        return f"{self.repository}:{self.tag}" if self.tag else f"{self.repository}@{self.digest}"


def parse(name: str) -> Reference:
    """Reads a name as it is in a manifest; raises InputError if it is invalid.

    Defaults are the registry docker.io, there the folder `library/`, and the tag `latest`; a digest overrides a tag. CRI-O
    itself accepts a name without a registry only if its registries.conf says where to look.
    """
    match = _REFERENCE.fullmatch(_with_registry(name))
    if match is None or len(match[2]) > _LONGEST_PATH or _ID.fullmatch(name):
        raise InputError(f"{name!r:.100} is no name of a container image: it is [HOST/]PATH[:TAG][@DIGEST], PATH in lower case")
    repository, _, tag, digest = match.groups()
    return Reference(repository, "" if digest else tag or "latest", digest or "")


def is_prefix(text: str) -> bool:
    """Whether `text` can be the beginning of image names: a registry, with or without a path."""
    return _PREFIX.fullmatch(text) is not None


def is_short(name: str) -> bool:
    """Whether a name has no registry, so that CRI-O finds it only if its registries.conf says where to look."""
    first, slash, _ = name.partition("/")
    return not (slash and (first == "localhost" or set(".:") & set(first) or first != first.lower()))


def _with_registry(name: str) -> str:
    first, _, rest = name.partition("/")
    registry, path = (_HUB, name) if is_short(name) else (first, rest)
    if registry == _OLD_HUB:
        registry = _HUB
    if registry == _HUB and "/" not in path:
        path = f"library/{path}"
    return f"{registry}/{path}"
