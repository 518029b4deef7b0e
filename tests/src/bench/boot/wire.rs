//! One wire between two namespaces: the server under test here, the load over there.
//!
//! A packet on a veth pair is received in its sender's time, so each server's CPU has a part in it that belongs to the clients, the same for
//! all servers: the ratios are a little nearer to one than on a real wire.

use crate::guardian::Guardian;
use crate::namespace::{Namespace, ip_batch};
use anyhow::{Context as _, Result, ensure};
use std::fs::File;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

/// The server's address, in a network of 16 bits.
pub(super) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// The interface at both ends.
pub(super) const INTERFACE: &str = "lan";
/// Addresses at the clients' end. A thousand would overflow the kernel's table of neighbours (1024 on the whole machine), so clients share them, four to one.
const CLIENT_ADDRESSES: usize = 250;

/// The address of a client.
pub(super) fn client_address(client: usize) -> Ipv4Addr {
    let number = u8::try_from(client % CLIENT_ADDRESSES).unwrap_or(0);
    Ipv4Addr::new(10, 77, 128, number + 1)
}

/// Two namespaces and a veth pair, which go away with it.
pub(super) struct Wire {
    server: Namespace,
    clients: Namespace,
    _guardian: Guardian,
}

impl Wire {
    /// Lays it. The clients' end has the address 10.77.255.1.
    pub(super) async fn lay() -> Result<Self> {
        ensure!(
            nix::unistd::geteuid().is_root(),
            "the bench makes network namespaces: run as root"
        );
        let names = ["server", "clients"].map(|role| format!("lbb{}-{role}", std::process::id()));
        let guardian = Guardian::over(&names)?;
        let [server, clients] = names.map(Namespace::named);
        let (here, there) = (server.name(), clients.name());
        let wire = format!(
            "netns add {here}\nnetns add {there}\n\
             link add name {INTERFACE} netns {here} type veth peer name {INTERFACE} netns {there}\n"
        );
        ip_batch(&[], &wire)
            .await
            .context("cannot lay the bench's wire")?;
        for (namespace, address) in [
            (&server, format!("{SERVER}/16")),
            (&clients, "10.77.255.1/16".to_owned()),
        ] {
            let lines =
                format!("link set lo up\nlink set {INTERFACE} up\naddress add {address} dev {INTERFACE}\n");
            namespace.ip_batch(&lines).await?;
        }
        // All of these are the clients' own, without being configured one by one.
        clients
            .ip_batch("route add local 10.77.128.0/24 dev lo\n")
            .await?;
        Ok(Self {
            server,
            clients,
            _guardian: guardian,
        })
    }

    /// A command at the server's end; the process keeps its identifier.
    pub(super) fn at_server(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        inside(&self.server, program)
    }

    /// A command at the clients' end.
    pub(super) fn at_clients(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        inside(&self.clients, program)
    }

    /// Moves the calling thread to the clients' end until the answer is dropped: sockets that it opens meanwhile belong there.
    pub(super) fn go_to_clients(&self) -> Result<AtClients> {
        let home = open("/proc/thread-self/ns/net")?;
        enter(&open(&format!("/run/netns/{}", self.clients.name()))?)?;
        Ok(AtClients { home })
    }
}

/// The calling thread is at the clients' end. It must leave before the wire goes: whoever is there then is killed.
pub(super) struct AtClients {
    home: File,
}

impl Drop for AtClients {
    fn drop(&mut self) {
        if let Err(error) = enter(&self.home) {
            eprintln!("cannot go back: {error:#}");
        }
    }
}

fn open(path: &str) -> Result<File> {
    File::open(path).with_context(|| format!("cannot open {path}"))
}

fn enter(namespace: &File) -> Result<()> {
    nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET)
        .context("cannot enter a network namespace")
}

fn inside(namespace: &Namespace, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("ip");
    command
        .args(["netns", "exec", namespace.name()])
        .arg(program)
        .stdin(Stdio::null());
    command
}
