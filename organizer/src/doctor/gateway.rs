//! The gateway's side of the kernel: its device, its port, forwarding, routes and MTU, as `/proc` and `/sys` tell.

use super::Finding;
use crate::config::{GatewayConfig, PoConfig};
use ipnet::{IpNet, Ipv4Net};
use nix::sys::socket::{getsockopt, sockopt::IpMtu};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs as _, UdpSocket};
use std::path::Path;

/// What WireGuard adds to a packet in bytes, with the headers of UDP and IP outside.
const fn overhead(outside: IpAddr) -> u32 {
    match outside {
        IpAddr::V4(_) => 32 + 8 + 20,
        IpAddr::V6(_) => 32 + 8 + 40,
    }
}

/// A network device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Device {
    is_up: bool,
    mtu: u32,
}

/// One line of the routing table.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Route {
    network: Ipv4Net,
    device: String,
}

pub(super) fn examine(config: &PoConfig, serves: bool) -> Vec<Finding> {
    let gateway = &config.gateway;
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let device = device(&gateway.interface);
    let bound = is_bound(&read("/proc/net/udp"), gateway.endpoint.port())
        || is_bound(&read("/proc/net/udp6"), gateway.endpoint.port());
    let forwards = read("/proc/sys/net/ipv4/ip_forward").starts_with('1');
    let routes = routes(&read("/proc/net/route"));
    let lenders = config.lenders.iter().filter_map(|lender| address_of(&lender.url));
    let paths = lenders.filter_map(|lender| Some((lender.ip(), path_mtu(lender)?)));
    // What fits through the narrowest way fits through all.
    let path = paths.min_by_key(|(_, mtu)| *mtu);
    let mut findings = vec![
        judge_device(gateway, serves, device),
        judge_port(gateway.endpoint.port(), serves, bound),
        judge_forwarding(serves, forwards),
    ];
    findings.extend(judge_routes(gateway, &routes));
    findings.push(judge_mtu(gateway.mtu, path));
    findings
}

fn device(name: &str) -> Option<Device> {
    let folder = Path::new("/sys/class/net").join(name);
    let mtu = std::fs::read_to_string(folder.join("mtu")).ok()?;
    let flags = std::fs::read_to_string(folder.join("flags")).ok()?;
    let flags = u32::from_str_radix(flags.trim().trim_start_matches("0x"), 16).ok()?;
    Some(Device {
        is_up: flags & 1 == 1,
        mtu: mtu.trim().parse().ok()?,
    })
}

fn judge_device(gateway: &GatewayConfig, serves: bool, device: Option<Device>) -> Finding {
    let name = &gateway.interface;
    let check = "device";
    let restart = "restart the daemon: systemctl restart leaseboot-po";
    match (serves, device) {
        (false, None) => Finding::ok(check, format!("{name} comes with the daemon")),
        (false, Some(_)) => {
            let remedy = format!("remove it (ip link delete {name}), or name another `interface` in po.toml");
            Finding::problem(
                check,
                format!("{name} is there although no daemon serves"),
                remedy,
            )
        }
        (true, None) => Finding::problem(check, format!("{name} is not there"), restart),
        (true, Some(Device { is_up: false, .. })) => {
            let remedy = format!("ip link set {name} up, or {restart}");
            Finding::problem(check, format!("{name} is down"), remedy)
        }
        (true, Some(Device { mtu, .. })) if mtu != u32::from(gateway.mtu) => {
            let found = format!("{name} has MTU {mtu}, and po.toml says {}", gateway.mtu);
            Finding::warning(check, found, restart)
        }
        (true, Some(Device { mtu, .. })) => Finding::ok(check, format!("{name} is up, with MTU {mtu}")),
    }
}

/// Whether a line of /proc/net/udp (proc(5)) has this local port.
fn is_bound(table: &str, port: u16) -> bool {
    let local = table
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().nth(1));
    let mut ports = local.filter_map(|local| u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok());
    ports.any(|bound| bound == port)
}

fn judge_port(port: u16, serves: bool, bound: bool) -> Finding {
    let check = "port";
    match (serves, bound) {
        (true, true) => Finding::ok(check, format!("UDP {port} is the gateway's")),
        (false, false) => Finding::ok(check, format!("UDP {port} is free")),
        (true, false) => {
            let remedy = "restart the daemon: systemctl restart leaseboot-po";
            Finding::problem(check, format!("nothing receives on UDP {port}"), remedy)
        }
        (false, true) => {
            let remedy = format!(
                "`ss -lnup sport = :{port}` tells which program has it; or change `endpoint` in po.toml"
            );
            Finding::problem(check, format!("another program has UDP {port}"), remedy)
        }
    }
}

fn judge_forwarding(serves: bool, forwards: bool) -> Finding {
    let check = "forwarding";
    match (serves, forwards) {
        (_, true) => Finding::ok(check, "the kernel forwards between tunnel and enterprise"),
        (false, false) => Finding::ok(check, "off; the daemon switches it on when it starts"),
        (true, false) => {
            let remedy =
                "sysctl -w net.ipv4.ip_forward=1, and look in /etc/sysctl.d for what switches it off";
            Finding::problem(
                check,
                "the kernel does not forward: servers reach nothing but the gateway",
                remedy,
            )
        }
    }
}

/// /proc/net/route (proc(5)): addresses are hexadecimal in the machine's byte order.
fn routes(table: &str) -> Vec<Route> {
    let route = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        let address = |word: &str| {
            let number = u32::from_str_radix(word, 16).ok()?;
            Some(Ipv4Addr::from(number.to_ne_bytes()))
        };
        let network = Ipv4Net::with_netmask(address(words.get(1)?)?, address(words.get(7)?)?).ok()?;
        Some(Route {
            network,
            device: (*words.first()?).to_owned(),
        })
    };
    table.lines().skip(1).filter_map(route).collect()
}

/// The most specific route to an address.
fn route_to(routes: &[Route], to: Ipv4Addr) -> Option<&Route> {
    let fitting = routes.iter().filter(|route| route.network.contains(&to));
    fitting.max_by_key(|route| route.network.prefix_len())
}

/// Servers reach these networks through the gateway: it must have a way there that is not the tunnel.
fn judge_routes(gateway: &GatewayConfig, routes: &[Route]) -> Vec<Finding> {
    let check = "route";
    let judge = |network: &IpNet| {
        let IpNet::V4(network) = network else {
            return Finding::ok(check, format!("{network} is not looked at: IPv6"));
        };
        let remedy = "add the route, or take the network out of `allowed` in po.toml";
        match route_to(routes, network.addr()) {
            None => Finding::problem(check, format!("this machine has no route to {network}"), remedy),
            Some(route) if route.device == gateway.interface && !gateway.tunnel.contains(&network.addr()) => {
                let found = format!("the route to {network} leads back into {}", gateway.interface);
                Finding::problem(check, found, remedy)
            }
            Some(route) => Finding::ok(check, format!("{network} is reached by {}", route.device)),
        }
    };
    gateway.allowed.iter().map(judge).collect()
}

/// The address behind a URL such as `https://lm.example:8443`.
fn address_of(url: &str) -> Option<SocketAddr> {
    let host = url.strip_prefix("https://")?.split('/').next()?;
    let with_port = match host.rsplit_once(':') {
        Some((_, port)) if port.parse::<u16>().is_ok() => host.to_owned(),
        _ => format!("{host}:443"),
    };
    with_port.to_socket_addrs().ok()?.next()
}

/// What the kernel knows of the largest packet to an address: the route's device, and what routers on the way have told.
fn path_mtu(to: SocketAddr) -> Option<u32> {
    let any: SocketAddr = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }.parse().ok()?;
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(to).ok()?;
    // Only IPv4 sockets are asked; IPV6_MTU is another option.
    let mtu = to.is_ipv4().then(|| getsockopt(&socket, IpMtu).ok())??;
    u32::try_from(mtu).ok()
}

fn judge_mtu(inside: u16, path: Option<(IpAddr, u32)>) -> Finding {
    let check = "mtu";
    let Some((lender, path)) = path else {
        return Finding::ok(
            check,
            format!("{inside} inside; nothing is known of the way to the lender"),
        );
    };
    let needed = u32::from(inside) + overhead(lender);
    if needed <= path {
        return Finding::ok(
            check,
            format!("{inside} inside make {needed} outside; the way to the lender carries {path}"),
        );
    }
    let found = format!("{inside} inside make {needed} outside, and the way to the lender carries {path}");
    let remedy = format!(
        "set `mtu = {}` in [gateway] of po.toml; servers find what fits by themselves, other packets may be lost",
        path.saturating_sub(overhead(lender))
    );
    Finding::warning(check, found, remedy)
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    fn gateway() -> GatewayConfig {
        let text = "[gateway]\nendpoint = \"198.51.100.2:51820\"\ntunnel = \"10.99.0.1/24\"\nallowed = [\"172.20.0.0/24\"]\n\
            [lender]\nurl = \"https://127.0.0.1\"\nca = \"a\"\ncertificate = \"b\"\nkey = \"c\"\n";
        PoConfig::check(Path::new("po.toml"), text).unwrap().gateway
    }

    #[test]
    fn the_device_belongs_to_a_daemon_that_serves() {
        let up = Device {
            is_up: true,
            mtu: 1420,
        };
        let down = Device {
            is_up: false,
            mtu: 1420,
        };
        let small = Device {
            is_up: true,
            mtu: 1280,
        };
        for (serves, device, verdict) in [
            (true, Some(up), Verdict::Ok),
            (true, Some(down), Verdict::Problem),
            (true, Some(small), Verdict::Warning),
            (true, None, Verdict::Problem),
            (false, None, Verdict::Ok),
            (false, Some(up), Verdict::Problem),
        ] {
            assert_eq!(
                judge_device(&gateway(), serves, device).verdict,
                verdict,
                "{serves} {device:?}"
            );
        }
    }

    #[test]
    fn the_port_is_the_gateways_or_free() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            0: 00000000:CA6C 00000000:0000 07 00000000:00000000 00:00000000 00000000 0 0 1 2 0\n";
        assert!(is_bound(table, 51820) && !is_bound(table, 51821));
        for (serves, bound, verdict) in [
            (true, true, Verdict::Ok),
            (false, false, Verdict::Ok),
            (true, false, Verdict::Problem),
            (false, true, Verdict::Problem),
        ] {
            assert_eq!(judge_port(51820, serves, bound).verdict, verdict);
        }
        assert_eq!(judge_forwarding(true, false).verdict, Verdict::Problem);
        assert_eq!(judge_forwarding(false, false).verdict, Verdict::Ok);
    }

    #[test]
    fn a_network_of_the_enterprise_is_reached_without_the_tunnel() {
        let header = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n";
        let line = |device: &str, network: [u8; 4], mask: [u8; 4]| {
            let hex = |bytes| format!("{:08X}", u32::from_ne_bytes(bytes));
            format!(
                "{device}\t{}\t00000000\t0001\t0\t0\t0\t{}\t0\t0\t0\n",
                hex(network),
                hex(mask)
            )
        };
        let judged = |table: &str| judge_routes(&gateway(), &routes(table))[0].verdict;
        let default = line("eth0", [0; 4], [0; 4]);
        let direct = line("eth1", [172, 20, 0, 0], [255, 255, 255, 0]);
        let back = line("leaseboot0", [172, 20, 0, 0], [255, 255, 255, 0]);
        assert_eq!(judged(header), Verdict::Problem);
        assert_eq!(judged(&format!("{header}{default}")), Verdict::Ok);
        assert_eq!(judged(&format!("{header}{default}{direct}")), Verdict::Ok);
        assert_eq!(
            judged(&format!("{header}{default}{back}")),
            Verdict::Problem,
            "the more specific one counts"
        );
    }

    #[test]
    fn what_the_tunnel_adds_fits_the_way_or_a_smaller_mtu_is_named() {
        let v4 = "10.0.0.1".parse().unwrap();
        assert_eq!(judge_mtu(1420, Some((v4, 1480))).verdict, Verdict::Ok);
        let tight = judge_mtu(1420, Some((v4, 1400)));
        assert_eq!(tight.verdict, Verdict::Warning);
        assert!(tight.remedy.unwrap().contains("mtu = 1340"));
        assert_eq!(judge_mtu(1420, None).verdict, Verdict::Ok);
        let loopback: SocketAddr = "127.0.0.1:9".parse().unwrap();
        assert!(path_mtu(loopback).unwrap() >= 1500);
        assert_eq!(address_of("https://127.0.0.1:9"), Some(loopback));
        assert_eq!(address_of("https://127.0.0.1/x").unwrap().port(), 443);
    }
}
