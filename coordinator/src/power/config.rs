//! How a server's power is reached, as `servers.toml` says it.

use leaseboot_protocol::network::MacAddress;
use serde::{Deserialize, Serialize};
use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::time::Duration;

/// The `[server.power]` table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum PowerConfig {
    /// A management controller that speaks Redfish (DMTF DSP0266).
    Redfish(RedfishConfig),
    /// A management controller that speaks IPMI 2.0 over the network.
    Ipmi(IpmiConfig),
    /// A card that switches the server on; another way must switch it off.
    WakeOnLan(WakeOnLanConfig),
    /// Programs of the lender, for everything else.
    Command(CommandConfig),
}

/// A Redfish service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedfishConfig {
    /// The system, such as `https://10.10.1.11/redfish/v1/Systems/1`; without a path, the service's only system is taken.
    pub url: String,
    /// The account.
    pub username: String,
    /// A file with its password on the first line; relative to the directory of `servers.toml`.
    pub password_file: PathBuf,
    /// For https: the certificates, in PEM, that the controller's certificate must come from.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// For https, instead of `ca_file`: the SHA-256 of the controller's own certificate, in hexadecimal digits with or without colons.
    #[serde(default)]
    pub fingerprint: Option<String>,
    /// How the account is shown.
    #[serde(default)]
    pub authentication: Authentication,
    /// What the next boot is set to.
    #[serde(default)]
    pub network_boot: NetworkBoot,
    /// How long a change of power may take, in seconds.
    #[serde(default = "one_minute")]
    pub patience_s: u32,
}

/// How a Redfish service is told who asks (DSP0266, "Authentication").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Authentication {
    /// A session: the password crosses once, then a token. Where the service has no sessions, basic authentication.
    #[default]
    Session,
    /// The account goes along with each request.
    Basic,
}

/// Which of the firmware's network boots is meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkBoot {
    /// PXE: DHCP and TFTP.
    #[default]
    Pxe,
    /// HTTP boot, which only UEFI firmware has.
    UefiHttp,
}

/// A controller that speaks IPMI 2.0 (RMCP+). `ipmitool` is run for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IpmiConfig {
    /// The controller's name or address.
    pub host: String,
    /// Its UDP port.
    #[serde(default = "rmcp_port")]
    pub port: u16,
    /// The account.
    pub username: String,
    /// A file with its password, of at most 20 bytes, on the first line; relative to the directory of `servers.toml`.
    pub password_file: PathBuf,
    /// 17 (SHA-256) or, for older controllers, 3 (SHA-1); IPMI 2.0, table 22-20.
    #[serde(default = "seventeen")]
    pub cipher_suite: u8,
    /// How long each question may take, and how long a change of power may take after it, in seconds.
    #[serde(default = "one_minute")]
    pub patience_s: u32,
}

/// A magic packet to a card that is listening while the server is off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WakeOnLanConfig {
    /// The card.
    pub mac: MacAddress,
    /// Where the packet is sent: the broadcast address of the card's network, with a port.
    #[serde(default = "everybody")]
    pub to: SocketAddrV4,
    /// A file with the card's SecureOn password, such as `00:11:22:33:44:55`, on the first line; relative to the directory of `servers.toml`.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// Another controller, which cuts the power and tells the state. Without it the server cannot be switched off, so it cannot be
    /// lent again by itself either.
    #[serde(default)]
    pub off: Option<Box<PowerConfig>>,
    /// How long the server may take to be on, where `off` tells the state, in seconds.
    #[serde(default = "one_minute")]
    pub patience_s: u32,
}

/// Programs with their arguments. No shell reads them; their own file is looked up in `PATH`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandConfig {
    /// Switches the power on.
    pub on: Vec<String>,
    /// Cuts the power.
    pub off: Vec<String>,
    /// Cuts the power for a moment; without it, `off` and `on` are run.
    #[serde(default)]
    pub cycle: Option<Vec<String>>,
    /// Prints the state: the last word of its output is `on` or `off`. Without it, nothing proves that an order was carried out.
    #[serde(default)]
    pub status: Option<Vec<String>>,
    /// Makes the next boot one from the network, where the server's own order is another.
    #[serde(default)]
    pub network_boot_once: Option<Vec<String>>,
    /// How long each program may take, and how long a change of power may take after it, in seconds.
    #[serde(default = "one_minute")]
    pub patience_s: u32,
}

fn rmcp_port() -> u16 {
    623
}

fn seventeen() -> u8 {
    17
}

fn everybody() -> SocketAddrV4 {
    SocketAddrV4::new(std::net::Ipv4Addr::BROADCAST, 9)
}

fn one_minute() -> u32 {
    60
}

pub(super) fn patience(seconds: u32) -> Duration {
    Duration::from_secs(seconds.clamp(1, 3600).into())
}
