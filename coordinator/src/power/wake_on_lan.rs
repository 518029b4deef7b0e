//! Wake-on-LAN: six bytes of ones, then the card's address sixteen times, then the SecureOn password where the card has one (AMD,
//! "Magic Packet Technology", publication 20213). It travels in a UDP packet, whose header the card does not read.
//!
//! A packet can only switch on, and nothing answers it. So `power.off` may name another controller: it cuts the power, and where it
//! tells the state, the packet is sent again until the server is on. Without it, orders that need the power off are refused
//! with advice, and a network boot wakes the server and leaves the rest to the deadline of the lease.

use super::config::{WakeOnLanConfig, patience};
use super::{PowerConfigError, PowerController, PowerError, PowerOrder, PowerState, password, wait_for};
use leaseboot_protocol::hardware::Firmware;
use leaseboot_protocol::network::MacAddress;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::time::Duration;
use tokio::net::UdpSocket;
use zeroize::Zeroizing;

/// How often the packet is sent, and the state asked for, while a server is awaited.
const INTERVAL: Duration = Duration::from_secs(1);
/// Nothing tells that a packet arrived, so it is sent more than once.
const COPIES: u32 = 3;
const BETWEEN_COPIES: Duration = Duration::from_millis(100);
const OFF_ADVICE: &str = "wake-on-lan can only switch on: name another controller as power.off in servers.toml, or switch it off by hand";

/// A card that is woken, and the other way to the same server's power.
pub struct WakeOnLan {
    to: SocketAddrV4,
    packet: Zeroizing<Vec<u8>>,
    off: Option<Box<PowerController>>,
    patience: Duration,
}

impl std::fmt::Debug for WakeOnLan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WakeOnLan")
            .field("to", &self.to)
            .field("off", &self.off)
            .finish_non_exhaustive()
    }
}

impl WakeOnLan {
    /// Reads the SecureOn password; sends nothing.
    ///
    /// # Errors
    /// [`PowerConfigError`], also of the other controller.
    pub fn new(config: &WakeOnLanConfig, directory: &Path) -> Result<Self, PowerConfigError> {
        let secure_on = match &config.password_file {
            Some(file) => Some(secure_on(&directory.join(file))?),
            None => None,
        };
        let off = match config.off.as_deref() {
            Some(super::PowerConfig::WakeOnLan(_)) => {
                return Err(PowerConfigError::Value {
                    key: "off",
                    problem: "must be a controller that can cut the power, not another wake-on-lan"
                        .to_owned(),
                });
            }
            Some(other) => Some(Box::new(PowerController::new(other, directory)?)),
            None => None,
        };
        Ok(Self {
            to: config.to,
            packet: magic_packet(config.mac, secure_on.as_deref()),
            off,
            patience: patience(config.patience_s),
        })
    }

    pub(super) async fn state(&self) -> Result<PowerState, PowerError> {
        match &self.off {
            Some(other) => other.state().await,
            None => Ok(PowerState::Unknown),
        }
    }

    pub(super) async fn order(&self, order: PowerOrder, firmware: Firmware) -> Result<(), PowerError> {
        match (order, &self.off) {
            (PowerOrder::On, _) => self.wake().await,
            (PowerOrder::Off, Some(other)) => other.order(order, firmware).await,
            (PowerOrder::Cycle | PowerOrder::NetworkBootOnce, Some(other)) => {
                other.order(PowerOrder::Off, firmware).await?;
                self.wake().await
            }
            (PowerOrder::NetworkBootOnce, None) => {
                tracing::warn!(to = %self.to, "a server is woken that may be on already: wake-on-lan cannot tell");
                self.wake().await
            }
            (PowerOrder::Off | PowerOrder::Cycle, None) => Err(PowerError::Unable {
                order,
                advice: OFF_ADVICE,
            }),
        }
    }

    /// Wakes the server, until it is on where that can be told.
    async fn wake(&self) -> Result<(), PowerError> {
        if self.state().await? == PowerState::Unknown {
            for copy in 0..COPIES {
                if copy > 0 {
                    tokio::time::sleep(BETWEEN_COPIES).await;
                }
                self.send().await?;
            }
            return Ok(());
        }
        let send_and_ask = || async {
            self.send().await?;
            self.state().await
        };
        wait_for(PowerState::On, self.patience, INTERVAL, send_and_ask).await
    }

    async fn send(&self) -> Result<(), PowerError> {
        let failed = |source| PowerError::Packet { to: self.to, source };
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
            .await
            .map_err(failed)?;
        socket.set_broadcast(true).map_err(failed)?;
        socket.send_to(&self.packet, self.to).await.map_err(failed)?;
        Ok(())
    }
}

fn secure_on(path: &Path) -> Result<Zeroizing<[u8; 6]>, PowerConfigError> {
    let text = password::read(path)?;
    let parsed: Result<MacAddress, _> = text.expose().trim().parse();
    // The parser's error would show the password.
    parsed
        .map(|MacAddress(bytes)| Zeroizing::new(bytes))
        .map_err(|_| PowerConfigError::Value {
            key: "password_file",
            problem: "names a file whose first line is not a SecureOn password: six pairs of hexadecimal digits such as 00:11:22:33:44:55".to_owned(),
        })
}

fn magic_packet(mac: MacAddress, secure_on: Option<&[u8; 6]>) -> Zeroizing<Vec<u8>> {
    let mut packet = Zeroizing::new(vec![0xff; 6]);
    for _ in 0..16 {
        packet.extend_from_slice(&mac.0);
    }
    packet.extend_from_slice(secure_on.map_or(&[][..], |password| password));
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_names_the_card_sixteen_times() {
        let mac = MacAddress([2, 0, 0, 0, 0, 7]);
        let packet = magic_packet(mac, Some(&[1, 2, 3, 4, 5, 6]));
        assert_eq!(packet.len(), 6 + 16 * 6 + 6);
        assert_eq!(packet[..6], [0xff; 6]);
        assert!(packet[6..102].chunks(6).all(|chunk| chunk == mac.0));
        assert_eq!(packet[102..], [1, 2, 3, 4, 5, 6]);
        assert_eq!(magic_packet(mac, None).len(), 102);
    }
}
