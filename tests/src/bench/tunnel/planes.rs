//! The data planes that are measured, each with one process at either end, whose CPU is counted apart.
//!
//! The peers are configured by wg(8) through their socket in `/run/wireguard`; ours takes everything on its command line.

use super::wire::{End, Wire};
use crate::bench::group::Group;
use anyhow::{Context as _, Result, bail};
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const READY: Duration = Duration::from_secs(20);
const MTU: u16 = 1420;

/// What carries the packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plane {
    /// Nothing: the transit itself.
    NoTunnel,
    /// leaseboot's.
    Ours,
    /// The crate gotatun-cli.
    Gotatun,
    /// The crate boringtun-cli.
    Boringtun,
    /// Debian's.
    WireguardGo,
}

impl Plane {
    /// All, in the order in which each round takes them.
    pub(super) const ALL: [Self; 5] = [
        Self::NoTunnel,
        Self::Ours,
        Self::Gotatun,
        Self::Boringtun,
        Self::WireguardGo,
    ];

    /// Its name for people.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::NoTunnel => "no tunnel",
            Self::Ours => "ours",
            Self::Gotatun => "gotatun",
            Self::Boringtun => "boringtun-cli",
            Self::WireguardGo => "wireguard-go",
        }
    }

    /// The address of an end, as the load uses it.
    pub(super) fn address(self, end: End) -> Ipv4Addr {
        match self {
            Self::NoTunnel => end.outer(),
            _ => end.inner(),
        }
    }
}

/// Where the programs and the keys are.
pub(super) struct Places<'a> {
    pub(super) wire: &'a Wire,
    /// Keys and logs.
    pub(super) folder: &'a Path,
    /// Programs that the xtask installed from crates.
    pub(super) crates: PathBuf,
    /// Our data plane alone: the example `plane` of leaseboot-tunnel.
    pub(super) ours: PathBuf,
    /// Many peers in one process: its example `swarm`.
    pub(super) swarm: PathBuf,
}

/// Both ends' processes. Dropping it kills them, and their devices with them.
pub(super) struct Running {
    plane: Plane,
    ends: Vec<Process>,
}

/// One end alone.
pub(super) struct Gateway(Process);

/// Who may come in.
struct Peer {
    public: String,
    address: Ipv4Addr,
    endpoint: Option<SocketAddr>,
}

struct Process {
    end: End,
    child: Child,
    group: Group,
    log: PathBuf,
}

impl Places<'_> {
    /// Makes both ends' keys; the private one lies in `<end>.key`, the public one in `<end>.pub`.
    pub(super) fn make_keys(&self) -> Result<()> {
        for end in End::BOTH {
            let private = text_of(Command::new("wg").arg("genkey"))?;
            let path = self.key(end);
            std::fs::write(&path, &private).with_context(|| format!("cannot write {}", path.display()))?;
            let key = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
            let public = text_of(Command::new("wg").arg("pubkey").stdin(key))?;
            let path = self.folder.join(format!("{end}.pub"));
            std::fs::write(&path, public).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }

    /// The file with an end's private key.
    pub(super) fn key(&self, end: End) -> PathBuf {
        self.folder.join(format!("{end}.key"))
    }

    /// An end's public key, as wg(8) writes it.
    pub(super) fn public(&self, end: End) -> Result<String> {
        let path = self.folder.join(format!("{end}.pub"));
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(text.trim().to_owned())
    }

    /// Starts a plane at both ends and waits until a packet has crossed.
    pub(super) fn start(&self, plane: Plane) -> Result<Running> {
        let mut running = Running {
            plane,
            ends: Vec::new(),
        };
        if plane != Plane::NoTunnel {
            for end in End::BOTH {
                let peer = Peer {
                    public: self.public(end.other())?,
                    address: end.other().inner(),
                    endpoint: Some((end.other().outer(), end.other().port()).into()),
                };
                running.ends.push(self.start_end(plane, end, &[peer])?);
            }
        }
        running.wait_until(|| {
            let far = plane.address(End::Far).to_string();
            Ok(self.wire.run(End::Near, "ping", &["-c1", "-W1", &far]).is_ok())
        })?;
        Ok(running)
    }

    /// Starts a plane at the near end, with these peers: the public key of each and its inner address. Nobody is dialled.
    pub(super) fn start_gateway(&self, plane: Plane, peers: &[(String, Ipv4Addr)]) -> Result<Gateway> {
        let peers: Vec<_> = peers
            .iter()
            .map(|(public, address)| Peer {
                public: public.clone(),
                address: *address,
                endpoint: None,
            })
            .collect();
        self.start_end(plane, End::Near, &peers).map(Gateway)
    }

    fn start_end(&self, plane: Plane, end: End, peers: &[Peer]) -> Result<Process> {
        let interface = interface(end);
        let mut command = match plane {
            Plane::NoTunnel => bail!("no tunnel has no process"),
            Plane::Ours => self.our_end(end, peers),
            Plane::Gotatun => self.wire.command(end, self.crates.join("gotatun")),
            Plane::Boringtun => self.wire.command(end, self.crates.join("boringtun-cli")),
            Plane::WireguardGo => self.wire.command(end, "wireguard-go"),
        };
        if plane != Plane::Ours {
            command.args(["--foreground", &interface]);
        }
        if matches!(plane, Plane::Gotatun | Plane::Boringtun) {
            // They ask for the name of who is logged in, and nobody need be.
            command.arg("--disable-drop-privileges");
        }
        let mut process = self.spawn(plane, end, &mut command)?;
        if plane != Plane::Ours {
            self.configure(end, &interface, peers, &mut process)?;
        }
        Ok(process)
    }

    fn our_end(&self, end: End, peers: &[Peer]) -> Command {
        let mut command = self.wire.command(end, &self.ours);
        command
            .arg(interface(end))
            .arg(self.key(end))
            .args([
                end.port().to_string(),
                format!("{}/16", end.inner()),
                MTU.to_string(),
            ])
            .args(peers.iter().map(Peer::as_word));
        command
    }

    fn spawn(&self, plane: Plane, end: End, command: &mut Command) -> Result<Process> {
        let log = self.folder.join(format!("{plane:?}-{end}.log"));
        let out = File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
        let errors = out.try_clone().context("cannot share a log")?;
        let group = Group::new()?;
        let child = command
            .stdout(out)
            .stderr(errors)
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        group.take(child.id())?;
        Ok(Process {
            end,
            child,
            group,
            log,
        })
    }

    fn configure(&self, end: End, interface: &str, peers: &[Peer], process: &mut Process) -> Result<()> {
        process.wait_until(|| {
            let there = self.wire.run(end, "wg", &["show", interface]);
            Ok(there.is_ok())
        })?;
        let key = std::fs::read_to_string(self.key(end)).context("cannot read a key")?;
        let mut text = format!(
            "[Interface]\nPrivateKey = {}\nListenPort = {}\n",
            key.trim(),
            end.port()
        );
        text.extend(peers.iter().map(Peer::as_section));
        let path = self.folder.join(format!("{interface}.conf"));
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        let path = path.to_str().context("a path is no UTF-8")?;
        self.wire.run(end, "wg", &["setconf", interface, path])?;
        self.wire.ip(
            end,
            &format!(
                "address add {}/16 dev {interface}\nlink set {interface} mtu {MTU} up\n",
                end.inner()
            ),
        )
    }
}

impl Peer {
    fn as_word(&self) -> String {
        let endpoint = self.endpoint.map(|endpoint| format!(",{endpoint}"));
        format!(
            "{},{}/32{}",
            self.public,
            self.address,
            endpoint.unwrap_or_default()
        )
    }

    fn as_section(&self) -> String {
        let endpoint = self.endpoint.map(|endpoint| format!("Endpoint = {endpoint}\n"));
        format!(
            "[Peer]\nPublicKey = {}\nAllowedIPs = {}/32\n{}",
            self.public,
            self.address,
            endpoint.unwrap_or_default()
        )
    }
}

impl Gateway {
    /// CPU seconds so far.
    pub(super) fn cpu_seconds(&self) -> Result<f64> {
        self.0.group.cpu_seconds()
    }
}

/// The names differ, because the peers' control sockets share one folder.
fn interface(end: End) -> String {
    format!("wg{end}")
}

fn text_of(command: &mut Command) -> Result<String> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    anyhow::ensure!(
        output.status.success(),
        "{command:?} ended with {}",
        output.status
    );
    String::from_utf8(output.stdout).context("a key is no text")
}

impl Running {
    /// What it is.
    pub(super) fn plane(&self) -> Plane {
        self.plane
    }

    /// CPU seconds of both ends so far.
    pub(super) fn cpu_seconds(&self) -> Result<f64> {
        self.ends.iter().map(|end| end.group.cpu_seconds()).sum()
    }

    fn wait_until(&mut self, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
        match self.ends.first_mut() {
            Some(process) => process.wait_until(done),
            None => {
                anyhow::ensure!(done()?, "the transit carries nothing");
                Ok(())
            }
        }
    }
}

impl Process {
    fn wait_until(&mut self, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
        let until = Instant::now() + READY;
        while !done()? {
            let ended = self
                .child
                .try_wait()
                .context("cannot ask for a process's status")?;
            let said = std::fs::read_to_string(&self.log).unwrap_or_default();
            if let Some(status) = ended {
                bail!("the {} end ended with {status}:\n{said}", self.end);
            }
            if Instant::now() > until {
                bail!("the {} end is not ready after {READY:?}:\n{said}", self.end);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
