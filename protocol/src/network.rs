//! Addresses and keys of the two networks that a lent server stands in: the lender's wire and the enterprise's tunnel.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// An Ethernet hardware address, written `52:54:00:12:34:56`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = String, pattern = "^[0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5}$"))]
pub struct MacAddress(pub [u8; 6]);

/// The text is not six pairs of hexadecimal digits separated by `:` or `-`.
#[derive(Debug, thiserror::Error)]
#[error(
    "{text:?} is not a MAC address: six pairs of hexadecimal digits, such as 52:54:00:12:34:56, are needed"
)]
pub struct MacError {
    text: String,
}

impl FromStr for MacAddress {
    type Err = MacError;

    fn from_str(text: &str) -> Result<Self, MacError> {
        let mut bytes = [0; 6];
        let mut pairs = text.split([':', '-']);
        let parsed = bytes.iter_mut().try_for_each(|byte| {
            let pair = pairs.next()?;
            *byte = hex::decode(pair)
                .ok()
                .and_then(|bytes| <[u8; 1]>::try_from(bytes).ok())?[0];
            Some(())
        });
        match (parsed, pairs.next()) {
            (Some(()), None) => Ok(Self(bytes)),
            _ => Err(MacError {
                text: text.to_owned(),
            }),
        }
    }
}

impl TryFrom<String> for MacAddress {
    type Error = MacError;

    fn try_from(text: String) -> Result<Self, MacError> {
        text.parse()
    }
}

impl From<MacAddress> for String {
    fn from(mac: MacAddress) -> String {
        mac.to_string()
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A WireGuard public key: 32 bytes of Curve25519, written in base64 (wg(8)).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = String, pattern = "^[A-Za-z0-9+/]{43}=$"))]
pub struct WireguardPublicKey(pub [u8; 32]);

/// The text is not 32 bytes of base64.
#[derive(Debug, thiserror::Error)]
#[error("{text:?} is not a WireGuard public key: 44 characters of base64 are needed")]
pub struct KeyError {
    text: String,
}

impl FromStr for WireguardPublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let bytes = STANDARD
            .decode(text)
            .ok()
            .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        bytes.map(Self).ok_or_else(|| KeyError {
            text: text.to_owned(),
        })
    }
}

impl TryFrom<String> for WireguardPublicKey {
    type Error = KeyError;

    fn try_from(text: String) -> Result<Self, KeyError> {
        text.parse()
    }
}

impl From<WireguardPublicKey> for String {
    fn from(key: WireguardPublicKey) -> String {
        key.to_string()
    }
}

impl fmt::Display for WireguardPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for WireguardPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A server's place on the lender's wire. The lender owns every field of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LenderAddress {
    /// The card that is wired.
    pub mac: MacAddress,
    /// Address and prefix length.
    #[cfg_attr(feature = "openapi", schema(value_type = String, example = "10.10.0.21/24"))]
    pub address: Ipv4Net,
    /// Next hop towards everything else.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, example = "10.10.0.1"))]
    pub router: Option<Ipv4Addr>,
    /// Largest IP packet in bytes.
    pub mtu: u16,
    /// The tag that the network's frames carry on the card's cable (IEEE 802.1Q), 1 to 4094; none where they carry none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
}

/// A server's place on a lender's wire of IPv6, where stage 1 speaks nothing else. The lender owns every field of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LenderAddress6 {
    /// Address and prefix length.
    pub address: Ipv6Net,
    /// Next hop towards everything else.
    pub router: Option<Ipv6Addr>,
    /// Largest IP packet in bytes.
    pub mtu: u16,
}

/// One end of the tunnel as the lent server sees it. The enterprise owns every field of it; none is secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TunnelSettings {
    /// The server's address inside the enterprise.
    #[cfg_attr(feature = "openapi", schema(value_type = String, example = "10.99.0.10/24"))]
    pub address: IpNet,
    /// Where the gateway receives WireGuard's datagrams.
    #[cfg_attr(feature = "openapi", schema(value_type = String, example = "198.51.100.2:51820"))]
    pub gateway_endpoint: SocketAddr,
    /// The gateway's key.
    pub gateway_public_key: WireguardPublicKey,
    /// What is reached through the gateway (WireGuard's AllowedIPs).
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub allowed_ips: Vec<IpNet>,
    /// Where the gateway answers inside the tunnel, such as `10.99.0.1:80`.
    #[cfg_attr(feature = "openapi", schema(value_type = String, example = "10.99.0.1:80"))]
    pub gateway_service: SocketAddr,
    /// Largest IP packet inside the tunnel in bytes; 1420 fits a wire of 1500 with IPv4 or IPv6 outside.
    pub mtu: u16,
    /// Seconds between keepalives, so that firewalls on the way keep the flow.
    pub keepalive_s: u16,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn refuses_broken_addresses() {
        for text in [
            "",
            "52:54:00:12:34",
            "52:54:00:12:34:5",
            "52:54:00:12:34:56:78",
            "+2:54:00:12:34:56",
            "zz:54:00:12:34:56",
        ] {
            assert!(text.parse::<MacAddress>().is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn addresses_and_keys_read_their_own_writing(mac in any::<[u8; 6]>(), key in any::<[u8; 32]>()) {
            prop_assert_eq!(MacAddress(mac).to_string().parse::<MacAddress>().unwrap(), MacAddress(mac));
            prop_assert_eq!(WireguardPublicKey(key).to_string().parse::<WireguardPublicKey>().unwrap(), WireguardPublicKey(key));
        }
    }
}
