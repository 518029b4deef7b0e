//! The transit between the two ends of the tunnel: a namespace for each, and a veth pair.

use crate::guardian::Guardian;
use crate::namespace::{Namespace, ip_batch};
use anyhow::{Context as _, Result, ensure};
use std::fmt;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use tokio::runtime::Runtime;

const INTERFACE: &str = "transit";

/// One of the two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Where the load comes from: the enterprise's gateway, which installs servers.
    Near,
    /// Where it goes to: a lent server.
    Far,
}

impl End {
    /// Both.
    pub(super) const BOTH: [Self; 2] = [Self::Near, Self::Far];

    /// The one at the other side.
    pub(super) fn other(self) -> Self {
        match self {
            Self::Near => Self::Far,
            Self::Far => Self::Near,
        }
    }

    /// Its address on the transit, in a network of 24 bits.
    pub(super) fn outer(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 78, 0, self.number())
    }

    /// Its address inside the tunnel, in a network of 16 bits.
    pub(super) fn inner(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 79, 0, self.number())
    }

    /// Where its WireGuard listens.
    pub(super) fn port(self) -> u16 {
        51820 + u16::from(self.number())
    }

    fn number(self) -> u8 {
        match self {
            Self::Near => 1,
            Self::Far => 2,
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Near => "near",
            Self::Far => "far",
        })
    }
}

/// The namespaces and what lies between them, which go away with it.
pub(super) struct Wire {
    runtime: Runtime,
    near: Namespace,
    far: Namespace,
    _guardian: Guardian,
}

impl Wire {
    /// Lays it.
    pub(super) fn lay() -> Result<Self> {
        ensure!(
            nix::unistd::geteuid().is_root(),
            "the bench makes network namespaces: run as root"
        );
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start a runtime")?;
        let names = End::BOTH.map(|end| format!("lbt{}-{end}", std::process::id()));
        let guardian = Guardian::over(&names)?;
        let [near, far] = names.map(Namespace::named);
        let (here, there) = (near.name(), far.name());
        let lines = format!(
            "netns add {here}\nnetns add {there}\n\
             link add name {INTERFACE} netns {here} type veth peer name {INTERFACE} netns {there}\n"
        );
        runtime
            .block_on(ip_batch(&[], &lines))
            .context("cannot lay the bench's wire")?;
        let wire = Self {
            runtime,
            near,
            far,
            _guardian: guardian,
        };
        for end in End::BOTH {
            wire.ip(
                end,
                &format!(
                    "link set lo up\nlink set {INTERFACE} up\naddress add {}/24 dev {INTERFACE}\n",
                    end.outer()
                ),
            )?;
        }
        Ok(wire)
    }

    /// Feeds lines to `ip -batch` at an end.
    pub(super) fn ip(&self, end: End, lines: &str) -> Result<()> {
        self.runtime
            .block_on(self.at(end).ip_batch(lines))
            .with_context(|| format!("at the {end} end"))
    }

    /// A command at an end; the process keeps its identifier.
    pub(super) fn command(&self, end: End, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", self.at(end).name()])
            .arg(program)
            .stdin(Stdio::null());
        command
    }

    /// Runs a short command at an end and gives its standard output.
    pub(super) fn run(&self, end: End, program: &str, arguments: &[&str]) -> Result<String> {
        let mut command = self.command(end, program);
        let output = command
            .args(arguments)
            .output()
            .with_context(|| format!("cannot run {program}"))?;
        ensure!(
            output.status.success(),
            "{command:?} ended with {}:\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn at(&self, end: End) -> &Namespace {
        match end {
            End::Near => &self.near,
            End::Far => &self.far,
        }
    }
}
