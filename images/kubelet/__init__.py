"""The kubelet: Kubernetes' own, as a Go module, with the two things in which kiOS's differs; and its rules as a program.

`check/` is that program: the kubelet's reader and validator of static pods, out of the same sources, which the harness asks
about manifests. It is a part of its own: a change in it builds no kubelet.
"""

import hashlib
import os
import shutil
from pathlib import Path

from images import command, go
from images.cache import Cache, Part, digest_of
from images.errors import BuildError

CHECK = "kubelet-check"

_HERE = Path(__file__).parent
_MODULE = "k8s.io/kubernetes"
_PATCH = "static-pod-name.patch"
_MODULES = ("go.mod", "go.sum")
_INHIBITOR = "pkg/kubelet/nodeshutdown/systemd/inhibit_linux.go"
_READER = "pkg/kubelet/config/common.go"
# In the reader's copy: its package's name, and the validator's list as a list where the kubelet makes one text of it.
_COPIED = {
    "package config\n": "package source\n",
    'true, pod, fmt.Errorf("invalid pod: %v", errs)': 'true, pod, fmt.Errorf("invalid pod: %w", errs.ToAggregate())',
}


def part(cache: Cache) -> Part:
    """`kubelet`, static."""

    def make(place: Path) -> None:
        work, log = place / "work", cache.logs / "kubelet.log"
        module = _vendored(work, log)
        shutil.copyfile(_HERE / "inhibitor/inhibit_linux.go", module / _INHIBITOR)
        _build(work, ".", place / "kubelet", log)
        shutil.rmtree(work)

    return Part("kubelet", _inputs(*_MODULES, _PATCH, "main.go", "inhibitor"), make)


def check_part(cache: Cache) -> Part:
    """`kubelet-check`, static."""

    def make(place: Path) -> None:
        work, log = place / "work", cache.logs / f"{CHECK}.log"
        module = _vendored(work, log)
        shutil.copytree(_HERE / "check", work / "check")
        (work / "check/source/common.go").write_text(copied((module / _READER).read_text("utf-8")), "utf-8")
        _build(work, "./check", place / CHECK, log)
        shutil.rmtree(work)

    return Part(CHECK, _inputs(*_MODULES, _PATCH, "check"), make)


def find_check(cache: Cache) -> Path:
    """Returns the path of `kubelet-check`, made now if it is not there; the harness finds it by a link from then on."""
    program = cache.get(check_part(cache)) / CHECK
    link = check_link(cache)
    link.parent.mkdir(exist_ok=True)
    making = link.with_name(f".{link.name}.{os.getpid()}")
    making.unlink(missing_ok=True)
    making.symlink_to(program)
    making.rename(link)
    return program


def check_link(cache: Cache) -> Path:
    """The link's path, which these very sources name: harness/manifests/kubelet_rules.py makes the same name of them."""
    sources = sorted(file for file in _HERE.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    return cache.root / CHECK / hashlib.sha256(b"".join(file.read_bytes() for file in sources)).hexdigest()[:16]


def copied(reader: str) -> str:
    """The kubelet's reader as the program has it; raises BuildError for one in which there is not what is changed."""
    for old, new in _COPIED.items():
        if old not in reader:
            raise BuildError(f"{_READER} of {_MODULE} has no {old!r}.", "See what became of it, and change images/kubelet.")
        reader = reader.replace(old, new, 1)
    return reader


def _vendored(work: Path, log: Path) -> Path:
    """Makes a folder with the module and all that it needs; returns that of Kubernetes, with the patch of kiOS's names.

    Go lets nothing in its module cache be replaced: vendored, the module's files can be.
    """
    work.mkdir()
    for name in (*_MODULES, "main.go"):
        shutil.copyfile(_HERE / name, work / name)
    command.run([go.find(), "mod", "vendor"], cwd=work, env=go.environment(), log=log)
    module = work / "vendor" / _MODULE
    command.run(["patch", "-p1", "-d", module, "-i", _HERE / _PATCH], log=log)
    return module


def _build(work: Path, package: str, program: Path, log: Path) -> None:
    flags = ["-mod=vendor", "-trimpath", go.parallel(), "-ldflags", _stamp()]
    environment = {**go.environment(), "CGO_ENABLED": "0"}
    command.run([go.find(), "build", *flags, "-o", program, package], cwd=work, env=environment, log=log)


def _inputs(*names: str) -> dict[str, str]:
    sources = digest_of(*(_HERE / name for name in names), Path(__file__))
    return {"version": _version(), "recipe": sources, "go": go.version(go.find())}


def _version() -> str:
    return go.required(_HERE / "go.mod", _MODULE)


def _stamp() -> str:
    package = "k8s.io/component-base/version"
    version = _version()
    major, minor, _ = version.removeprefix("v").split(".", 2)
    return f"-s -w -X {package}.gitVersion={version} -X {package}.gitMajor={major} -X {package}.gitMinor={minor}"
