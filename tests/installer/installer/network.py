"""`network` lines become files of systemd-networkd in the installed system.

The running network is left alone: --activate finds it up already, --no-activate asks for nothing.
"""

import ipaddress

from installer.errors import InstallError

LINK_NAMES = {"link", "bootif", "ibft"}


def check(kickstart):
    """Refuses what has no counterpart here, before anything is written."""
    for data in kickstart.network.network:
        if data.device in LINK_NAMES:
            raise InstallError(f"line {data.lineno}: network --device={data.device}: name the device by its MAC address")
        if data.bootProto not in ("static", "dhcp"):
            raise InstallError(f"line {data.lineno}: network --bootproto={data.bootProto}: this installer knows static and dhcp")
        if data.device and data.bootProto == "static" and not data.noipv4 and not (data.ip and data.netmask):
            raise InstallError(f"line {data.lineno}: network --bootproto=static needs --ip= and --netmask=")


def configure(kickstart, target):
    """Writes host name, addresses and name servers."""
    servers = []
    for number, data in enumerate(kickstart.network.network):
        if data.hostname:
            _write_hostname(data.hostname, target)
        if data.device:
            name = data.device.replace(":", "").lower()
            target.write(f"/etc/systemd/network/{10 + number}-{name}.network", unit(data))
            servers += [server for server in (data.nameserver or "").split(",") if server]
    if any(data.device for data in kickstart.network.network):
        target.run("systemctl", "--quiet", "enable", "systemd-networkd.service")
    if servers:
        resolv = target.path("/etc/resolv.conf")
        resolv.unlink(missing_ok=True)
        target.write("/etc/resolv.conf", "".join(f"nameserver {server}\n" for server in dict.fromkeys(servers)))


def unit(data):
    """One line as a .network file."""
    match = f"MACAddress={data.device}" if ":" in data.device else f"Name={data.device}"
    link = [f"MTUBytes={data.mtu}"] if data.mtu else []
    network = []
    if data.bootProto == "dhcp":
        network.append("DHCP=" + ("ipv6" if data.noipv4 else "ipv4" if data.noipv6 else "yes"))
    elif not data.noipv4:
        network.append(f"Address={ipaddress.ip_interface(f'{data.ip}/{data.netmask}').with_prefixlen}")
        if data.gateway and not data.nodefroute:
            network.append(f"Gateway={data.gateway}")
    if data.ipv6 and data.ipv6 not in ("auto", "dhcp"):
        network.append(f"Address={data.ipv6}")
    if data.ipv6gateway and not data.nodefroute:
        network.append(f"Gateway={data.ipv6gateway}")
    if data.noipv6:
        network += ["IPv6AcceptRA=no", "LinkLocalAddressing=no"]
    network += [f"DNS={server}" for server in (data.nameserver or "").split(",") if server]
    if not data.onboot:
        link.append("ActivationPolicy=manual")
    sections = [("Match", [match]), ("Link", link), ("Network", network)]
    return "\n".join(f"[{name}]\n" + "".join(f"{line}\n" for line in lines) for name, lines in sections if lines)


def _write_hostname(hostname, target):
    target.write("/etc/hostname", hostname + "\n")
    short = hostname.split(".")[0]
    names = hostname if short == hostname else f"{hostname} {short}"
    target.write("/etc/hosts", f"127.0.0.1 localhost\n127.0.1.1 {names}\n::1 localhost ip6-localhost ip6-loopback\n")
