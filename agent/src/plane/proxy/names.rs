//! Names for the HTTP proxy, resolved as the installer would: by the `hosts` and `resolv.conf` of whatever is PID 1 now, and by servers behind the tunnel.

use super::Inside;
use crate::init_root::InitRoot;
use leaseboot_tunnel::userspace::names::{self, NameError};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;
use tokio::time::timeout;

const PORT: u16 = 53;
const PATIENCE: Duration = Duration::from_secs(3);
const TRIES: usize = 3;
/// Bytes of a file that are looked at.
const MOST: u64 = 1 << 16;

/// A name has no address.
#[derive(Debug, thiserror::Error)]
pub(super) enum LookupError {
    /// Nobody to ask.
    #[error(
        "{name} is a name, and the installer's /etc/resolv.conf names no server behind the tunnel: write an address there, or here"
    )]
    NoServer {
        /// The name.
        name: String,
    },
    /// The answer.
    #[error("cannot resolve {name}")]
    Answer {
        /// The name.
        name: String,
        /// Why.
        #[source]
        source: NameError,
    },
    /// No answer.
    #[error("no name server answered for {name}")]
    Silent {
        /// The name.
        name: String,
    },
}

/// Where PID 1 lives.
pub(super) struct Root(InitRoot);

/// What `resolv.conf` says (resolv.conf(5)).
#[derive(Debug, Default, PartialEq, Eq)]
struct Resolver {
    servers: Vec<Ipv4Addr>,
    search: Vec<String>,
}

impl Root {
    /// Must be called while `/proc` is mounted.
    pub(super) fn of_init() -> io::Result<Self> {
        Ok(Self(InitRoot::open()?))
    }

    /// The first address of a host, which may be an address itself.
    pub(super) async fn lookup(&self, host: &str, inside: &Inside) -> Result<Ipv4Addr, LookupError> {
        if let Ok(address) = host.parse() {
            return Ok(address);
        }
        if let Some(address) = in_hosts(&self.0.read("/etc/hosts", MOST), host) {
            return Ok(address);
        }
        let resolver = Resolver::parse(&self.0.read("/etc/resolv.conf", MOST));
        let servers = resolver.servers.iter().filter(|server| inside.contains(**server));
        let servers: Vec<_> = servers.copied().collect();
        let mut error = LookupError::NoServer {
            name: host.to_owned(),
        };
        if servers.is_empty() {
            return Err(error);
        }
        for name in resolver.names(host) {
            for server in servers.iter().cycle().take(TRIES.max(servers.len())) {
                match ask(*server, &name, inside).await {
                    Ok(address) => return Ok(address),
                    Err(silent @ LookupError::Silent { .. }) => error = silent,
                    Err(other) => {
                        error = other;
                        break;
                    }
                }
            }
        }
        Err(error)
    }
}

async fn ask(server: Ipv4Addr, name: &str, inside: &Inside) -> Result<Ipv4Addr, LookupError> {
    let failed = |source| LookupError::Answer {
        name: name.to_owned(),
        source,
    };
    let silent = || LookupError::Silent {
        name: name.to_owned(),
    };
    let id = getrandom::u32().map_err(|_| silent())? as u16;
    let question = names::question(name, id).map_err(failed)?;
    let flow = inside.dialler.flow(SocketAddrV4::new(server, PORT));
    let flow = flow.map_err(|_| silent())?;
    flow.send(&question);
    let answer = timeout(PATIENCE, async {
        loop {
            match flow.receive().await {
                Ok(datagram) if names::answers(&datagram, id) => return Some(datagram),
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    });
    let answer = answer.await.ok().flatten().ok_or_else(silent)?;
    let addresses = names::addresses(&answer).map_err(failed)?;
    addresses.first().copied().ok_or_else(silent)
}

impl Resolver {
    fn parse(text: &str) -> Self {
        let mut all = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => all
                    .servers
                    .extend(words.next().and_then(|word| word.parse::<Ipv4Addr>().ok())),
                Some("search" | "domain") => all.search = words.map(str::to_owned).collect(),
                _ => {}
            }
        }
        all
    }

    /// What to ask for, in order: a name without dots is the network's own first.
    fn names(&self, host: &str) -> Vec<String> {
        let searched = self.search.iter().map(|domain| format!("{host}.{domain}"));
        match host.contains('.') {
            true => vec![host.to_owned()],
            false => searched.chain([host.to_owned()]).collect(),
        }
    }
}

fn in_hosts(text: &str, host: &str) -> Option<Ipv4Addr> {
    text.lines().find_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let address = words.next()?.parse().ok()?;
        words
            .any(|name| name.eq_ignore_ascii_case(host))
            .then_some(address)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_installers_own_files_are_read_as_it_reads_them() {
        let text = "# x\nsearch corp.example lab.example\nnameserver 10.99.0.53\nnameserver fe80::1\nnameserver 10.99.0.54\n";
        let resolver = Resolver::parse(text);
        assert_eq!(
            resolver.servers,
            [Ipv4Addr::new(10, 99, 0, 53), Ipv4Addr::new(10, 99, 0, 54)]
        );
        assert_eq!(
            resolver.names("mirror"),
            ["mirror.corp.example", "mirror.lab.example", "mirror"]
        );
        assert_eq!(resolver.names("mirror.corp"), ["mirror.corp"]);
        let hosts = "127.0.0.1 localhost\n::1 mirror\n172.20.0.2 repo Mirror # mine\n";
        assert_eq!(in_hosts(hosts, "mirror"), Some(Ipv4Addr::new(172, 20, 0, 2)));
        assert_eq!(in_hosts(hosts, "mine"), None);
    }
}
