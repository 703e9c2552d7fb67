"""kiOS's page on static pods runs as it is written: `--page FILE` is its Markdown.

Its YAML is assembled as its text says; only what it leaves to the reader is added, from page-completion.yaml.
"""

from pathlib import Path

from harness.lab.maker import NewNode
from harness.lab.node import Node
from harness.manifests.completion import completed
from harness.manifests.page import read
from harness.storage.disk import Disk

COMPLETION = Path(__file__).parent / "page-completion.yaml"


def test_the_page_runs(new_node: NewNode, image: Disk, page: Path) -> None:
    """kiOS's page runs as it is written; if not, a user who follows it is the first to find out."""
    node = new_node(image, [completed(read(page), COMPLETION)], disk_size=4 * image.size)
    node.start()
    node.wait_until_ready()
    assert "inet 10.0.2.15/24" in node.succeed("ip -4 address show eth0")
    assert {"tiny_power_button", "binfmt_script"} <= node.modules()
    # Each daemon's lines contain such a mark.
    assert_log_is_read(node, "crio", "level=")
    assert_log_is_read(node, "kubelet", ".go:")
    disk = node.power_off()
    assert disk.data.last == disk.table.last_usable
    # A table that describes only the small disk would pass the line above.
    assert disk.superblock().size > 3 * image.superblock().size


def assert_log_is_read(node: Node, daemon: str, mark: str) -> None:
    """Waits until the log of the container that the page names after a daemon has that daemon's lines."""
    node.until(lambda: mark in node.boot.kubelet.logs("kube-system", "node", daemon), f"the log of {daemon} in the node pod's")
