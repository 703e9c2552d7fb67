"""The UEFI variable store of one node, with a boot entry that can pass kernel arguments to an unchanged image."""

from pathlib import Path

from virt.firmware.efi import devpath, ucs16
from virt.firmware.varstore import edk2

from harness.storage.esp import LOADER
from harness.storage.gpt import Partition


def write(template: Path, store: Path, esp: Partition, kernel_arguments: tuple[str, ...]) -> None:
    """Writes a private copy of the firmware's variable template.

    With kernel arguments, its first boot entry starts the loader on the EFI System Partition `esp` with these as load
    options, which the kernel's EFI stub appends to the built-in command line. Without any, the firmware finds the loader
    by itself, as it does for a user.
    """
    template_store = edk2.Edk2VarStore(str(template))
    variables = template_store.get_varlist()
    if kernel_arguments:
        options = bytes(ucs16.from_string(" ".join(kernel_arguments)))
        variables.set_boot_entry(0, "kiOS", _path_to(esp), optdata=options)
        variables.pop("BootOrder", None)
        variables.append_boot_order(0)
    # As the library's write_varstore, which pads byte by byte and takes most of a second.
    entries = template_store.bytes_varlist(variables).ljust(template_store.end - template_store.start, b"\xff")
    store.write_bytes(template_store.filedata[: template_store.start] + entries + template_store.filedata[template_store.end :])


def _path_to(esp: Partition) -> devpath.DevicePath:
    """The short form of the loader's path, which starts at the partition (UEFI 2.10, 3.1.2)."""
    partition = devpath.DevicePathElem()
    partition.set_gpt(esp.number, esp.first, esp.sectors, str(esp.guid))
    file = devpath.DevicePathElem()
    file.set_filepath(LOADER.replace("/", "\\"))
    path = devpath.DevicePath()
    path.append(partition)
    path.append(file)
    return path
