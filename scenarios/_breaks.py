"""Every scenario has to fail when what it checks is broken: `python -m scenarios._breaks [NAME...]` sees to it.

Each break is one run of pytest that this file, as a plugin, sabotages; the scenario must fail, with words that name the
damage. docs/scenarios.md has the same list as a table (`--table`).
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Protocol

import pytest

from harness import tools
from harness.lab.maker import NodeMaker
from harness.lab.node import Node, Order
from harness.lab.template import Templates
from harness.manifests import manifest
from harness.manifests import page as pages
from harness.manifests.manifest import Reading
from harness.manifests.page import Page
from harness.manifests.pods import StaticPod
from harness.storage.disk import open_image
from harness.vm.wire import Wire

_ROOT = Path(__file__).parent.parent
_NAME = "KIOS_E2E_BREAK"


class Sabotage(Protocol):
    """A way to break something: in words, and done to the harness of this process."""

    def told(self) -> str: ...
    def apply(self, patch: pytest.MonkeyPatch) -> None: ...


@dataclass(frozen=True)
class Command:
    """A command in the node, as soon as the scenario has it up."""

    command: str

    def told(self) -> str:
        return f"in the node: `{self.command}`"

    def apply(self, patch: pytest.MonkeyPatch) -> None:
        done: set[int] = set()

        def sabotage(node: Node) -> None:
            if id(node) not in done:
                done.add(id(node))
                assert node.run(self.command).status == 0, "the sabotage failed"

        clone, ready = NodeMaker.clone, Node.wait_until_ready

        def sabotaged_clone(maker: NodeMaker, templates: Templates, order: Order) -> Node:
            node = clone(maker, templates, order)
            sabotage(node)
            return node

        def sabotaged_ready(node: Node) -> None:
            ready(node)
            # A template has to stay whole, for the scenarios that come after.
            if node.artifacts.name != "template":
                sabotage(node)

        patch.setattr(NodeMaker, "clone", sabotaged_clone)
        patch.setattr(Node, "wait_until_ready", sabotaged_ready)


@dataclass(frozen=True)
class Edit:
    """Another text in every manifest that has the old one."""

    old: str
    new: str

    def told(self) -> str:
        return f"in the manifest: {_shown(self.new)} for {_shown(self.old)}"

    def apply(self, patch: pytest.MonkeyPatch) -> None:
        def edited(file: Path) -> Reading:
            return manifest.check(file, file.read_text().replace(self.old, self.new).encode())

        patch.setattr(manifest, "read", edited)


@dataclass(frozen=True)
class PageEdit:
    """Another text on kiOS's page."""

    old: str
    new: str

    def told(self) -> str:
        return f"on the page: {_shown(self.new)} for {_shown(self.old)}"

    def apply(self, patch: pytest.MonkeyPatch) -> None:
        read = pages.read

        def edited(file: Path) -> Page:
            with tempfile.NamedTemporaryFile("w", suffix=".md") as other:
                other.write(file.read_text().replace(self.old, self.new))
                other.flush()
                return read(Path(other.name))

        patch.setattr(pages, "read", edited)


@dataclass(frozen=True)
class Idle:
    """A verb that does nothing; what it is asked for does not come about."""

    owner: type
    verb: str

    def told(self) -> str:
        return f"`{self.owner.__name__}.{self.verb}` does nothing"

    def apply(self, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(self.owner, self.verb, lambda owner, *_: owner)


@dataclass(frozen=True)
class NoLoader:
    """An image without its EFI binary."""

    def told(self) -> str:
        return "an image without `EFI/Boot/Bootx64.efi`"

    def apply(self, patch: pytest.MonkeyPatch) -> None:
        prepare = NodeMaker.prepare
        folder = tempfile.TemporaryDirectory(prefix="kios-e2e-break-")

        def without(maker: NodeMaker, order: Order) -> Node:
            image = order.image
            broken = Path(folder.name) / "broken.img"
            tools.run("cp", "--sparse=always", image.path, broken)
            tools.run("mdel", "-i", f"{broken}@@{image.esp.first * image.table.sector_size}", "::EFI/Boot/Bootx64.efi")
            return prepare(maker, replace(order, image=open_image(broken)))

        patch.setattr(NodeMaker, "prepare", without)


@dataclass(frozen=True)
class OnTheDisk:
    """A file on the data partition of every node that boots."""

    path: str
    content: str

    def told(self) -> str:
        return f"on the data partition: {self.path} with `{self.content}`"

    def apply(self, patch: pytest.MonkeyPatch) -> None:
        prepare = NodeMaker.prepare

        def with_it(maker: NodeMaker, order: Order) -> Node:
            return prepare(maker, replace(order, files={**order.files, PurePosixPath(self.path): self.content.encode()}))

        patch.setattr(NodeMaker, "prepare", with_it)


@dataclass(frozen=True)
class OneForAll:
    """Every clone is the same node."""

    def told(self) -> str:
        return "every clone is one and the same node"

    def apply(self, patch: pytest.MonkeyPatch) -> None:
        clone = NodeMaker.clone
        made: list[Node] = []

        def same(maker: NodeMaker, templates: Templates, order: Order) -> Node:
            made[:] = made or [clone(maker, templates, order)]
            return made[0]

        patch.setattr(NodeMaker, "clone", same)


@dataclass(frozen=True)
class Break:
    """What is broken, for the scenario in `file` that `keyword` selects (pytest's -k), and the words of its failure."""

    file: str
    keyword: str
    how: Sabotage
    words: str


_STEAL_CRIO = Command("(while cat /host/var/run/crio.log; do :; done) > /dev/null 2>&1 &")
_STEAL_KUBELET = Command("(while cat /host/var/run/kubelet.log; do :; done) > /dev/null 2>&1 &")
_NO_BUTTON = Edit("    - tiny-power-button\n", "")
_HALF = Edit("    - 100%\n", "    - 70%\n")
_ANONYMOUS = "sed -i 's/^authentication:/authentication:\\n  anonymous: {enabled: true}/' /host/etc/kubernetes/config.yaml"


def _sshd_with(option: str) -> Edit:
    image = "    image: localhost/kios-e2e/sshd:v1\n"
    words = [word for setting in option.split("; ") for word in ("-o", setting)]
    return Edit(image, image + "    args:\n" + "".join(f"    - {word}\n" for word in words))


def _side_car(name: str) -> Edit:
    return Edit(f"  - name: {name}\n", f"  - name: {name}\n    restartPolicy: Always\n")


BREAKS = {
    "boot-loader": Break("boot", "firmware_starts", NoLoader(), "the firmware found nothing to boot"),
    "boot-user": Break("boot", "as_at_a_users", NoLoader(), "milestone firmware: it did not happen"),
    "boot-kubelet": Break(
        "boot",
        "firmware_starts",
        OnTheDisk("/meta/etc/kubernetes/config.yaml", "kind: Nonsense"),
        "init started kubelet 5 times",
    ),
    "boot-programs": Break(
        "boot", "host_runs", Command("(echo 0 > /host/sys/fs/cgroup/cgroup.procs; exec sleep 999) & sleep 1"), "'sleep'"
    ),
    "boot-bin": Break("boot", "bin_holds", Command("touch /host/bin/sh"), "there is also sh"),
    "boot-plugin": Break("boot", "on_its_own", Command("d=/host/etc/cni/net.d; mkdir -p $d; touch $d/a.conf"), r"a\.conf"),
    "dhcp-record": Break(
        "dhcp", "three_sides", Edit("mountPath: /var/db/dhcpcd", "mountPath: /var/db/other"), "record of its lease"
    ),
    "dhcp-route": Break("dhcp", "settings_outlive", Command("ip route del default"), "the default route is '10"),
    "dhcp-stays": Break(
        "dhcp", "settings_outlive", Edit("    - --oneshot\n", "    - --nobackground\n"), "milestone node/dhcpcd"
    ),
    "dhcp-server": Break("dhcp", "without_a_server", Idle(Wire, "unblock"), "milestone node/dhcpcd"),
    "dhcp-answers": Break("dhcp", "without_a_server", Idle(Wire, "block"), "a second DISCOVER"),
    "dhcp-cable": Break("dhcp", "without_a_cable", Idle(Wire, "plug"), "milestone node/dhcpcd"),
    "dhcp-carrier": Break("dhcp", "without_a_cable", Idle(Wire, "unplug"), "eth0 is up without a carrier"),
    "modules-before": Break("modules", "without_the_modules", Command("chroot /host /bin/modprobe binfmt-script"), "== 8"),
    "modules-script": Break("modules", "script_executes", Edit("    - binfmt-script\n", ""), "binfmt_script"),
    "modules-button": Break("modules", "power_button", _NO_BUTTON, "power-off by the guest: it did not happen"),
    "modules-farewell": Break("modules", "power_button", Edit("sleep 1; echo stopped in order", "exit 1; echo"), "farewell"),
    "modules-name": Break("modules", "is_named", Idle(StaticPod, "with_args"), "DID NOT RAISE"),
    "logs-crio": Break("logs", "complete and crio", _STEAL_CRIO, "the lines written to crio.log"),
    "logs-kubelet": Break("logs", "complete and kubelet", _STEAL_KUBELET, "the lines written to kubelet.log"),
    "logs-before": Break("logs", "from_before", _STEAL_CRIO, "the lines written to crio.log before"),
    "logs-restart": Break("logs", "outlives_a_restart", Command("rm /host/run/system.sock"), "assert 1 == 0"),
    "logs-strangers": Break(
        "logs",
        "strangers",
        Command(f"{_ANONYMOUS}; p=$(pidof kubelet); kios-system 3; while [ $p = $(pidof kubelet) ]; do :; done"),
        "Regex pattern did not match",
    ),
    "order-overlap": Break("order", "waits_for", _side_car("modprobe"), "started before modprobe had ended"),
    "order-failure": Break("order", "holds_back", Idle(StaticPod, "with_args"), "DID NOT RAISE"),
    "hardening-more": Break(
        "hardening",
        "one_shot",
        Edit(
            "    securityContext:\n      readOnlyRootFilesystem: true\n      capabilities:\n        drop:\n"
            "        - ALL\n        add:\n        - SYS_MODULE\n",
            "    securityContext:\n      readOnlyRootFilesystem: true\n"
            "      capabilities:\n        add:\n        - SYS_MODULE\n",
        ),
        "modprobe may do 0x",
    ),
    "hardening-root": Break(
        "hardening",
        "log_containers",
        Edit("readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false"),
        "can be written to",
    ),
    "console-driver": Break(
        "console", "login", Edit('    - "8250"\n', "    - virtio_net\n"), "container agetty of pod console"
    ),
    "ssh-commands": Break("ssh", "commands", _sshd_with("ForceCommand=/bin/false"), "b'out"),
    "ssh-files": Break("ssh", "files_up", _sshd_with("ForceCommand=/bin/false"), "EOFError|SSHException|Error"),
    "ssh-strangers": Break(
        "ssh",
        "another_key",
        _sshd_with("AuthorizedKeysCommand=/bin/echo %t %k; AuthorizedKeysCommandUser=root"),
        "DID NOT RAISE",
    ),
    "udev-modules": Break(
        "udev",
        "hot_plugged",
        Edit(
            "mountPath: /lib/modules\n      readOnly: true\n    - name: control",
            "mountPath: /other\n      readOnly: true\n    - name: control",
        ),
        "igb .*eth1.*: it did not happen",
    ),
    "udev-none": Break("udev", "without_udev", Edit("    - e1000\n", "    - e1000\n    - igb\n"), "DID NOT RAISE"),
    "clone-clock": Break("clone", "live_and_true", Command("date -u -s '2026-01-01 00:00:00'"), "< 3"),
    "clone-resolver": Break(
        "clone", "resolver_of", Command("ip address flush dev eth0"), r"a question to 10\.0\.2\.3 on the wire: it did not"
    ),
    "clone-shared": Break("clone", "nobody_elses", OneForAll(), "assert 0 == 1"),
    "clone-power": Break("clone", "powered_off", _NO_BUTTON, "power-off by the guest: it did not happen"),
    "resize-table": Break("resize", "larger_disk and 4", _HALF, "the kernel sees partition 2 end"),
    "resize-content": Break("resize", "images_size", Command("echo > /host/etc/keepsakes/1"), "changed in the resize"),
    "resize-again": Break("resize", "second_boot", _HALF, "partition 2 did not grow"),
    "resize-2-tib": Break("resize", "2_tib", _HALF, "the kernel sees partition 2 end"),
    "resize-4096": Break("resize", "4096", _HALF, "the kernel sees partition 2 end"),
    "resize-parted": Break("resize", "without_parted", Idle(StaticPod, "without"), "DID NOT RAISE"),
    "resize-resize2fs": Break("resize", "without_resize2fs", Idle(StaticPod, "without"), "DID NOT RAISE"),
    "resize-number": Break("resize", "wrong_partition", Idle(StaticPod, "with_args"), "DID NOT RAISE"),
    "page-interface": Break("page", "page_runs", PageEdit("  - eth0\n", "  - eth9\n"), "container dhcpcd of pod node ended"),
}


def pytest_configure(config: pytest.Config) -> None:
    """Breaks what the environment names, for this process."""
    del config
    if name := os.environ.get(_NAME):
        BREAKS[name].how.apply(pytest.MonkeyPatch())


@dataclass(frozen=True)
class Outcome:
    """Whether a scenario failed as it should, and the line by which it is seen."""

    as_it_should: bool
    line: str


def _run(name: str, options: Sequence[str]) -> Outcome:
    """Runs one break."""
    broken = BREAKS[name]
    with tempfile.TemporaryDirectory(prefix="kios-e2e-break-") as folder:
        selected = [f"scenarios/{broken.file}.py", "-k", broken.keyword]
        argv = [sys.executable, "-m", "pytest", "-p", "scenarios._breaks", "-x", *selected, "--artifacts", folder, *options]
        done = subprocess.run(argv, cwd=_ROOT, env={**os.environ, _NAME: name}, capture_output=True, text=True, check=False)
    told = [line.removeprefix("E").strip() for line in done.stdout.splitlines() if line.startswith("E  ")]
    if done.returncode != 1:
        return Outcome(False, f"pytest ended with status {done.returncode}: {done.stdout.strip().splitlines()[-1:]}")
    seen = next((line for line in told if re.search(broken.words, line)), None)
    if seen is None:
        return Outcome(False, f"it failed without the words {broken.words!r}: {told[:3]}")
    return Outcome(True, f"failed, as it should: {seen[:200]}")


def _shown(text: str) -> str:
    return f"`{' '.join(text.split())}`" if text.strip() else "nothing"


def main() -> int:
    """Runs the command line; returns 1 if a scenario did not fail as it should."""
    parser = argparse.ArgumentParser(description="Breaks what scenarios check, and sees whether they fail.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BREAKS)} (default: all)")
    parser.add_argument("--page", metavar="FILE", help="kiOS's page, for those that break it")
    parser.add_argument("--table", action="store_true", help="print the list as a table, and run nothing")
    arguments = parser.parse_args()
    if arguments.table:
        print("| scenario | what is broken | the failure says |\n|---|---|---|")
        for broken in BREAKS.values():
            told = broken.how.told().replace("|", "\\|")
            print(f"| {broken.file}: `{broken.keyword}` | {told} | `{broken.words}` |".replace("`|", "`\\|"))
        return 0
    options = ["--page", str(Path(arguments.page).absolute())] if arguments.page else []
    names = arguments.names or [name for name, broken in BREAKS.items() if broken.file != "page" or options]
    with ThreadPoolExecutor(2) as pool:
        wrong = 0
        for name, outcome in zip(names, pool.map(lambda name: _run(name, options), names), strict=True):
            print(f"{name}: {outcome.line}", flush=True)
            wrong += not outcome.as_it_should
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
