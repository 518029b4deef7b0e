"""Which kickstart this installer carries out.

pykickstart accepts all that Anaconda of RHEL 9 knows. Of that, each command here lists the options that mean something
in this installer; any other is refused with its line, so that nothing is left out in silence.
"""

from pykickstart.errors import KickstartParseError

# Options by command. Those that are true of every installation made here stand with them: no screen, no firewall.
OPTIONS = {
    "bootloader": {"--append", "--boot-drive", "--location", "--timeout"},
    "clearpart": {"--all", "--disklabel", "--drives", "--initlabel", "--none"},
    "cmdline": set(),
    "firewall": {"--disabled"},
    "firstboot": {"--disable", "--disabled"},
    "halt": set(),
    "ignoredisk": {"--drives", "--only-use"},
    "keyboard": {"--vckeymap", "--xlayouts"},
    "lang": set(),
    "network": {"--activate", "--bootproto", "--device", "--gateway", "--hostname", "--ip", "--ipv6", "--ipv6gateway",
                "--mtu", "--nameserver", "--netmask", "--no-activate", "--nodefroute", "--noipv4", "--noipv6",
                "--onboot"},
    "part": {"--asprimary", "--fsoptions", "--fstype", "--grow", "--label", "--maxsize", "--ondisk", "--ondrive",
             "--size"},
    "poweroff": set(),
    "reboot": set(),
    "repo": {"--baseurl", "--name"},
    "rootpw": {"--iscrypted", "--lock", "--plaintext"},
    "selinux": {"--disabled"},
    "services": {"--disabled", "--enabled"},
    "shutdown": set(),
    "skipx": set(),
    "sshkey": {"--username"},
    "text": {"--non-interactive"},
    "timezone": {"--isUtc", "--utc"},
    "url": {"--proxy", "--url"},
    "user": {"--gecos", "--gid", "--groups", "--homedir", "--iscrypted", "--lock", "--name", "--password",
             "--plaintext", "--shell", "--uid"},
    "zerombr": set(),
}
OPTIONS["partition"] = OPTIONS["part"]

# A second line of these would silently replace the first.
SINGLE = {"bootloader", "clearpart", "ignoredisk", "keyboard", "lang", "rootpw", "timezone", "url", "zerombr"}


def check(words, lineno, seen):
    """Refuses a command line that this installer cannot carry out as it stands."""
    command = words[0]
    if command not in OPTIONS:
        raise KickstartParseError(f"this installer does not support the command {command}", lineno=lineno)
    for word in words[1:]:
        option = word.partition("=")[0]
        if option.startswith("--") and option not in OPTIONS[command]:
            raise KickstartParseError(f"this installer does not support {command} {option}", lineno=lineno)
    if command in SINGLE and command in seen:
        raise KickstartParseError(f"{command} stands on line {seen[command]} already", lineno=lineno)
    seen[command] = lineno
