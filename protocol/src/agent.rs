//! Agent ↔ LM, over TLS with the CA from the site archive.
//!
//! | request | bearer token | body | answer |
//! |---|---|---|---|
//! | `POST /v1/agent/hello` | boot token | [`Hello`] | [`Welcome`] |
//! | `PUT /v1/agent/key` | session token | [`KeyOffer`] | 204 |
//! | `GET /v1/agent/kickstart` | session token | | the merged kickstart, `text/plain` |
//! | `POST /v1/agent/reports` | session token | [`Reports`] | [`Directive`] |
//! | `POST /v1/agent/log` | session token | [`LogLines`](crate::boot_log::LogLines) | 204 |
//! | `PUT /v1/agent/staged` | session token | [`StagedFiles`](crate::handover::StagedFiles) | 204: the next boot enters them; may be repeated |
//! | `PUT /v1/agent/erasure` | session token | [`ErasureReport`](crate::erasure::ErasureReport) | [`Directive`]; may be repeated |
//!
//! The boot token is good for one hello from one server; the session token that the hello brings is good until the lease leaves
//! the boot. A second hello with the same boot token is refused and recorded.

use crate::erasure::WipeTask;
use crate::handover::Handover;
use crate::hardware::HardwareReport;
use crate::ids::{LeaseId, ServerId};
use crate::lease::Step;
use crate::network::{LenderAddress, LenderAddress6, MacAddress, TunnelSettings, WireguardPublicKey};
use crate::secret::Secret;
use crate::settings::TenantImage;
use crate::timestamp::Timestamp;
use serde::{Deserialize, Serialize};

/// The content of the site archive: what a server needs to find its LM and to trust it. Rendered by the LM for each boot.
#[derive(Clone, Serialize, Deserialize)]
pub struct BootFacts {
    /// The LM's API, such as `https://10.10.0.1:8443`.
    pub lm_url: String,
    /// The APIs of the other LMs that share its store: whichever answers may be asked. None in what older LMs render.
    #[serde(default)]
    pub lm_others: Vec<String>,
    /// The CA that signed the LM's certificate, in PEM.
    pub lm_ca_pem: String,
    /// The card that the firmware booted from: stage 1 brings this one up.
    pub mac: MacAddress,
    /// The server's place on the wire when the LM has it on record; otherwise the agent asks by DHCP.
    pub address: Option<LenderAddress>,
    /// Its place where the firmware fetched the archive by IPv6: the address that DHCPv6 gave it, which is its own for stage 1 as well. Older LMs know no IPv6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address6: Option<LenderAddress6>,
    /// Whether stage 1 has the drivers of the hardware on record only. When they do not bring the card up, the agent starts anew at once, and gets
    /// all of them. Older LMs know no such thing.
    #[serde(default)]
    pub own_drivers: bool,
    /// The LM's clock when it rendered the archive: a hint, for servers whose clock is wrong.
    pub clock: Timestamp,
    /// Good for one hello.
    #[serde(serialize_with = "crate::secret::expose")]
    pub boot_token: Secret,
}

/// The agent's first word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Hello {
    /// The agent's version.
    pub agent_version: String,
    /// The card that the server booted from.
    pub mac: MacAddress,
    /// What the server is made of.
    pub hardware: HardwareReport,
    /// Steps that were over before the LM could be reached.
    pub earlier: Vec<Report>,
    /// Whether the kernel of stage 1 lacks kexec, as Debian's for arm64 does: then the only way into the second kernel is by the server's own disk. Older
    /// agents, all of them on x86, do not say it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub without_kexec: bool,
}

/// The LM's answer to the first word.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Welcome {
    /// The server's name at the lender.
    pub server: ServerId,
    /// For all further requests of this boot.
    #[serde(serialize_with = "crate::secret::expose")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub session_token: Secret,
    /// What to do.
    pub task: Task,
}

/// What a server in stage 1 is there for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "task", rename_all = "kebab-case")]
pub enum Task {
    /// Take the enterprise's installer in.
    Install(Box<InstallTask>),
    /// The lease is over: erase every disk, report it by `PUT /v1/agent/erasure`, and power off.
    Wipe(WipeTask),
    /// Stay in rescue mode on a server that serves no lease; power off when the order is withdrawn. Older agents power off at once.
    Rescue,
    /// The hardware report was all; power off.
    PowerOff,
    /// A task that this version does not know; report it and power off.
    #[serde(other)]
    Unknown,
}

/// One installation, without secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct InstallTask {
    /// The lease that this serves.
    pub lease: LeaseId,
    /// The server's place on the lender's wire, for stage 2.
    pub address: LenderAddress,
    /// The server's end of the tunnel.
    pub tunnel: TunnelSettings,
    /// The enterprise's image, as the PO told the LM. The PO's word inside the tunnel must agree.
    pub image: TenantImage,
    /// The disk that is installed on, as `/dev/disk/by-id` names it: for an image that the agent writes itself, and for what it stages. Empty in what older LMs say.
    #[serde(default)]
    pub disk: String,
    /// What the lender adds to the kernel command line, such as `console=ttyS0,115200`.
    pub lender_command_line: String,
    /// The way into the enterprise's kernel. Older LMs know kexec only.
    #[serde(default)]
    pub handover: Handover,
    /// Whether to stay in rescue mode once the tunnel is up. Older LMs know no such thing.
    #[serde(default)]
    pub stay: bool,
}

/// The public half of the key that the agent made for this boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct KeyOffer {
    /// The key.
    pub key: WireguardPublicKey,
}

/// Reports in the order in which they were made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Reports {
    /// The reports.
    pub reports: Vec<Report>,
}

/// Something that the agent did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Report {
    /// The step.
    pub step: Step,
    /// When, by the server's clock.
    pub at: Timestamp,
    /// How it stands.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// How a step stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Outcome {
    /// It began.
    Started,
    /// It goes on.
    Progress {
        /// Bytes so far.
        bytes: u64,
        /// Bytes in all, when known.
        total: Option<u64>,
    },
    /// It ended well.
    Finished {
        /// Milliseconds since it began.
        took_ms: u64,
        /// Bytes that it moved.
        bytes: u64,
    },
    /// It failed.
    Failed {
        /// The error and its causes, outermost first.
        error: Vec<String>,
        /// The last lines of the kernel's log.
        kernel_log: Vec<String>,
        /// Whether the agent tries again by itself.
        retrying: bool,
    },
    /// Something worth knowing about it, in words: the data plane that was chosen and why, how far an installer is.
    Note {
        /// One line, or the last lines of a log.
        note: String,
    },
    /// An outcome that this version does not know.
    #[serde(other)]
    Unknown,
}

/// The LM's word to a server that reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "directive", rename_all = "kebab-case")]
pub enum Directive {
    /// Go on.
    Continue,
    /// The lease is over: power off.
    PowerOff,
    /// Go on, but stay in rescue mode before handing over. Older agents go on.
    Stay,
    /// A directive that this version does not know: go on.
    #[serde(other)]
    Unknown,
}
