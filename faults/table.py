"""The fault matrix as data: every fault by its name, the families one behind the other."""

from faults import disks, machines, manifests, networks, nodes, world
from faults.fault import Fault

FAMILIES = {
    "manifest": manifests.FAULTS,
    "image and disk": disks.FAULTS,
    "machine": machines.FAULTS,
    "network": networks.FAULTS,
    "node": nodes.FAULTS,
    "the harness's own world": world.FAULTS,
}
FAULTS: dict[str, Fault] = {name: fault for family in FAMILIES.values() for name, fault in family.items()}
# One for each way in which the truth is found, all on clones: minutes, for every run of CI.
SHORT = ("boot-bin", "dhcp-route", "logs-crio", "clone-shared", "order-failure")
