"""`lang`, `keyboard`, `timezone`, `services`, and the identity that each installed system must make for itself."""

from installer.errors import InstallError

BUILT_IN_LOCALES = ("C", "POSIX", "C.UTF-8")


def configure(kickstart, target):
    """Writes the settings of the installed system."""
    _set_language(kickstart.lang.lang, target)
    _set_keyboard(kickstart.keyboard, target)
    _set_timezone(kickstart.timezone, target)
    _set_services(kickstart.services, target)
    target.write("/etc/machine-id", "")
    target.path("/var/lib/dbus/machine-id").unlink(missing_ok=True)


def _set_language(lang, target):
    if not lang:
        return
    if lang not in BUILT_IN_LOCALES:
        if not target.has("/usr/sbin/locale-gen"):
            raise InstallError(f"lang {lang}: add the package locales to %packages, or say lang C.UTF-8")
        target.write("/etc/locale.gen", f"{lang} {lang.partition('.')[2] or 'UTF-8'}\n")
        target.run("locale-gen")
    target.write("/etc/default/locale", f"LANG={lang}\n")
    target.write("/etc/locale.conf", f"LANG={lang}\n")


def _set_keyboard(keyboard, target):
    console = keyboard.vc_keymap or keyboard.keyboard
    layouts = [layout.split(" ")[0] for layout in keyboard.x_layouts] or ([console] if console else [])
    if console:
        target.write("/etc/vconsole.conf", f"KEYMAP={console}\n")
    if layouts:
        target.write("/etc/default/keyboard", f'XKBMODEL="pc105"\nXKBLAYOUT="{",".join(layouts)}"\nBACKSPACE="guess"\n')


def _set_timezone(timezone, target):
    if not timezone.timezone:
        return
    zone = f"/usr/share/zoneinfo/{timezone.timezone}"
    utc_names = ("UTC", "Etc/UTC")
    if timezone.timezone not in utc_names and not target.has(zone):
        raise InstallError(f"timezone {timezone.timezone}: add the package tzdata to %packages")
    local = target.path("/etc/localtime")
    local.unlink(missing_ok=True)
    if target.has(zone):
        local.symlink_to(zone)
    target.write("/etc/timezone", timezone.timezone + "\n")
    target.write("/etc/adjtime", f"0.0 0 0.0\n0\n{'UTC' if timezone.isUtc else 'LOCAL'}\n")


def _set_services(services, target):
    if services.disabled:
        target.run("systemctl", "--quiet", "disable", *services.disabled)
    if services.enabled:
        target.run("systemctl", "--quiet", "enable", *services.enabled)
