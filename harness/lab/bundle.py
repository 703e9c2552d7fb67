"""A failed node in one file: frozen where it failed, with all that it takes to bring it up elsewhere (docs/bundles.md).

What a bundle says comes from anywhere: it is checked here, and no command line is ever taken from it.
"""

import contextlib
import re
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from harness.containers import reference
from harness.containers.archive import ArchivedImage
from harness.errors import HarnessError, InputError
from harness.guest.credentials import Credentials
from harness.guest.kubelet_config import Settings
from harness.lab import digest, parcel, processor
from harness.lab.host import Host
from harness.lab.maker import facts_of
from harness.lab.node import Node
from harness.lab.order import Order
from harness.lab.parcel import TooLargeError
from harness.lab.remains import Remains
from harness.lab.template import Facts
from harness.manifests import manifest
from harness.manifests.pods import StaticPod
from harness.storage import overlay
from harness.storage.disk import Disk
from harness.verdict.timeline import Passed
from harness.vm.accelerator import WISHES
from harness.vm.machine import Machine

NAME = "FAIL.tar.zst"
# What all bundles in one folder of artifacts may take, in bytes.
LIMIT = 2 << 30
_FORMAT = 1
_DISK, _VARIABLES, _STATE, _DHCP = "disk.qcow2", "variables.fd", "state", "dhcp.pcap"
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MOST_WORDS = 20_000
# The year 9999.
_LATEST = 253_402_300_800

Say = Callable[[str], None]


@dataclass(frozen=True)
class Failure:
    """What failed: the test, the words of its failure, and what the run was made on, for whoever reads it elsewhere."""

    test: str
    words: str
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def sentence(self) -> str:
        """The verdict."""
        return self.words.partition("\n")[0]


@dataclass(frozen=True)
class Surroundings:
    """What a machine's state goes on in and nowhere else; `firmware` is the SHA-256 of its code."""

    qemu: str
    accelerator: str
    cpu: str
    processor: str
    firmware: str

    @classmethod
    def of(cls, host: Host) -> "Surroundings":
        """Those of this host's nodes."""
        return cls(
            ".".join(map(str, host.qemu.version)),
            host.accelerator.name,
            host.accelerator.cpu,
            processor.seen_by_guests(host.accelerator),
            digest.of(host.firmware.code),
        )

    def unlike(self, others: "Surroundings") -> str:
        """How the others differ from these, in words; nothing if they are the same."""
        pairs = zip(vars(self).items(), vars(others).values(), strict=True)
        return "; ".join(f"{name} {mine:.80} here, {theirs:.80} there" for (name, mine), theirs in pairs if mine != theirs)


@dataclass(frozen=True)
class Bundle:
    """A failed node as a bundle tells it: the failure, what the node is made of, and the milestones that it had passed.

    `image` is where the image was, `why_no_state` why there is nothing to go on from, if so, `facts` what its template would
    depend on.
    """

    failure: Failure
    node: str
    at: float
    image: Path
    image_sha256: str
    machine: Machine
    pods: Sequence[StaticPod]
    console_pod: StaticPod
    milestones: tuple[Passed, ...]
    surroundings: Surroundings
    why_no_state: str
    facts: Facts
    kubelet: Settings = field(default_factory=Settings)

    def on(self, network: str) -> "Bundle":
        """The same with its machine on another network: what it was on is no word of its user's here."""
        return replace(self, machine=replace(self.machine, network=network))

    def order(self, image: Disk, pods: Sequence[StaticPod]) -> Order:
        """The node with those of its pods; it had the container images of all of them."""
        names = [reference.parse(name) for pod in (*self.pods, self.console_pod) for name in pod.images]
        had = [ArchivedImage(Path(NAME), [name], [name.digest] if name.digest else [], 0, None, {}) for name in names]
        return Order(image, self.machine, pods, self.console_pod, {}, supplied=had, known_kubelet=self.kubelet)

    def remains(self, folder: Path, image: Path) -> Remains:
        """What is left of the node, in the folder where the bundle was unpacked.

        Raises InputError for a bad disk, and for credentials that are none.
        """
        try:
            overlay.adopt(folder / _DISK, image, self.machine.disk_size)
        except InputError:
            raise
        except HarnessError as refused:
            raise InputError(f"its disk cannot be read: {str(refused).partition('; run it by hand')[0]}") from refused
        credentials = Credentials(folder)
        try:
            # Without a password it asks nobody for one.
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(credentials.client, password="")
            _text(credentials.token)
        except (ssl.SSLError, ValueError) as unfit:
            raise InputError(f"its client certificate or its token is none: {unfit}.") from unfit
        return Remains(folder, credentials, self.milestones, folder / _DISK, folder / _VARIABLES, self.why_no_state)


def make(node: Node, failure: Failure, host: Host, place: Path, scratch: Path, limit: int, say: Say) -> None:
    """Ends a node where it is and makes a bundle of it at `place`, of `limit` bytes at most; `scratch` is an empty folder.

    Raises HarnessError where that cannot be; nothing of a bundle is left then.
    """
    if limit <= 0:
        raise TooLargeError("nothing is left of what bundles may take here")
    remains = node.leave(scratch)
    order = node.order
    told = {
        "format": _FORMAT,
        "test": failure.test,
        "words": failure.words[:_MOST_WORDS],
        "environment": dict(failure.environment),
        "node": node.name,
        "at": time.time(),
        "image": {"path": str(order.image.path.resolve()), "sha256": digest.of(order.image.path)},
        "machine": asdict(order.machine),
        "pods": [_told(pod) for pod in node.pods_given],
        "console_pod": _told(order.console_pod),
        "milestones": [asdict(entry) for entry in remains.milestones],
        "surroundings": asdict(Surroundings.of(host)),
        "why_no_state": remains.why_no_state,
        "facts": facts_of(order, host),
        "kubelet": {"manifests": str(order.kubelet.manifests), "port": order.kubelet.port},
    }
    files = {
        _VARIABLES: remains.variables,
        _DISK: remains.disk,
        _DHCP: remains.dhcp,
        **{file.name: file for file in remains.credentials.all_files()},
        **({_STATE: remains.state} if remains.state.exists() else {}),
        **{f"artifacts/{file.relative_to(node.artifacts)}": file for file in _left(node.artifacts, place)},
    }
    parcel.pack(place, told, files, limit, say)


def left(limit: int, folder: Path) -> int:
    """What a limit leaves beside the bundles that are below a folder, in bytes."""
    return max(0, limit - sum(file.stat().st_size for file in folder.rglob(NAME)))


def unpack(file: Path, folder: Path, say: Say = lambda _: None) -> Bundle:
    """Unpacks a bundle into a folder that it makes; raises InputError for what is none."""
    told = parcel.unpack(file, folder, say)
    try:
        bundle = _read(told)
        needed = {_DISK, _VARIABLES, _DHCP, *(each.name for each in Credentials(folder).all_files())}
        lacking = sorted(needed - {there.name for there in folder.iterdir()})
        if lacking or (folder / _STATE).exists() == bool(bundle.why_no_state):
            raise ValueError(f"it lacks {', '.join(lacking) or _STATE}")
    except (HarnessError, ValueError, KeyError, TypeError, AttributeError) as unfit:
        raise InputError(f"{file} is no bundle of a failed node, or of another format: {unfit}.") from unfit
    return bundle


def _told(pod: StaticPod) -> dict[str, str]:
    return {"file": pod.file, "text": pod.text().decode()}


def _left(artifacts: Path, place: Path) -> Sequence[Path]:
    return [file for file in sorted(artifacts.rglob("*")) if file.is_file() and not file.name.startswith(place.name)]


def _read(told: Mapping[str, Any]) -> Bundle:
    if told["format"] != _FORMAT:
        raise ValueError(f"format {told['format']!r}")
    machine = {**told["machine"], "kernel_arguments": tuple(map(_text, told["machine"]["kernel_arguments"]))}
    for name in ("disk_size", "sector_size", "memory", "cpus"):
        _whole(machine[name])
    if not _MAC.fullmatch(_text(machine["mac"])):
        raise ValueError("a MAC that is none")
    if not _SHA256.fullmatch(_text(told["image"]["sha256"])):
        raise ValueError("a SHA-256 that is none")
    if told["surroundings"]["accelerator"] not in WISHES:
        raise ValueError("an accelerator that is none")
    environment = {_text(name): _text(value) for name, value in told["environment"].items()}
    return Bundle(
        failure=Failure(_text(told["test"]), _text(told["words"]), environment),
        node=_text(told["node"]),
        at=_number(told["at"]),
        image=Path(_text(told["image"]["path"])),
        image_sha256=told["image"]["sha256"],
        machine=Machine(**machine),
        pods=[pod for each in told["pods"] if (pod := _pod(each))],
        console_pod=_pod(told["console_pod"]) or _refused("console_pod"),
        milestones=tuple(Passed(_text(each["name"]), _number(each["after"]), frozen=True) for each in told["milestones"]),
        surroundings=Surroundings(**{_text(name): _text(value) for name, value in told["surroundings"].items()}),
        why_no_state=_text(told["why_no_state"]),
        facts={_text(name): _text(value) for name, value in told["facts"].items()},
        kubelet=_kubelet(told["kubelet"]) if "kubelet" in told else Settings(),
    )


def _kubelet(told: Mapping[str, Any]) -> Settings:
    manifests, port = PurePosixPath(_text(told["manifests"])), told["port"]
    _whole(port)
    if not manifests.is_absolute() or not 0 < port < 1 << 16:
        raise ValueError("a kubelet that cannot be")
    return Settings(manifests, port)


def _pod(told: Mapping[str, Any]) -> StaticPod | None:
    """A pod; None for one that a scenario made so that no kubelet takes it."""
    file, text = _text(told["file"]), _text(told["text"]).encode()
    if Path(file).name != file or file.startswith("."):
        raise ValueError(f"a manifest of the name {file!r}")
    with contextlib.suppress(HarnessError):
        return StaticPod(file, manifest.check(Path(file), text).manifest(), text)
    return None


def _refused(what: str) -> Any:
    raise ValueError(f"{what} is none")


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{str(value)[:40]!r} is no text")
    return value


def _number(value: object) -> float:
    # No second beyond has a date.
    if type(value) not in (int, float) or not 0 <= value < _LATEST:  # type: ignore[operator] # a number by then
        raise TypeError(f"{str(value)[:40]!r} is no number of seconds")
    return float(value)  # type: ignore[arg-type]


def _whole(value: object) -> None:
    if type(value) is not int:
        raise TypeError(f"{str(value)[:40]!r} is no whole number")
