//! What the agent of stage 1 leaves for itself in stage 2 and in the installed system. These facts never cross a wire: they ride in
//! the archive that is appended to the enterprise's initrd, inside the server's memory, or lie on its disk.

use crate::handover::StagedDisk;
use crate::ids::LeaseId;
use crate::network::{LenderAddress, TunnelSettings};
use crate::secret::Secret;
use crate::timestamp::Timestamp;
use serde::{Deserialize, Serialize};

/// What the wrapper needs to put network and tunnel up before the installer's own init runs.
#[derive(Clone, Serialize, Deserialize)]
pub struct Stage2Facts {
    /// The lease.
    pub lease: LeaseId,
    /// The LM's API, for reports.
    pub lm_url: String,
    /// The other LMs' APIs, as in the site archive.
    #[serde(default)]
    pub lm_others: Vec<String>,
    /// The CA that signed the LM's certificate, in PEM.
    pub lm_ca_pem: String,
    /// The session token of stage 1.
    #[serde(serialize_with = "crate::secret::expose")]
    pub session_token: Secret,
    /// The server's clock when it left stage 1. WireGuard's handshakes must not go back in time (whitepaper, 5.1), and the second
    /// kernel starts from a hardware clock that may be wrong.
    pub clock: Timestamp,
    /// The program that the image wants to run first, `/init` unless its command line says otherwise by `rdinit=`.
    pub init: String,
    /// The lender's wire.
    pub address: LenderAddress,
    /// The tunnel.
    pub tunnel: TunnelSettings,
    /// The private key of this boot, base64.
    #[serde(serialize_with = "crate::secret::expose")]
    pub private_key: Secret,
    /// Where this very archive lies when stage 2 was entered by way of the disk: the wrapper removes it.
    #[serde(default)]
    pub staged: Option<StagedDisk>,
}

/// What the wrapper leaves below [`crate::RUNTIME_DIRECTORY`] for `%post`: nothing in it is secret.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RuntimeFacts {
    /// The lease.
    pub lease: LeaseId,
    /// The lender's wire.
    pub address: LenderAddress,
    /// The tunnel of the installation; the member's has the same shape.
    pub tunnel: TunnelSettings,
    /// What `http_proxy` may be set to, where the tunnel is reached by an HTTP proxy on the loopback interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
}

/// What `%post` leaves on the disk for the member's tunnel.
#[derive(Clone, Serialize, Deserialize)]
pub struct MemberFacts {
    /// The lender's wire, which the member keeps closed to other tenants' servers. None in what older agents left.
    #[serde(default)]
    pub address: Option<LenderAddress>,
    /// Whether the member puts the card on the wire itself: nobody told a written image's own programs the lender's address.
    #[serde(default)]
    pub joins_the_wire: bool,
    /// The member's end of the tunnel.
    pub tunnel: TunnelSettings,
    /// The member's private key, base64, made on this server.
    #[serde(serialize_with = "crate::secret::expose")]
    pub private_key: Secret,
}
