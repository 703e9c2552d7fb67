"""The scenarios on which a fault is tried that others would see as well."""

# Boots a node by itself.
COLD = "boot.py::test_firmware_starts_the_efi_binary_and_the_node_comes_up"
# Has a node on which every pod runs.
UP = "modules.py::test_script_executes"
# Has pods come up on a node that runs.
ADDED = "dhcp.py::test_three_sides_of_the_lease_agree"
