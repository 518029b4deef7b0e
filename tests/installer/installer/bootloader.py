"""`bootloader`: GRUB on the master boot record, with the consoles that the installer itself was started with."""

import pathlib
import re

from installer import arguments
from installer.errors import InstallError
from installer.progress import step

TIMEOUT_S = 1


def check(kickstart):
    """Refuses firmware and places that this installer makes no boot loader for."""
    location = kickstart.bootloader.location
    if location not in ("mbr", "none", None, ""):
        raise InstallError(f"bootloader --location={location}: this installer knows mbr and none")
    if location != "none" and pathlib.Path("/sys/firmware/efi").exists():
        raise InstallError("this machine was started by UEFI: this installer makes boot loaders for a BIOS only")


def install(kickstart, storage, target, command_line):
    """Makes the disk start the installed system."""
    data = kickstart.bootloader
    if data.location == "none":
        return
    words = (data.appendLine or "").split()
    if not any(word.startswith("console=") for word in words):
        words += arguments.consoles(command_line)
    target.write("/etc/default/grub", defaults(words, TIMEOUT_S if data.timeout is None else data.timeout))
    with step(f"installing GRUB on {storage.boot_disk}"):
        target.run("grub-install", "--target=i386-pc", "--no-floppy", storage.boot_disk.device)
    with step("writing GRUB's menu"):
        target.run("update-grub")


def defaults(words, timeout):
    """/etc/default/grub: a serial kernel console is GRUB's console too."""
    lines = ["GRUB_DEFAULT=0", f"GRUB_TIMEOUT={timeout}", 'GRUB_DISTRIBUTOR="Debian"', 'GRUB_CMDLINE_LINUX_DEFAULT=""',
             f'GRUB_CMDLINE_LINUX="{" ".join(words)}"', "GRUB_DISABLE_OS_PROBER=true", "GRUB_DISABLE_RECOVERY=true"]
    serial = next((word.removeprefix("console=ttyS") for word in words if word.startswith("console=ttyS")), None)
    if serial is None:
        lines.append("GRUB_TERMINAL=console")
    else:
        unit, _, speed = serial.partition(",")
        # The speed may be followed by parity and bits, as in 115200n8.
        digits = re.match(r"\d*", speed)[0] or "9600"
        lines += ['GRUB_TERMINAL="console serial"', f'GRUB_SERIAL_COMMAND="serial --unit={unit} --speed={digits}"']
    return "\n".join(lines) + "\n"
