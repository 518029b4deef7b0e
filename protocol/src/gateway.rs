//! Server ↔ PO, plain HTTP on the gateway's address inside the tunnel.
//!
//! WireGuard is the authentication: the gateway checks on each packet that the source address belongs to the peer's key, so the
//! source address of a connection names the lease.
//!
//! | request | who | answer |
//! |---|---|---|
//! | `GET /v1/session` | agent, wrapper | [`SessionManifest`]; also the proof that the tunnel is up |
//! | `GET /v1/sealed` | agent in stage 1 | [`SealedValues`] |
//! | `GET` of [`Blob::path`](crate::settings::Blob::path) | agent in stage 1 | the bytes; `Range: bytes=N-` is honoured (RFC 9110, 14) |
//! | `POST /v1/log`, body [`LogLines`](crate::boot_log::LogLines) | wrapper | 204 |
//! | `PUT /v1/member/key` | `%post` in stage 2, or the agent that wrote a disk image; body [`MemberKey`] | [`MemberSettings`] |
//! | `POST /v1/member/hello` | installed system, body [`MemberHello`] | 204 |

use crate::digest::Sha256;
use crate::ids::{Hostname, LeaseId};
use crate::installer::Installer;
use crate::network::{TunnelSettings, WireguardPublicKey};
use crate::secret::Secret;
use crate::settings::TenantImage;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// The enterprise's own word on what the server is about to run. The agent refuses whatever the lender says differently.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionManifest {
    /// The lease that the peer belongs to.
    pub lease: LeaseId,
    /// The merged text that the PO agreed to.
    pub kickstart_sha256: Sha256,
    /// The installer that reads it.
    #[serde(default)]
    pub installer: Installer,
    /// The image.
    pub image: TenantImage,
    /// What the installed system will be, for an image in which the agent leaves the member's tunnel itself. Older POs do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<MemberSettings>,
    /// Who else serves kernel and initrd, under the same paths, where the gateway does not: addresses that the tunnel leads to, in the order in which they are asked. Older POs
    /// name none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<SocketAddr>,
}

/// Values for the marks in the kickstart.
#[derive(Clone, Serialize, Deserialize)]
pub struct SealedValues {
    /// Value by name.
    #[serde(serialize_with = "crate::secret::expose_map")]
    pub values: BTreeMap<String, Secret>,
}

/// The public half of the member's key, which was made on the server and stays there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberKey {
    /// The key.
    pub key: WireguardPublicKey,
}

/// The tunnel of the installed system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberSettings {
    /// The server's name inside the enterprise.
    pub hostname: Hostname,
    /// The member's end of the tunnel.
    pub tunnel: TunnelSettings,
}

/// The first word of the installed system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberHello {
    /// The kernel's identifier of this boot (`/proc/sys/kernel/random/boot_id`).
    pub boot_id: String,
    /// The agent's version.
    pub agent_version: String,
}
