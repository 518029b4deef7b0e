//! What goes wrong with power: while a controller is configured, and while it is used. No variant holds a secret.

use super::{PowerOrder, PowerState};
use crate::store::StoreError;
use crate::switch::SwitchAction;
use leaseboot_protocol::ids::LeaseId;
use std::path::PathBuf;
use std::time::Duration;

/// An order was not carried out, or the state could not be read.
#[derive(Debug, thiserror::Error)]
pub enum PowerError {
    /// No connection, or it broke, again and again.
    #[error("cannot {attempted}: {url} cannot be reached")]
    Unreachable {
        /// What was attempted.
        attempted: &'static str,
        /// The resource.
        url: String,
        /// The last failure.
        source: reqwest::Error,
    },
    /// The controller says no.
    #[error("cannot {attempted}: {url} answers {status}: {message}")]
    Refused {
        /// What was attempted.
        attempted: &'static str,
        /// The resource.
        url: String,
        /// The HTTP status.
        status: u16,
        /// What the controller says.
        message: String,
    },
    /// The controller's answer is not what Redfish describes.
    #[error("cannot {attempted}: the answer of {url} is not as Redfish describes it: {problem}")]
    Answer {
        /// What was attempted.
        attempted: &'static str,
        /// The resource.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The controller has no way to do it.
    #[error("cannot carry out the order {order}: {advice}")]
    Unable {
        /// What was ordered.
        order: PowerOrder,
        /// What to do instead.
        advice: &'static str,
    },
    /// The next boot was set, but reads otherwise.
    #[error("the next boot was set to the network but reads {seen:?}")]
    NotChosen {
        /// What the controller says.
        seen: String,
    },
    /// The lender's program for the switch did not do its work, so the server is left as it is.
    #[error("cannot {action} the server's port by switch.command: the power is not touched until that works")]
    Switch {
        /// What it was to do.
        action: SwitchAction,
        /// What came of it.
        source: Box<PowerError>,
    },
    /// Whose server it is cannot be looked up.
    #[error("cannot find out who has the lease {lease}")]
    Lease {
        /// The lease.
        lease: LeaseId,
        /// Why.
        source: Box<StoreError>,
    },
    /// A magic packet cannot be sent.
    #[error(
        "cannot send a magic packet to {to}: power.to must be a broadcast address of one of this machine's networks"
    )]
    Packet {
        /// Where to.
        to: std::net::SocketAddrV4,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A program cannot be started or waited for.
    #[error("cannot run {program:?}: install it, or check the command in servers.toml")]
    Run {
        /// The program.
        program: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A program failed.
    #[error("{program:?} failed with {status}: {output}")]
    Failed {
        /// The program.
        program: String,
        /// Its exit status.
        status: std::process::ExitStatus,
        /// The end of what it printed.
        output: String,
    },
    /// A program did not end.
    #[error("{program:?} did not end within {} s and was killed", waited.as_secs())]
    Stuck {
        /// The program.
        program: String,
        /// How long it was given.
        waited: Duration,
    },
    /// The order was taken, but the state did not follow.
    #[error("the power was ordered {wanted} but is {seen} after {} s", waited.as_secs())]
    NotReached {
        /// What was ordered.
        wanted: PowerState,
        /// What the controller says.
        seen: PowerState,
        /// How long it was given.
        waited: Duration,
    },
}

impl PowerError {
    /// Whether the same order may succeed a moment later.
    pub fn may_pass(&self) -> bool {
        match self {
            PowerError::Unable { .. } | PowerError::Answer { .. } => false,
            // 4xx is about what was asked, and asking again does not change it.
            PowerError::Refused { status, .. } => *status >= 500 || *status == 429,
            _ => true,
        }
    }
}

/// A power controller cannot be used as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum PowerConfigError {
    /// The URL is not one of a Redfish system.
    #[error(
        "power.url {url:?} is not an http or https URL with a host, such as https://10.10.1.11/redfish/v1/Systems/1"
    )]
    Url {
        /// What stands there.
        url: String,
    },
    /// https without anything to check the certificate against.
    #[error(
        "power.url {url:?} is https: power.ca_file must name the certificates to trust, or power.fingerprint the certificate itself"
    )]
    NoTrust {
        /// What stands there.
        url: String,
    },
    /// A file cannot be read.
    #[error("cannot read {path}, which power.{key} names")]
    Read {
        /// The file.
        path: PathBuf,
        /// The key that names it.
        key: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The password file has nothing on its first line.
    #[error("{path}, which power.password_file names, has no password on its first line")]
    NoPassword {
        /// The file.
        path: PathBuf,
    },
    /// No certificate can be read.
    #[error("cannot find a certificate in PEM in {path}, which power.ca_file names: {problem}")]
    Certificates {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Others on this machine may read a secret.
    #[error(
        "{path}, which power.{key} names, may be read by others (mode {mode:03o}): `chmod 600 {path}`, and change the password if it was seen"
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// The key that names it.
        key: &'static str,
        /// Its permissions.
        mode: u32,
    },
    /// A value that the controller cannot take.
    #[error("power.{key} {problem}")]
    Value {
        /// The key.
        key: &'static str,
        /// What is wrong, and what to do. Never a secret's value.
        problem: String,
    },
    /// A command has no words.
    #[error("power.{key} is empty: give a program and its arguments")]
    EmptyCommand {
        /// The key.
        key: &'static str,
    },
    /// The HTTP client cannot be made.
    #[error("cannot make an HTTP client for {url}")]
    Client {
        /// The controller.
        url: String,
        /// Why it failed.
        source: reqwest::Error,
    },
}
