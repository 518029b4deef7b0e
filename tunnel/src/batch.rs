//! Many UDP datagrams in one system call: recvmmsg(2) and sendmmsg(2), with the segmentation and coalescing of udp(7) (`UDP_SEGMENT` and `UDP_GRO`).
//!
//! Where a device or an old kernel cannot segment, the kernel says so, and datagrams are sent singly from then on; where a single message cannot be segmented, because its datagrams
//! are longer than the way to its receiver carries whole, that message is sent singly and the kernel fragments.
#![allow(unsafe_code)]

use crate::datagrams::{Datagrams, Message};
use nix::sys::socket::{SockaddrLike as _, SockaddrStorage, setsockopt, sockopt};
use std::io;
use std::mem::size_of;
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

/// Messages in one system call.
const BATCH: usize = 32;
/// Room for the longest message.
const ROOM: usize = 1 << 16;
/// Bytes of a socket's buffers: some dozens of messages, so that a burst waits instead of being lost.
const SOCKET_BUFFER: usize = 8 << 20;
/// How long sending may wait.
const PATIENCE: Duration = Duration::from_millis(200);
/// Words that hold one control message with a number of at most four bytes.
const CONTROL_WORDS: usize = 4;

/// Gives a socket its buffers and lets it coalesce, as far as the kernel can.
pub(crate) fn prepare(socket: &UdpSocket) {
    // The first of each pair goes beyond the system's limit and needs a privilege that an owner of a TUN device has.
    let receive = setsockopt(socket, sockopt::RcvBufForce, &SOCKET_BUFFER)
        .or_else(|_| setsockopt(socket, sockopt::RcvBuf, &SOCKET_BUFFER));
    let send = setsockopt(socket, sockopt::SndBufForce, &SOCKET_BUFFER)
        .or_else(|_| setsockopt(socket, sockopt::SndBuf, &SOCKET_BUFFER));
    // A card that takes nothing more for so long loses what is sent: the worker has the other direction to serve, and may be told to end.
    if let Err(error) = socket.set_write_timeout(Some(PATIENCE)) {
        tracing::info!(%error, "the tunnel's socket waits for its card without an end");
    }
    let coalesce = setsockopt(socket, sockopt::UdpGroSegment, &true);
    for (what, done) in [
        ("receive buffer", receive),
        ("send buffer", send),
        ("UDP_GRO", coalesce),
    ] {
        if let Err(error) = done {
            tracing::info!(what, %error, "the tunnel's socket goes without: it will be slower");
        }
    }
}

/// Messages that have arrived.
#[derive(Debug)]
pub(crate) struct Inbox {
    /// Zeroed by the kernel when it is first touched, so unused room costs nothing.
    bytes: Vec<u8>,
    arrived: Vec<Arrived>,
}

/// Datagrams from one sender.
#[derive(Clone, Copy, Debug)]
struct Arrived {
    from: SocketAddr,
    length: usize,
    segment: usize,
}

impl Inbox {
    pub(crate) fn new() -> Self {
        Self {
            bytes: vec![0; ROOM * BATCH],
            arrived: Vec::with_capacity(BATCH),
        }
    }

    /// Takes what the socket has now, without waiting, in place of what was here before; gives the number.
    pub(crate) fn receive(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        self.arrived.clear();
        // SAFETY: all of these are plain structures of integers and pointers, for which zero is a value.
        let mut names: [libc::sockaddr_storage; BATCH] = unsafe { std::mem::zeroed() };
        // SAFETY: as above.
        let mut pieces: [libc::iovec; BATCH] = unsafe { std::mem::zeroed() };
        // SAFETY: as above.
        let mut headers: [libc::mmsghdr; BATCH] = unsafe { std::mem::zeroed() };
        let mut controls = [[0u64; CONTROL_WORDS]; BATCH];
        for (index, buffer) in self.bytes.chunks_exact_mut(ROOM).enumerate() {
            pieces[index].iov_base = buffer.as_mut_ptr().cast();
            pieces[index].iov_len = buffer.len();
            let header = &mut headers[index].msg_hdr;
            header.msg_name = (&raw mut names[index]).cast();
            header.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            header.msg_iov = &raw mut pieces[index];
            header.msg_iovlen = 1;
            header.msg_control = controls[index].as_mut_ptr().cast();
            header.msg_controllen = size_of::<[u64; CONTROL_WORDS]>() as _;
        }
        // SAFETY: the headers point to one name, one buffer and one control buffer each, which outlive the call and are not otherwise used during it.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                BATCH as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        let Ok(count) = usize::try_from(count) else {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(0),
                _ => Err(error),
            };
        };
        for (name, header) in names.iter().zip(&headers).take(count) {
            let length = header.msg_len as usize;
            // SAFETY: the kernel has filled the header in, and its control buffer is still there.
            let segment = unsafe { coalesced(&header.msg_hdr) }.unwrap_or(length);
            // An address of another family than the internet's does not arrive here; its place is kept, and it is dropped as nobody's.
            let from = from_name(name).unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0)));
            self.arrived.push(Arrived {
                from,
                length,
                segment,
            });
        }
        Ok(count)
    }

    /// What was taken: the sender, its datagrams, and the length of each but the last.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (SocketAddr, &[u8], usize)> {
        let buffers = self.bytes.chunks_exact(ROOM);
        self.arrived
            .iter()
            .zip(buffers)
            .map(|(arrived, buffer)| (arrived.from, &buffer[..arrived.length], arrived.segment))
    }
}

/// Sends all of it, waiting where the socket does. What the kernel will not send is lost, as on any wire.
pub(crate) fn send(socket: &UdpSocket, datagrams: &Datagrams, segmenting: &mut bool) {
    let mut rest = datagrams.messages();
    while let Some(first) = rest.first() {
        let result = if *segmenting || first.range.len() <= first.segment {
            let alike = |message: &Message| *segmenting || message.range.len() <= message.segment;
            let count = rest
                .iter()
                .take(BATCH)
                .take_while(|message| alike(message))
                .count();
            send_batch(socket, datagrams, &rest[..count])
        } else {
            send_singly(socket, datagrams, first).map(|()| 1)
        };
        match result {
            Ok(sent) => rest = &rest[sent..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                if first.range.len() > first.segment && *segmenting && cannot_segment(&error) {
                    // EINVAL is this message's fault (the way is too narrow), the others are the device's.
                    *segmenting = error.raw_os_error() == Some(libc::EINVAL);
                    tracing::debug!(%error, "datagrams are sent one by one");
                    let _ = send_singly(socket, datagrams, first);
                } else {
                    tracing::debug!(%error, to = %first.to, "datagrams were lost");
                }
                rest = &rest[1..];
            }
        }
    }
}

fn send_singly(socket: &UdpSocket, datagrams: &Datagrams, message: &Message) -> io::Result<()> {
    for datagram in datagrams.bytes(message.range.clone()).chunks(message.segment) {
        if let Err(error) = socket.send_to(datagram, message.to) {
            tracing::debug!(%error, to = %message.to, "a datagram was lost");
        }
    }
    Ok(())
}

/// Sends up to [`BATCH`] messages; gives how many the kernel took, at least one.
fn send_batch(socket: &UdpSocket, datagrams: &Datagrams, messages: &[Message]) -> io::Result<usize> {
    let mut names: Vec<SockaddrStorage> = messages.iter().map(|message| message.to.into()).collect();
    // SAFETY: both are plain structures of integers and pointers, for which zero is a value.
    let mut pieces: [libc::iovec; BATCH] = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    let mut headers: [libc::mmsghdr; BATCH] = unsafe { std::mem::zeroed() };
    let mut controls = [[0u64; CONTROL_WORDS]; BATCH];
    for (index, message) in messages.iter().enumerate() {
        let bytes = datagrams.bytes(message.range.clone());
        pieces[index].iov_base = bytes.as_ptr().cast_mut().cast();
        pieces[index].iov_len = bytes.len();
        let header = &mut headers[index].msg_hdr;
        header.msg_namelen = names[index].len();
        header.msg_name = (&raw mut names[index]).cast();
        header.msg_iov = &raw mut pieces[index];
        header.msg_iovlen = 1;
        if bytes.len() > message.segment {
            let size = u16::try_from(message.segment).unwrap_or(u16::MAX);
            header.msg_control = controls[index].as_mut_ptr().cast();
            header.msg_controllen = size_of::<[u64; CONTROL_WORDS]>() as _;
            // SAFETY: the control buffer is aligned for a header and has room for one with two bytes of data.
            unsafe { set_segment_size(header, size) };
        }
    }
    // SAFETY: the headers point to names, pieces and control data that outlive the call. The kernel only reads what the pieces point to.
    let sent = unsafe {
        libc::sendmmsg(
            socket.as_raw_fd(),
            headers.as_mut_ptr(),
            u32::try_from(messages.len()).unwrap_or(0),
            0,
        )
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// EINVAL: a segment and its headers are longer than the wire carries. EIO: the device computes no checksums.
fn cannot_segment(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINVAL | libc::EIO | libc::EOPNOTSUPP | libc::EMSGSIZE | libc::ENOPROTOOPT)
    )
}

/// # Safety
/// `msg_control` must point to `msg_controllen` writable bytes, aligned for and enough for one header with two bytes of data.
unsafe fn set_segment_size(header: &mut libc::msghdr, size: u16) {
    // SAFETY: by the caller's promise there is a first header, and its data has room for two bytes.
    unsafe {
        let control = libc::CMSG_FIRSTHDR(header);
        (*control).cmsg_level = libc::SOL_UDP;
        (*control).cmsg_type = libc::UDP_SEGMENT;
        (*control).cmsg_len = libc::CMSG_LEN(2) as _;
        libc::CMSG_DATA(control).cast::<u16>().write_unaligned(size);
        header.msg_controllen = libc::CMSG_SPACE(2) as _;
    }
}

/// The length of each datagram but the last, where the kernel has coalesced several.
///
/// # Safety
/// `header` must be one that recvmsg(2) has filled in, with its control buffer still there.
unsafe fn coalesced(header: &libc::msghdr) -> Option<usize> {
    // SAFETY: by the caller's promise the control messages are whole; UDP_GRO's data is an int.
    unsafe {
        let mut control = libc::CMSG_FIRSTHDR(header);
        while !control.is_null() {
            if (*control).cmsg_level == libc::SOL_UDP && (*control).cmsg_type == libc::UDP_GRO {
                let size = libc::CMSG_DATA(control).cast::<libc::c_int>().read_unaligned();
                return usize::try_from(size).ok().filter(|size| *size > 0);
            }
            control = libc::CMSG_NXTHDR(header, control);
        }
    }
    None
}

fn from_name(name: &libc::sockaddr_storage) -> Option<SocketAddr> {
    // SAFETY: `sockaddr_storage` is large enough and aligned for any address; its family says which it holds.
    let name = unsafe { SockaddrStorage::from_raw((&raw const *name).cast(), None) }?;
    let four = name
        .as_sockaddr_in()
        .map(|name| SocketAddr::V4(SocketAddrV4::from(*name)));
    four.or_else(|| {
        name.as_sockaddr_in6()
            .map(|name| SocketAddr::V6(SocketAddrV6::from(*name)))
    })
}
