//! A DHCP client for one question (RFC 2131): DISCOVER, OFFER, REQUEST, ACK. No renewal: stage 1 is shorter than any lease.

use dhcproto::v4::{DhcpOption, Message, MessageType, Opcode, OptionCode, borrowed};
use dhcproto::{Encodable, Encoder};
use ipnet::Ipv4Net;
use leaseboot_protocol::network::{LenderAddress, MacAddress};
use nix::sys::socket::{setsockopt, sockopt};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

const VENDOR_CLASS: &[u8] = b"leaseboot";
const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;
/// Smallest message that old relays and servers accept (RFC 1542, 2.1).
const SMALLEST: usize = 300;
const DEFAULT_MTU: u16 = 1500;
const DEFAULT_PREFIX: u8 = 24;

/// One exchange, however often its question is asked again: an answer to an earlier asking is as good (RFC 2131, section 4.1).
pub(super) struct Exchange {
    socket: UdpSocket,
    mac: MacAddress,
    transaction: u32,
}

impl Exchange {
    /// Opens an exchange on the card `name`.
    pub(super) fn open(name: &str, mac: MacAddress) -> io::Result<Self> {
        Ok(Self {
            socket: open(name)?,
            mac,
            transaction: random(),
        })
    }

    /// Asks; `None` when there was no acknowledgement within `patience`.
    pub(super) async fn ask(&self, patience: Duration) -> io::Result<Option<LenderAddress>> {
        let Self {
            socket,
            mac,
            transaction,
        } = self;
        ask(socket, *transaction, *mac, Instant::now() + patience).await
    }
}

async fn ask(
    socket: &UdpSocket,
    transaction: u32,
    mac: MacAddress,
    deadline: Instant,
) -> io::Result<Option<LenderAddress>> {
    send(socket, &message(MessageType::Discover, transaction, mac)).await?;
    let Some(offer) = receive(socket, transaction, mac, MessageType::Offer, deadline).await? else {
        return Ok(None);
    };
    send(socket, &request(&offer, transaction, mac)).await?;
    let acknowledged = receive(socket, transaction, mac, MessageType::Ack, deadline).await?;
    Ok(acknowledged.and_then(|ack| ack.lender_address(mac)))
}

fn open(name: &str) -> io::Result<UdpSocket> {
    let socket = std::net::UdpSocket::bind(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, CLIENT_PORT))?;
    socket.set_broadcast(true)?;
    socket.set_nonblocking(true)?;
    setsockopt(&socket, sockopt::BindToDevice, &name.into())?;
    UdpSocket::from_std(socket)
}

fn random() -> u32 {
    let mut bytes = [0; 4];
    // Without random numbers another client's transaction could be mistaken for ours, which its hardware address still tells apart.
    let _ = getrandom::fill(&mut bytes);
    u32::from_ne_bytes(bytes)
}

fn message(kind: MessageType, transaction: u32, mac: MacAddress) -> Message {
    let mut message = Message::default();
    message
        .set_opcode(Opcode::BootRequest)
        .set_xid(transaction)
        .set_chaddr(&mac.0);
    message.set_flags(dhcproto::v4::Flags::default().set_broadcast());
    let wanted = vec![
        OptionCode::SubnetMask,
        OptionCode::Router,
        OptionCode::InterfaceMtu,
    ];
    let options = message.opts_mut();
    options.insert(DhcpOption::MessageType(kind));
    options.insert(DhcpOption::ClassIdentifier(VENDOR_CLASS.to_vec()));
    options.insert(DhcpOption::ParameterRequestList(wanted));
    message
}

fn request(offer: &Answer, transaction: u32, mac: MacAddress) -> Message {
    let mut request = message(MessageType::Request, transaction, mac);
    request
        .opts_mut()
        .insert(DhcpOption::RequestedIpAddress(offer.address));
    if let Some(server) = offer.server {
        request.opts_mut().insert(DhcpOption::ServerIdentifier(server));
    }
    request
}

async fn send(socket: &UdpSocket, message: &Message) -> io::Result<()> {
    let mut bytes = Vec::new();
    message
        .encode(&mut Encoder::new(&mut bytes))
        .map_err(io::Error::other)?;
    bytes.resize(bytes.len().max(SMALLEST), 0);
    socket
        .send_to(&bytes, SocketAddrV4::new(Ipv4Addr::BROADCAST, SERVER_PORT))
        .await
        .map(|_| ())
}

async fn receive(
    socket: &UdpSocket,
    transaction: u32,
    mac: MacAddress,
    kind: MessageType,
    deadline: Instant,
) -> io::Result<Option<Answer>> {
    let mut buffer = [0; 1500];
    while let Ok(received) = timeout_at(deadline, socket.recv_from(&mut buffer)).await {
        let (length, _) = received?;
        if let Some(answer) = Answer::read(&buffer[..length], transaction, mac)
            && answer.kind == kind
        {
            return Ok(Some(answer));
        }
    }
    Ok(None)
}

/// What an OFFER or ACK tells. Options are taken raw, each for itself: dhcproto's eager decoder asserts on lengths that come from
/// the network, and an assertion in PID 1 is a kernel panic.
struct Answer {
    kind: MessageType,
    address: Ipv4Addr,
    server: Option<Ipv4Addr>,
    mask: Option<Ipv4Addr>,
    router: Option<Ipv4Addr>,
    mtu: Option<u16>,
}

impl Answer {
    /// A datagram as an answer to our transaction, or nothing.
    fn read(datagram: &[u8], transaction: u32, mac: MacAddress) -> Option<Self> {
        let message = borrowed::Message::new(datagram).ok()?;
        // The length first: the reader trusts it.
        let ours = message.xid() == transaction && message.hlen() == 6 && message.chaddr() == mac.0;
        if message.opcode() != Opcode::BootReply || !ours {
            return None;
        }
        let (mut kind, mut server, mut mask, mut router, mut mtu) = (None, None, None, None, None);
        for option in message.opts() {
            let data = option.data();
            match option.code() {
                OptionCode::MessageType => kind = data.first().map(|number| MessageType::from(*number)),
                OptionCode::ServerIdentifier => server = first_address(data),
                OptionCode::SubnetMask => mask = first_address(data),
                OptionCode::Router => router = first_address(data),
                OptionCode::InterfaceMtu => mtu = data.first_chunk().map(|bytes| u16::from_be_bytes(*bytes)),
                _ => {}
            }
        }
        Some(Self {
            kind: kind?,
            address: message.yiaddr(),
            server,
            mask,
            router,
            mtu,
        })
    }

    fn lender_address(&self, mac: MacAddress) -> Option<LenderAddress> {
        let prefix = self
            .mask
            .map_or(Ok(DEFAULT_PREFIX), ipnet::ipv4_mask_to_prefix)
            .ok()?;
        let address = Ipv4Net::new(self.address, prefix).ok()?;
        Some(LenderAddress {
            mac,
            address,
            router: self.router,
            mtu: self.mtu.unwrap_or(DEFAULT_MTU),
            vlan: None,
        })
    }
}

fn first_address(data: &[u8]) -> Option<Ipv4Addr> {
    data.first_chunk::<4>().map(|bytes| Ipv4Addr::from(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAC: MacAddress = MacAddress([0x52, 0x54, 0, 0, 0, 1]);

    #[test]
    fn an_acknowledgement_becomes_an_address() {
        let mut ack = message(MessageType::Ack, 7, MAC);
        ack.set_opcode(Opcode::BootReply)
            .set_yiaddr(Ipv4Addr::new(10, 10, 0, 100));
        ack.opts_mut()
            .insert(DhcpOption::SubnetMask(Ipv4Addr::new(255, 255, 0, 0)));
        ack.opts_mut()
            .insert(DhcpOption::Router(vec![Ipv4Addr::new(10, 10, 0, 1)]));
        let bytes = ack.to_vec().unwrap();
        let seen = Answer::read(&bytes, 7, MAC).unwrap();
        let address = seen.lender_address(MAC).unwrap();
        assert_eq!(
            (address.address.to_string().as_str(), address.mtu),
            ("10.10.0.100/16", 1500)
        );
        assert_eq!(address.router, Some(Ipv4Addr::new(10, 10, 0, 1)));
        assert!(Answer::read(&bytes, 8, MAC).is_none(), "another transaction");
        assert!(
            Answer::read(&bytes, 7, MacAddress([0; 6])).is_none(),
            "another card"
        );
    }

    proptest! {
        #[test]
        fn noise_never_panics(mut datagram in prop::collection::vec(any::<u8>(), 236..600)) {
            // Past the checks on the fixed part, so that the options are reached.
            datagram[..8].copy_from_slice(&[2, 1, 6, 0, 0, 0, 0, 7]);
            datagram[28..34].copy_from_slice(&MAC.0);
            if let Some(answer) = Answer::read(&datagram, 7, MAC) {
                let _ = answer.lender_address(MAC);
            }
        }

        #[test]
        fn short_noise_never_panics(datagram in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Answer::read(&datagram, 7, MAC);
        }
    }
}
