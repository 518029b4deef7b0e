//! The wires of the laboratory.
//!
//! ```text
//!   bare servers          LM, router          firewall              PO, gateway            office
//!   10.10.0.11 …  ──br0── 10.10.0.1
//!                         192.0.2.1 ───────── 192.0.2.254
//!                                             198.51.100.254 ────── 198.51.100.2
//!                                                                   172.20.0.1 ──lan──┬─── 172.20.0.3
//!                                                                   10.99.0.1 (tunnel)└─── 172.20.0.2 packages
//!      `lender`            `lender`           `transit`             `enterprise`           `office`, `repo`
//! ```
//!
//! Beside it stands `rival`, another enterprise behind the same transit: 203.0.113.2, with a PO and a gateway of its own.
//!
//! There is no address translation. The firewall lets into the enterprise one UDP port of the gateway and the answers to what was
//! asked from inside; it lets out only what carries the gateway's own address, so nothing of the inside leaks unnoticed.
//! The names of the namespaces begin with a prefix of this run, so that laboratories stand side by side.

use crate::guardian::Guardian;
use crate::machine::Machine;
use crate::namespace::{Namespace, checked, ip_batch};
use anyhow::{Context as _, Result, ensure};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU32, Ordering};

/// The LM on the lender's wire.
pub const LM_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 10, 0, 1);
/// The LM on a lender's wire of IPv6, where a scenario has one.
pub const LM_ADDRESS6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 0, 0, 0, 0, 0, 1);
/// A second LM on the lender's wire, where a scenario has one.
pub const STANDBY_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 10, 0, 2);
/// The gateway as the outside sees it.
pub const GATEWAY_ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
/// The other enterprise's gateway as the outside sees it.
pub const RIVAL_ADDRESS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
/// The one port of the gateway that the firewall lets the outside reach.
pub const GATEWAY_PORT: u16 = 51820;
/// The package repository inside the enterprise.
pub const REPOSITORY_ADDRESS: Ipv4Addr = Ipv4Addr::new(172, 20, 0, 2);
/// The bridge to which bare servers are wired.
pub const LENDER_BRIDGE: &str = "br0";

/// A laboratory's namespaces and wires, which go away with it.
pub struct Network {
    /// The LM, the router of the lender, and the bare servers' bridge.
    pub lender: Namespace,
    /// The firewall between the two.
    pub transit: Namespace,
    /// The PO and the gateway.
    pub enterprise: Namespace,
    /// The enterprise's package repository.
    pub repo: Namespace,
    /// Somebody's desk inside the enterprise.
    pub office: Namespace,
    /// The PO and the gateway of another enterprise.
    pub rival: Namespace,
    // Last, so that it runs when all else is gone.
    _guardian: Guardian,
}

impl Network {
    /// Makes namespaces, wires, addresses, routes and the firewall.
    pub async fn build() -> Result<Self> {
        static RUNS: AtomicU32 = AtomicU32::new(0);
        ensure!(
            nix::unistd::geteuid().is_root(),
            "the laboratory makes network namespaces: run as root"
        );
        let prefix = format!(
            "lb{}-{}",
            std::process::id(),
            RUNS.fetch_add(1, Ordering::Relaxed)
        );
        let named = |role: &str| Namespace::named(format!("{prefix}-{role}"));
        let roles = ["lender", "transit", "enterprise", "repo", "office", "rival"].map(named);
        let names: Vec<String> = roles
            .iter()
            .map(|namespace| namespace.name().to_owned())
            .collect();
        let guardian = Guardian::over(&names)?;
        let [lender, transit, enterprise, repo, office, rival] = roles;
        let network = Self {
            lender,
            transit,
            enterprise,
            repo,
            office,
            rival,
            _guardian: guardian,
        };
        network
            .lay_wires()
            .await
            .context("cannot lay the laboratory's wires")?;
        network.set_addresses().await?;
        for router in [
            &network.lender,
            &network.transit,
            &network.enterprise,
            &network.rival,
        ] {
            router
                .run("sh", &["-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"])
                .await?;
        }
        network
            .raise_firewall()
            .await
            .context("cannot set the firewall")?;
        Ok(network)
    }

    /// How many packets the firewall has turned away.
    pub async fn turned_away(&self) -> Result<u64> {
        let text = self
            .transit
            .run("nft", &["list", "counter", "inet", "firewall", "turned_away"])
            .await?;
        let mut words = text.split_whitespace();
        words.find(|word| *word == "packets");
        let count = words.next().with_context(|| format!("no counter in {text:?}"))?;
        Ok(count.parse()?)
    }

    /// Lets the tunnel's packets through the firewall, or drops them, as if the gateway were down.
    pub async fn set_gateway_reachable(&self, reachable: bool) -> Result<()> {
        let rules = if reachable {
            "flush chain inet firewall outage\ndelete chain inet firewall outage".to_owned()
        } else {
            format!(
                "add chain inet firewall outage {{ type filter hook forward priority filter - 1; }}\n\
                 add rule inet firewall outage udp dport {GATEWAY_PORT} drop\n\
                 add rule inet firewall outage udp sport {GATEWAY_PORT} drop"
            )
        };
        self.transit.run("nft", &[&rules]).await.map(drop)
    }

    /// The transit carries packets of `mtu` bytes and says nothing of it: its messages of packets that are too big (RFC 1191) are dropped, and so are the
    /// fragments that it makes of what may be cut (the kernel allows that of datagrams that it was given many at once).
    pub async fn narrow_transit(&self, mtu: u16) -> Result<()> {
        let rules = "add chain inet firewall silence { type filter hook output priority filter; }\n\
                     add rule inet firewall silence icmp type destination-unreachable drop";
        self.transit.run("nft", &[rules]).await?;
        let rules = "table inet fragments { chain arriving { type filter hook prerouting priority -500; \
                     ip frag-off & 0x3fff != 0 drop; }; }";
        self.lender.run("nft", &[rules]).await?;
        let lines = format!("link set lender mtu {mtu}\nlink set enterprise mtu {mtu}\n");
        self.transit.ip_batch(&lines).await
    }

    /// The lender's bridge and the servers' ports carry packets of `mtu` bytes; the transit stays as it is.
    pub(crate) async fn set_lender_mtu(&self, mtu: u16, machines: &[Machine]) -> Result<()> {
        let ports = machines.iter().map(Machine::port).chain([LENDER_BRIDGE]);
        let lines: String = ports.map(|port| format!("link set {port} mtu {mtu}\n")).collect();
        self.lender.ip_batch(&lines).await
    }

    /// The LM's address of IPv6, on a wire that carries nothing else: what is sent by IPv4 or ARP to the servers' ports does not arrive.
    pub(crate) async fn speak_ipv6(&self, machines: &[Machine]) -> Result<()> {
        let address = format!("address add {LM_ADDRESS6}/64 dev {LENDER_BRIDGE} nodad\n");
        self.lender.ip_batch(&address).await?;
        let ports: Vec<&str> = machines.iter().map(Machine::port).collect();
        let chain = |hook: &str, port: &str| {
            format!(
                "chain {hook}-{port} {{ type filter hook {hook} device \"{port}\" priority 0; ether type {{ ip, arp }} counter drop; }};"
            )
        };
        let chains: String = ports.iter().map(|port| chain("ingress", port)).collect();
        let rules = format!("table netdev ipv4 {{ {chains} }}");
        self.lender.run("nft", &[&rules]).await.map(drop)
    }

    /// The transit carries packets of `mtu` bytes, from the lender's router to the gateway.
    pub async fn widen_transit(&self, mtu: u16) -> Result<()> {
        let both = format!("link set lender mtu {mtu}\nlink set enterprise mtu {mtu}\n");
        self.transit.ip_batch(&both).await?;
        let end = format!("link set transit mtu {mtu}\n");
        self.lender.ip_batch(&end).await?;
        self.enterprise.ip_batch(&end).await
    }

    /// The transit loses so many of a hundred packets, by chance.
    pub async fn lose(&self, percent: u8) -> Result<()> {
        let rules = format!(
            "add chain inet firewall loss {{ type filter hook forward priority filter - 1; }}\n\
             add rule inet firewall loss numgen random mod 100 < {percent} drop"
        );
        self.transit.run("nft", &[&rules]).await.map(drop)
    }

    /// The transit carries at most so many bytes a second and drops what is above it, or (`None`) all that it is given again.
    pub(crate) async fn limit_transit(&self, bytes_per_second: Option<u32>) -> Result<()> {
        let rules = match bytes_per_second {
            Some(rate) => format!(
                "add chain inet firewall policing {{ type filter hook forward priority filter - 1; }}\n\
                 add rule inet firewall policing limit rate over {rate} bytes/second burst {rate} bytes drop"
            ),
            // Also when there was no limit.
            None => "add chain inet firewall policing\nflush chain inet firewall policing\n\
                     delete chain inet firewall policing"
                .to_owned(),
        };
        self.transit.run("nft", &[&rules]).await.map(drop)
    }

    /// Takes the transit's link to the enterprise down, or up again.
    pub async fn set_transit_up(&self, up: bool) -> Result<()> {
        let state = if up { "up" } else { "down" };
        self.transit
            .ip_batch(&format!("link set enterprise {state}\n"))
            .await
    }

    /// Adds a port for a bare server to the lender's bridge: a tap device of this name.
    pub(crate) async fn add_port(&self, tap: &str) -> Result<()> {
        let lines = format!(
            "tuntap add dev {tap} mode tap\nlink set {tap} master {LENDER_BRIDGE}\nlink set {tap} up\n"
        );
        self.lender
            .ip_batch(&lines)
            .await
            .with_context(|| format!("cannot make the tap device {tap}"))
    }

    /// A tap device that the lender's router stands behind with this address; the transit knows the way back to its network.
    pub(crate) async fn add_routed_tap(&self, tap: &str, router: &str, network: &str) -> Result<()> {
        let lines =
            format!("tuntap add dev {tap} mode tap\nlink set {tap} up\naddress add {router} dev {tap}\n");
        self.lender.ip_batch(&lines).await?;
        let back = format!("route add {network} via 192.0.2.1\n");
        self.transit.ip_batch(&back).await
    }

    /// Wires the namespace of the package repository to the lender's bridge as well, as a host of the lender with this address; gives the namespace.
    pub async fn add_lender_port(&self, interface: &str, address: &str) -> Result<&Namespace> {
        let wire = format!(
            "link add name {interface} type veth peer name {interface} netns {}\nlink set {interface} master {LENDER_BRIDGE}\nlink set {interface} up\n",
            self.repo.name()
        );
        self.lender
            .ip_batch(&wire)
            .await
            .context("cannot add a port to the lender's bridge")?;
        let there = format!("link set {interface} up\naddress add {address} dev {interface}\n");
        self.repo.ip_batch(&there).await?;
        Ok(&self.repo)
    }

    async fn lay_wires(&self) -> Result<()> {
        let all = [
            &self.lender,
            &self.transit,
            &self.enterprise,
            &self.repo,
            &self.office,
            &self.rival,
        ];
        let mut lines: String = all.map(|n| format!("netns add {}\n", n.name())).concat();
        let wires = [
            (&self.lender, "transit", &self.transit, "lender"),
            (&self.transit, "enterprise", &self.enterprise, "transit"),
            (&self.transit, "rival", &self.rival, "transit"),
            (&self.enterprise, "repo", &self.repo, "lan"),
            (&self.enterprise, "office", &self.office, "lan"),
        ];
        for (left, left_port, right, right_port) in wires {
            let (left, right) = (left.name(), right.name());
            lines += &format!(
                "link add name {left_port} netns {left} type veth peer name {right_port} netns {right}\n"
            );
        }
        ip_batch(&[], &lines).await
    }

    async fn set_addresses(&self) -> Result<()> {
        let plans = [
            (
                &self.lender,
                // A fixed address: otherwise the bridge takes over that of the next tap device, in the middle of a transfer.
                "link add name br0 address 02:00:0a:0a:00:01 type bridge\n\
                 link set br0 up\naddress add 10.10.0.1/24 dev br0\n\
                 link set transit up\naddress add 192.0.2.1/24 dev transit\n\
                 route add default via 192.0.2.254\n",
            ),
            (
                &self.transit,
                "link set lender up\naddress add 192.0.2.254/24 dev lender\n\
                 link set enterprise up\naddress add 198.51.100.254/24 dev enterprise\n\
                 link set rival up\naddress add 203.0.113.254/24 dev rival\n\
                 route add 10.10.0.0/24 via 192.0.2.1\n",
            ),
            (
                &self.enterprise,
                "link add name lan type bridge\nlink set lan up\naddress add 172.20.0.1/24 dev lan\n\
                 link set repo master lan up\nlink set office master lan up\n\
                 link set transit up\naddress add 198.51.100.2/24 dev transit\n\
                 route add default via 198.51.100.254\n",
            ),
            (
                &self.rival,
                "link set transit up\naddress add 203.0.113.2/24 dev transit\nroute add default via 203.0.113.254\n",
            ),
            (
                &self.repo,
                "link set lan up\naddress add 172.20.0.2/24 dev lan\nroute add default via 172.20.0.1\n",
            ),
            (
                &self.office,
                "link set lan up\naddress add 172.20.0.3/24 dev lan\nroute add default via 172.20.0.1\n",
            ),
        ];
        for (namespace, plan) in plans {
            namespace
                .ip_batch(&format!("link set lo up\n{plan}"))
                .await
                .with_context(|| format!("cannot set addresses in {}", namespace.name()))?;
        }
        Ok(())
    }

    async fn raise_firewall(&self) -> Result<()> {
        let rules = format!(
            r#"table inet firewall {{
                counter turned_away {{ }}
                chain forward {{
                    type filter hook forward priority filter; policy drop;
                    ct state established,related accept
                    iifname "enterprise" oifname "lender" ip saddr {GATEWAY_ADDRESS} accept
                    iifname "lender" oifname "enterprise" ip daddr {GATEWAY_ADDRESS} udp dport {GATEWAY_PORT} accept
                    iifname "rival" oifname "lender" ip saddr {RIVAL_ADDRESS} accept
                    iifname "lender" oifname "rival" ip daddr {RIVAL_ADDRESS} udp dport {GATEWAY_PORT} accept
                    counter name "turned_away"
                }}
            }}"#
        );
        let mut command = self.transit.command("nft");
        checked(command.arg(rules)).await.map(drop)
    }
}
