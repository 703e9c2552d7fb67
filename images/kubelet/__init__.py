"""The kubelet: Kubernetes' own, as a Go module, with the two things in which kiOS's differs."""

import shutil
from pathlib import Path

from images import command, go
from images.cache import Cache, Part, digest_of

_HERE = Path(__file__).parent
_MODULE = "k8s.io/kubernetes"
_INHIBITOR = "pkg/kubelet/nodeshutdown/systemd/inhibit_linux.go"


def part(cache: Cache) -> Part:
    """`kubelet`, static."""
    compiler = go.find()
    version = go.required(_HERE / "go.mod", _MODULE)

    def make(place: Path) -> None:
        work, log = place / "work", cache.logs / "kubelet.log"
        work.mkdir()
        for name in ("go.mod", "go.sum", "main.go"):
            shutil.copyfile(_HERE / name, work / name)
        # Go lets nothing in its module cache be replaced: vendored, the module's files can be patched.
        command.run([compiler, "mod", "vendor"], cwd=work, env=go.environment(), log=log)
        module = work / "vendor" / _MODULE
        command.run(["patch", "-p1", "-d", module, "-i", _HERE / "static-pod-name.patch"], log=log)
        shutil.copyfile(_HERE / "inhibitor/inhibit_linux.go", module / _INHIBITOR)
        command.run(
            [
                compiler,
                "build",
                "-mod=vendor",
                "-trimpath",
                go.parallel(),
                "-ldflags",
                _stamp(version),
                "-o",
                place / "kubelet",
                ".",
            ],
            cwd=work,
            env={**go.environment(), "CGO_ENABLED": "0"},
            log=log,
        )
        shutil.rmtree(work)

    return Part("kubelet", {"version": version, "recipe": digest_of(_HERE), "go": go.version(compiler)}, make)


def _stamp(version: str) -> str:
    package = "k8s.io/component-base/version"
    major, minor, _ = version.removeprefix("v").split(".", 2)
    return f"-s -w -X {package}.gitVersion={version} -X {package}.gitMajor={major} -X {package}.gitMinor={minor}"
