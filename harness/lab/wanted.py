"""What a command line wants of a node: what is under test, its machine, and what runs it; the same for all commands."""

import argparse
import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from harness import user_file
from harness.errors import InputError
from harness.lab import brought
from harness.lab.brought import Brought
from harness.lab.generation import Belief, Generation
from harness.lab.size import size_in_bytes
from harness.storage.disk import Disk, open_image
from harness.vm.machine import EARLY_CONSOLE, Machine

LARGE_BLOCKS = 4096


@dataclass(frozen=True)
class Wanted:
    """What was named, or None; sizes as people write them."""

    image: Path | None = None
    efi: Path | None = None
    modules: Path | None = None
    initrd: Path | None = None
    generation: Generation | None = None
    containers: tuple[Path, ...] = ()
    disk_size: str | None = None
    memory: str = "1G"
    sector_size: int | None = None
    cpus: int = 1
    nic: str = "virtio-net-pci"
    firmware: str = "newest"
    network: str = "restricted"
    accelerator: str = "auto"
    qemu: str | None = None
    cache: Path | None = None

    @classmethod
    def named_by(cls, options: argparse.Namespace) -> "Wanted":
        """What the options of a command name; pytest's have the same names (`config.option`)."""
        return cls(
            image=options.kios_image,
            efi=options.kios_efi,
            modules=options.kios_modules,
            initrd=options.kios_initrd,
            generation=Generation(options.generation) if options.generation else None,
            containers=tuple(options.container),
            disk_size=options.disk_size,
            memory=options.memory,
            sector_size=options.sector_size,
            cpus=options.cpus,
            nic=options.nic,
            firmware=options.firmware,
            network=options.network,
            accelerator=options.accelerator,
            qemu=options.qemu,
            cache=options.image_cache,
        )

    @property
    def archives(self) -> tuple[Path, ...]:
        """The OCI archives, by absolute paths."""
        return tuple(file.absolute() for file in self.containers)

    def check(self) -> None:
        """Raises InputError if no node could be made of this, as far as can be seen beforehand."""
        if bool(self.efi) != bool(self.modules):
            raise InputError("--kios-efi and --kios-modules belong together: kiOS's Bootx64.efi and its lib/modules.")
        if self.efi and self.image and not self.initrd:
            raise InputError("--kios-image is a whole image, --kios-efi and --kios-modules are two parts of one: give either.")
        if self.image:
            (brought.check_data_disk if self.efi else brought.check_file)(self.image)
        if self.initrd and not self.efi:
            raise InputError("--kios-initrd goes with --kios-efi and --kios-modules.")
        self.belief()
        for archive in self.containers:
            try:
                user_file.head(archive)
            except InputError as unfit:
                # Path.exists raises for what this user may not look at.
                if os.path.exists(archive / "index.json"):  # noqa: PTH110
                    words = f"{archive} is an OCI layout: pack it, tar -C {shlex.quote(str(archive))} -cf FILE . and give that."
                    raise InputError(words) from unfit
                raise InputError(f"{unfit} Give an OCI archive (skopeo copy ... oci-archive:FILE).") from unfit
        Machine(size_in_bytes(self.disk_size or "1G"), memory=size_in_bytes(self.memory), cpus=self.cpus)

    def bring(self, cache: Path) -> Brought | None:
        """What the user brought, unpacked in the cache if necessary; None for the reference image."""
        if self.efi and self.modules:
            theirs = (self.initrd, self.generation, self.sector_size, self.image)
            return brought.of_outputs(self.efi, self.modules, cache, *theirs)
        if self.image:
            return brought.of_file(self.image, cache, self.generation)
        return None

    def tested(self, brought: Brought | None, reference: Callable[[], Path]) -> Disk:
        """The disk under test: what was brought, or the reference image in the folder that `reference` finds.

        Raises InputError if what was brought is made for another block size than the one wanted.
        """
        if brought is None:
            return open_image(reference() / ("kios-4k.img" if self.sector_size == LARGE_BLOCKS else "kios.img"))
        made_for = brought.disk.table.sector_size
        if self.sector_size not in (None, made_for):
            raise InputError(f"{brought.disk.path} is made for blocks of {made_for} bytes, not {self.sector_size}.")
        return brought.disk

    def of_large_blocks(self) -> "Wanted":
        """The same, for a disk of 4096-byte blocks."""
        return replace(self, sector_size=LARGE_BLOCKS)

    def belief(self) -> Belief | None:
        """The generation that build outputs are taken for; None if none were named. Raises InputError for bad ones."""
        if self.efi and self.modules:
            return brought.check_outputs(self.efi, self.modules, self.initrd, self.generation)
        return None

    def believed(self, cache: Path) -> Belief | None:
        """As `belief`, but of a disk image too, which is unpacked in the cache if necessary."""
        if self.efi or not self.image:
            return self.belief()
        return brought.of_file(self.image, cache, self.generation).belief

    def machine(self, image: Disk, disk_size: int | None) -> Machine:
        """The machine for a node of an image; its disk is twice the image if neither a scenario nor the user names a size."""
        named = size_in_bytes(self.disk_size) if self.disk_size else 2 * image.size
        return Machine(
            disk_size=disk_size or named,
            sector_size=image.table.sector_size,
            memory=size_in_bytes(self.memory),
            cpus=self.cpus,
            nic=self.nic,
            network=self.network,
            kernel_arguments=EARLY_CONSOLE,
        )
