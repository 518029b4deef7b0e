//! One netlink socket, blocking, because the kernel answers before the call that asks returns; the time limit is for kernels that do not.

use super::KernelError;
use super::attribute::{Writer, exact, read};
use super::message::{DeviceReport, Malformed, question};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt,
    socket, sockopt,
};
use nix::sys::time::TimeVal;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use zeroize::Zeroizing;

const PATIENCE_S: i64 = 10;
/// The kernel's messages of a dump have at most 32 KiB.
const LONGEST: usize = 64 << 10;
/// How often a list that changes under the reader is read again.
const READINGS: u32 = 5;

const MESSAGE_HEADER: usize = 16;
const GENERIC_HEADER: usize = 4;
const REQUEST: u16 = libc::NLM_F_REQUEST as u16;
const ACKNOWLEDGE: u16 = libc::NLM_F_ACK as u16;
const DUMP: u16 = libc::NLM_F_DUMP as u16;
/// The list changed while it was read (`NLM_F_DUMP_INTR`).
const INTERRUPTED: u16 = 0x10;
const ERROR: u16 = libc::NLMSG_ERROR as u16;
const DONE: u16 = libc::NLMSG_DONE as u16;
const DELETE_LINK: u16 = libc::RTM_DELLINK;

const CONTROLLER: Family = Family(libc::GENL_ID_CTRL as u16);
const GET_FAMILY: u8 = libc::CTRL_CMD_GETFAMILY as u8;
const FAMILY_ID: u16 = libc::CTRL_ATTR_FAMILY_ID as u16;
const FAMILY_NAME: u16 = libc::CTRL_ATTR_FAMILY_NAME as u16;
const GET_DEVICE: u8 = 0;
const SET_DEVICE: u8 = 1;
const VERSION: u8 = 1;

/// The kernel's number for a family of generic netlink.
#[derive(Clone, Copy)]
pub(super) struct Family(u16);

/// A netlink socket in the network namespace of the thread that opened it.
pub(super) struct Socket {
    descriptor: OwnedFd,
    sequence: AtomicU32,
}

/// What is to be sent.
struct Request<'a> {
    kind: u16,
    flags: u16,
    /// Command and version, where the family is one of generic netlink.
    command: Option<u8>,
    body: &'a [u8],
    /// What it is about, for errors.
    what: &'a str,
}

impl Socket {
    pub(super) fn generic() -> Result<Self, KernelError> {
        Self::open(SockProtocol::NetlinkGeneric)
    }

    pub(super) fn route() -> Result<Self, KernelError> {
        Self::open(SockProtocol::NetlinkRoute)
    }

    fn open(protocol: SockProtocol) -> Result<Self, KernelError> {
        let open = || {
            let descriptor = socket(
                AddressFamily::Netlink,
                SockType::Raw,
                SockFlag::SOCK_CLOEXEC,
                protocol,
            )?;
            setsockopt(&descriptor, sockopt::ReceiveTimeout, &TimeVal::new(PATIENCE_S, 0))?;
            bind(descriptor.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
            Ok::<_, nix::Error>(descriptor)
        };
        Ok(Self {
            descriptor: open().map_err(|error| KernelError::Open(error.into()))?,
            sequence: AtomicU32::new(1),
        })
    }

    /// The family "wireguard"; asking for it loads the module, where that is allowed.
    pub(super) fn wireguard(&self) -> Result<Family, KernelError> {
        let what = "find the kernel's WireGuard";
        let mut body = Writer::new(32);
        body.put(FAMILY_NAME, b"wireguard\0");
        let request = Request {
            kind: CONTROLLER.0,
            flags: REQUEST | ACKNOWLEDGE,
            command: Some(GET_FAMILY),
            body: &body.done(),
            what,
        };
        let mut family = None;
        let asked = self.exchange(&request, |answer| {
            for attribute in read(answer) {
                if let (FAMILY_ID, value) = attribute? {
                    family = Some(Family(u16::from_ne_bytes(exact(value)?)));
                }
            }
            Ok(())
        });
        match asked {
            Err(KernelError::Request { source, .. }) if source.raw_os_error() == Some(libc::ENOENT) => {
                Err(KernelError::Absent)
            }
            Err(error) => Err(error),
            Ok(_) => family.ok_or(KernelError::Absent),
        }
    }

    /// Sends one message of a change.
    pub(super) fn tell(&self, family: Family, body: &[u8], what: &str) -> Result<(), KernelError> {
        let request = Request {
            kind: family.0,
            flags: REQUEST | ACKNOWLEDGE,
            command: Some(SET_DEVICE),
            body,
            what,
        };
        self.exchange(&request, |_| Ok(())).map(drop)
    }

    /// All that the kernel tells of a device.
    pub(super) fn device(&self, family: Family, index: u32, name: &str) -> Result<DeviceReport, KernelError> {
        let what = format!("read the WireGuard peers of {name}");
        let request = Request {
            kind: family.0,
            flags: REQUEST | DUMP,
            command: Some(GET_DEVICE),
            body: &question(index),
            what: &what,
        };
        for _ in 0..READINGS {
            let mut report = DeviceReport::default();
            if self.exchange(&request, |answer| report.take(answer))? == Reading::Steady {
                return Ok(report);
            }
        }
        Err(KernelError::Unsteady {
            name: name.to_owned(),
        })
    }

    /// Removes a device; one that is gone is no error.
    pub(super) fn remove_link(&self, index: u32, name: &str) -> Result<(), KernelError> {
        // `struct ifinfomsg` of rtnetlink(7): family, padding, type, index, flags, mask of flags.
        let mut body = [0; 16];
        body[4..8].copy_from_slice(&index.to_ne_bytes());
        let request = Request {
            kind: DELETE_LINK,
            flags: REQUEST | ACKNOWLEDGE,
            command: None,
            body: &body,
            what: &format!("remove the device {name}"),
        };
        match self.exchange(&request, |_| Ok(())) {
            Err(KernelError::Request { source, .. }) if source.raw_os_error() == Some(libc::ENODEV) => Ok(()),
            done => done.map(drop),
        }
    }

    /// Sends a request and gives each answer's attributes to `take`, up to the acknowledgement or the end of a dump.
    fn exchange(
        &self,
        request: &Request<'_>,
        mut take: impl FnMut(&[u8]) -> Result<(), Malformed>,
    ) -> Result<Reading, KernelError> {
        let refused = |source: io::Error| KernelError::Request {
            what: request.what.to_owned(),
            source,
        };
        let unreadable = |source| KernelError::Answer {
            what: request.what.to_owned(),
            source,
        };
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
        let bytes = request.bytes(sequence);
        let descriptor = self.descriptor.as_raw_fd();
        send(descriptor, &bytes, MsgFlags::empty()).map_err(|error| refused(error.into()))?;
        // A device's answer holds its private key.
        let mut buffer = Zeroizing::new(vec![0; LONGEST]);
        let mut reading = Reading::Steady;
        loop {
            let length =
                recv(descriptor, &mut buffer, MsgFlags::empty()).map_err(|error| refused(error.into()))?;
            let mut rest = &buffer[..length];
            while !rest.is_empty() {
                let (message, after) = Message::split(rest).map_err(unreadable)?;
                rest = after;
                if message.sequence != sequence {
                    continue;
                }
                if message.flags & INTERRUPTED != 0 {
                    reading = Reading::Changing;
                }
                match message.kind {
                    ERROR | DONE => {
                        return message
                            .outcome()
                            .map_err(unreadable)?
                            .map_err(refused)
                            .map(|()| reading);
                    }
                    _ => take(message.body.get(GENERIC_HEADER..).unwrap_or_default()).map_err(unreadable)?,
                }
            }
        }
    }
}

/// Whether what was read was the same from its beginning to its end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    Steady,
    Changing,
}

impl Request<'_> {
    /// `struct nlmsghdr`, `struct genlmsghdr` where there is a command, and the body.
    fn bytes(&self, sequence: u32) -> Zeroizing<Vec<u8>> {
        let generic = self.command.map_or(0, |_| GENERIC_HEADER);
        let length = MESSAGE_HEADER + generic + self.body.len();
        let mut bytes = Zeroizing::new(Vec::with_capacity(length));
        bytes.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes());
        bytes.extend_from_slice(&self.kind.to_ne_bytes());
        bytes.extend_from_slice(&self.flags.to_ne_bytes());
        bytes.extend_from_slice(&sequence.to_ne_bytes());
        bytes.extend_from_slice(&[0; 4]);
        if let Some(command) = self.command {
            bytes.extend_from_slice(&[command, VERSION, 0, 0]);
        }
        bytes.extend_from_slice(self.body);
        bytes
    }
}

/// A message of the kernel.
struct Message<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    body: &'a [u8],
}

impl<'a> Message<'a> {
    /// The first message of `bytes`, and what comes after it.
    fn split(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), Malformed> {
        let (header, _) = bytes
            .split_first_chunk::<MESSAGE_HEADER>()
            .ok_or(Malformed::Short)?;
        let [a, b, c, d, e, f, g, h, i, j, k, l, ..] = *header;
        let length = usize::try_from(u32::from_ne_bytes([a, b, c, d])).map_err(|_| Malformed::Length)?;
        let body = bytes.get(MESSAGE_HEADER..length).ok_or(Malformed::Length)?;
        let message = Self {
            kind: u16::from_ne_bytes([e, f]),
            flags: u16::from_ne_bytes([g, h]),
            sequence: u32::from_ne_bytes([i, j, k, l]),
            body,
        };
        Ok((
            message,
            bytes.get(length.next_multiple_of(4)..).unwrap_or_default(),
        ))
    }

    /// What a message of the kind ERROR or DONE says: zero or a negative number of an error.
    fn outcome(&self) -> Result<io::Result<()>, Malformed> {
        let code = self.body.first_chunk().copied().map(i32::from_ne_bytes);
        match code.ok_or(Malformed::Short)? {
            0 => Ok(Ok(())),
            code => Ok(Err(io::Error::from_raw_os_error(code.saturating_neg()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_lie_one_after_the_other() {
        let request = Request {
            kind: 17,
            flags: REQUEST,
            command: Some(1),
            body: &[7; 5],
            what: "test",
        };
        let mut bytes = request.bytes(9).to_vec();
        bytes.extend_from_slice(&[0; 3]);
        bytes.extend_from_slice(&request.bytes(10));
        let (first, rest) = Message::split(&bytes).unwrap();
        assert_eq!((first.kind, first.sequence, first.body.len()), (17, 9, 9));
        let (second, rest) = Message::split(rest).unwrap();
        assert_eq!((second.sequence, rest.len()), (10, 0));
        assert_eq!(Message::split(&bytes[..15]).err(), Some(Malformed::Short));
        assert_eq!(Message::split(&bytes[..20]).err(), Some(Malformed::Length));
        // A length that is shorter than its own header would be read for ever.
        assert_eq!(Message::split(&[0; 32]).err(), Some(Malformed::Length));
    }

    #[test]
    fn a_kernel_without_wireguard_says_so() {
        match Socket::generic().unwrap().wireguard() {
            Ok(_) | Err(KernelError::Absent) => {}
            Err(error) => panic!("{error}"),
        }
    }
}
