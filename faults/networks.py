"""Faults of the network, and of what has a node on it: DHCP and its client, the cable, names."""

import tempfile
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path

from faults.edits import oneshot_with
from faults.fault import Fault
from faults.sabotage import Act, Edit, OpenNetwork, PageEdit, bad_registry, command
from faults.scenario import ADDED
from faults.stage import Stage
from harness import tools
from harness.lab.node import Node
from harness.verdict.timeline import Milestone, container_done
from harness.wire import match
from harness.wire.dhcp import Kind
from harness.wire.grant import Grant, as_bootp, for_another_client, from_another_mac, overloaded, relayed, with_another_xid
from harness.wire.site import Corrupt, Slow, Status, Trouble, Truncated


def _on_the_wire(words: str, do: Callable[[Node], object], says: str) -> Fault:
    return Fault(ADDED, Act(words, do), says, stage=Stage.STARTING)


def _bears(words: str, do: Callable[[Node], object]) -> Fault:
    """What a node has to bear."""
    return Fault(ADDED, Act(words, do), "", None)


def _on_the_registry(words: str, trouble: Trouble, pattern: str, says: str) -> Fault:
    return Fault(ADDED, bad_registry(words, trouble, pattern), says, stage=Stage.STARTING)


_SNTP = Path(__file__).with_name("sntp.c")


def _tell_another_time(node: Node) -> None:
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "sntp"
        tools.run("cc", "-static", "-Os", "-o", program, _SNTP)
        node.write("/run/sntp", program.read_bytes())
    node.wire.ntp(ahead=86400)
    node.succeed("cp /host/run/sntp /tmp && chmod +x /tmp/sntp && /tmp/sntp 192.0.2.123")


_MODPROBE = Milestone("node/modprobe", container_done("kube-system", "node", "modprobe"), 0)
_PULLED = "container pulled of pod node (cannot run: ErrImagePull|is waiting)"

FAULTS = {
    "dhcp-record": Fault(
        "dhcp.py::test_three_sides_of_the_lease_agree",
        Edit("mountPath: /var/db/dhcpcd", "mountPath: /var/db/other"),
        r"eth0\.lease` ended with status 1",
    ),
    "dhcp-route": Fault(
        "dhcp.py::test_settings_outlive_dhcpcd_and_the_hostname",
        command("ip route del default"),
        "the default route is via 10.0.2.2 dev eth0: it did not happen",
    ),
    "dhcp-stays": Fault(
        "dhcp.py::test_settings_outlive_dhcpcd_and_the_hostname",
        Edit("    - --oneshot\n", "    - --nobackground\n"),
        r"milestone node/dhcpcd: (it did not happen|nothing was heard)(?!.*(eth0|kubelet))",
        stage=Stage.STARTING,
    ),
    "dhcp-static": Fault(
        "dhcp.py::test_without_a_server_the_node_waits_and_recovers",
        Edit("    - --oneshot\n", "    - --oneshot\n    - --static\n    - ip_address=10.0.2.15/24\n"),
        "a second DISCOVER, with no answer to the first: it did not happen",
        stage=Stage.STARTING,
    ),
    "dhcp-unasked": Fault(
        ADDED,
        oneshot_with("--ipv6only"),
        "node/dhcpcd: .*eth0 never asked for a lease",
        stage=Stage.STARTING,
    ),
    "dhcp-carrier": Fault(
        "dhcp.py::test_without_a_cable_the_node_waits_and_recovers",
        Edit("    - virtio_net\n", ""),
        "eth0 is up without a carrier",
        stage=Stage.STARTING,
    ),
    "dhcp-renewal": Fault(
        "dhcp.py::test_a_client_that_stays_renews_its_lease",
        Edit("    args:\n    - eth0\n", "    args:\n    - --oneshot\n    - eth0\n"),
        "a second REQUEST to keep the address that eth0 has: .*container dhcpcd of pod dhcp cannot run: CrashLoopBackOff",
    ),
    "dhcp-refused": Fault(
        "dhcp.py::test_a_lease_that_is_refused_is_given_up_for_another",
        Edit("    args:\n    - eth0\n", "    args:\n    - --static\n    - ip_address=10.0.2.15/24\n    - eth0\n"),
        "the address that it is given in place of the first: it did not happen",
    ),
    "dhcp-router": Fault(
        "dhcp.py::test_a_lease_without_a_router_has_no_default_route",
        oneshot_with("--static", "routers=10.0.2.2"),
        "a default route that no server gave",
    ),
    "dhcp-routes": Fault(
        "dhcp.py::test_the_mask_is_the_leases",
        oneshot_with("--nooption", "classless_static_routes"),
        r"no route to 10\.9\.0\.0/16",
    ),
    "dhcp-late": Fault(
        "dhcp.py::test_a_server_may_come_minutes_late",
        # It ends once, and its next run has the lease at last.
        command("(sleep 60; kill -9 $(pidof dhcpcd)) > /dev/null 2>&1 &"),
        "dhcpcd was started again",
        stage=Stage.STARTING,
    ),
    "dhcp-stray": Fault(
        "dhcp.py::test_a_second_server_changes_nothing",
        oneshot_with("--blacklist", "10.0.2.2"),
        r"the lease is of 10\.0\.2\.200",
        stage=Stage.STARTING,
    ),
    "dhcp-in-use": Fault(
        "dhcp.py::test_an_address_in_use_is_declined",
        oneshot_with("--noarp"),
        "a DECLINE of the address in use: it did not happen",
        stage=Stage.STARTING,
    ),
    "udev-modules": Fault(
        "udev.py::test_hot_plugged_card_gets_its_driver",
        Edit(
            "mountPath: /lib/modules\n      readOnly: true\n    - name: control",
            "mountPath: /other\n      readOnly: true\n    - name: control",
        ),
        "igb .*eth1.*: it did not happen",
    ),
    "udev-none": Fault(
        "udev.py::test_without_udev_it_has_none",
        Edit("    - e1000\n", "    - e1000\n    - igb\n"),
        "the card has a driver that udev did not load",
    ),
    "clone-resolver": Fault(
        "clone.py::test_ready_node_reaches_the_resolver_of_its_lease",
        command("ip address flush dev eth0"),
        r"a question to 10\.0\.2\.3 on the wire: it did not",
    ),
    "clone-host": Fault(
        "clone.py::test_ready_node_reaches_nothing_of_its_hosts", OpenNetwork(), "a connection from the node came through"
    ),
    "page-interface": Fault(
        "page.py::test_the_page_runs",
        PageEdit("  - eth0\n", "  - eth9\n"),
        "dhcpcd exited.*eth0 is down: nothing has brought it up",
        stage=Stage.STARTING,
    ),
    "wire-silent": _on_the_wire(
        "nothing comes through", lambda node: node.wire.block(), r"eth0 asked \d+ times for a lease, and nobody answered"
    ),
    "wire-unplugged": _on_the_wire(
        "the cable is taken out", lambda node: node.wire.unplug(), "node/dhcpcd: .*eth0 has no carrier"
    ),
    "wire-acks": _on_the_wire(
        "every ACK of the DHCP server is lost",
        lambda node: node.wire.drop(match.dhcp(Kind.ACK)),
        r"though it was answered: DISCOVER, OFFER, \d+ x REQUEST",
    ),
    "wire-naks": _on_the_wire(
        "a DHCP server that refuses each REQUEST",
        lambda node: node.wire.dhcp().refuse(),
        "answered: DISCOVER, OFFER, REQUEST, NAK",
    ),
    "wire-stranger": _on_the_wire(
        "answers to somebody else's question",
        lambda node: node.wire.dhcp(None, with_another_xid),
        "answered: (DISCOVER, OFFER, ){3}",
    ),
    "wire-other-client": _on_the_wire(
        "answers to another client",
        lambda node: node.wire.dhcp(None, for_another_client),
        "for a lease, and all answers are for 52:54:00:00:00:99",
    ),
    "wire-taken": _on_the_wire(
        "somebody has the address already", lambda node: node.wire.occupy("10.0.2.15"), "answered: .*?DECLINE"
    ),
    "wire-late": _bears("every frame comes a second late", lambda node: node.wire.slow(1, 0.2, seed=1)),
    "wire-loss": _bears("a fifth of the frames is lost", lambda node: node.wire.lose(0.2, seed=1)),
    "wire-twice": _bears("every frame comes twice", lambda node: node.wire.duplicate(match.everything)),
    "wire-order": _bears("frames overtake each other", lambda node: node.wire.reorder(match.everything)),
    "wire-corrupt": _bears("the first frames are corrupt", lambda node: node.wire.corrupt(match.everything, seed=1, first=6)),
    "wire-flap": _bears("the cable is out for some seconds", lambda node: node.wire.flap(_MODPROBE, 5)),
    "wire-relay": _bears(
        "answers that come through a relay", lambda node: node.wire.dhcp(None, relayed(IPv4Address("10.0.2.9")))
    ),
    "wire-other-card": _bears(
        "the server's answers come from another card", lambda node: node.wire.dhcp(None, from_another_mac)
    ),
    "wire-bootp": Fault(
        ADDED,
        Act("answers as of 1985, by BOOTP", lambda node: node.wire.dhcp(None, as_bootp)),
        "nobody offered; .*BOOTP, which leases nothing, gave it",
    ),
    "wire-first": _bears("the first two OFFERs are lost", lambda node: node.wire.drop(match.dhcp(Kind.OFFER), first=2)),
    "wire-late-offer": _bears("every OFFER comes five seconds late", lambda node: node.wire.delay(match.dhcp(Kind.OFFER), 5)),
    "wire-overload": _bears("options in the fields of other things", lambda node: node.wire.dhcp(None, overloaded)),
    "wire-settings": _bears(
        "two routers, two resolvers, a domain, a host name and times of its own",
        lambda node: node.wire.dhcp(
            Grant(
                routers=("10.0.2.2", "10.0.2.9"),
                dns_servers=("10.0.2.3", "10.0.2.4"),
                domain="kios.test",
                hostname="other",
                renew_after=3600,
                rebind_after=7200,
            )
        ),
    ),
    "wire-options": _bears("long options", lambda node: node.wire.dhcp(Grant(others=[(224, bytes(600))]))),
    "registry-401": _on_the_registry(
        "a registry that wants a password", Status(401), "/manifests/", f"{_PULLED}.*(401|authentication required|unauthorized)"
    ),
    "registry-404": _on_the_registry(
        "a registry that lacks an image", Status(404), "/manifests/", f"{_PULLED}.*StatusCode: 404"
    ),
    "registry-500": _on_the_registry("a registry that is broken", Status(500), "/manifests/", f"{_PULLED}.*HTTP status: 500"),
    "registry-cut": _on_the_registry(
        "a registry that cuts its answers short", Truncated(), "/blobs/", f"{_PULLED}.*unexpected EOF"
    ),
    "registry-digest": _on_the_registry(
        "a registry with another content than was named", Corrupt(), "/blobs/", f"{_PULLED}.*(digest|checksum)"
    ),
    "registry-slow": _on_the_registry(
        "a registry that sends 100 bytes a second",
        Slow(100),
        "/blobs/",
        "milestone node/pulled: (nothing was heard|it did not)",
    ),
    "wire-api": Fault(
        "exec.py::test_output_comes_whole",
        Act("nothing comes through to a node that is up", lambda node: node.wire.block()),
        "does not list its pods: .*handshake operation timed out(?!.*long packets)",
    ),
    "wire-mtu": Fault(
        "exec.py::test_output_comes_whole",
        Act("packets of more than 1400 bytes are lost on the way to a node that is up", lambda node: node.wire.mtu(1400)),
        "does not list its pods: .*long packets are lost: one of 1[45]",
    ),
    "wire-time": Fault(
        "clone.py::test_ready_node_is_live_and_true",
        Act("a time server that is a day ahead, and the node believes it", _tell_another_time),
        r"the node's clock is off by 86\d\d\d\.",
    ),
    "wire-names": Fault(
        "clone.py::test_ready_node_reaches_the_resolver_of_its_lease",
        Act("a resolver that knows no name", lambda node: node.wire.dns({})),
        "",
        None,
    ),
}
