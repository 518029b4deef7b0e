//! Many UDP datagrams in one system call: recvmmsg(2), sendmmsg(2), and the segmentation of udp(7) (`UDP_SEGMENT`, Linux 4.18).
//!
//! When a thousand servers boot at once, system calls and trips through the network stack are what a boot service pays for. [`Inbox`] takes up to [`BATCH`] datagrams from a
//! socket at once; [`Outbox`] gathers what is to be sent, without copying files, and sends it in batches. Several datagrams of equal length to one address go
//! through the stack as one. Where a network card or driver cannot do that the kernel says so, and they are sent singly from then on.
#![expect(
    unsafe_code,
    reason = "no safe interface has messages with control data of their own"
)]

mod name;

use bytes::Bytes;
use name::Name;
use nix::libc;
use std::io;
use std::mem::size_of;
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// Datagrams in one system call.
pub(crate) const BATCH: usize = 64;
/// The kernel's limits for one segmented message (`UDP_MAX_SEGMENTS`, and the length of an IP packet).
const MOST_SEGMENTS: usize = 64;
const MOST_BYTES: usize = 65_000;
/// `CMSG_SPACE(2)` rounded up to words: the control data that carries a segment's length.
const CONTROL_WORDS: usize = 3;

/// Datagrams that have arrived.
#[derive(Debug)]
pub(crate) struct Inbox {
    bytes: Box<[u8]>,
    room: usize,
    arrived: Vec<(SocketAddr, usize)>,
}

impl Inbox {
    /// For datagrams of at most `room` bytes; longer ones are cut.
    pub(crate) fn new(room: usize) -> Self {
        Self {
            bytes: vec![0; room * BATCH].into(),
            room,
            arrived: Vec::with_capacity(BATCH),
        }
    }

    /// Takes what the socket has now, without waiting, in place of what was here before; gives the number.
    ///
    /// # Errors
    /// Those of recvmmsg(2); nothing to be had is none.
    pub(crate) fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        self.arrived.clear();
        let mut names = [Name::NONE; BATCH];
        // SAFETY: both are plain structures of integers and pointers, for which zero is a value.
        let mut pieces: [libc::iovec; BATCH] = unsafe { std::mem::zeroed() };
        // SAFETY: as above.
        let mut headers: [libc::mmsghdr; BATCH] = unsafe { std::mem::zeroed() };
        for (index, buffer) in self.bytes.chunks_exact_mut(self.room).enumerate() {
            pieces[index].iov_base = buffer.as_mut_ptr().cast();
            pieces[index].iov_len = buffer.len();
            let header = &mut headers[index].msg_hdr;
            header.msg_name = (&raw mut names[index]).cast();
            header.msg_namelen = size_of::<Name>() as libc::socklen_t;
            header.msg_iov = &raw mut pieces[index];
            header.msg_iovlen = 1;
        }
        // SAFETY: the headers point to one name and one buffer each, which outlive the call and are not otherwise used during it.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                BATCH as libc::c_uint,
                libc::MSG_DONTWAIT,
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
        self.arrived.extend(
            names
                .iter()
                .zip(&headers)
                .take(count)
                .map(|(name, header)| (name.address(), header.msg_len as usize)),
        );
        Ok(count)
    }

    /// What was taken, with its senders.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (SocketAddr, &[u8])> {
        let buffers = self.bytes.chunks_exact(self.room);
        self.arrived
            .iter()
            .zip(buffers)
            .map(|((from, length), buffer)| (*from, &buffer[..*length]))
    }
}

/// Datagrams to be sent from one socket.
#[derive(Debug)]
pub(crate) struct Outbox {
    /// Heads of segments, end to end.
    heads: Vec<u8>,
    /// Files that segments lie in.
    files: Vec<Bytes>,
    segments: Vec<Segment>,
    messages: Vec<Message>,
    /// Whether the kernel has taken segmented messages, as far as is known.
    segmenting: bool,
}

/// One datagram: a head of its own and a part of a file.
#[derive(Clone, Debug)]
struct Segment {
    head: Range<usize>,
    file: usize,
    part: Range<usize>,
}

/// Datagrams to one address, of which only the last may be shorter than the first.
#[derive(Clone, Debug)]
struct Message {
    to: SocketAddr,
    segments: Range<usize>,
    bytes: usize,
}

impl Segment {
    fn len(&self) -> usize {
        self.head.len() + self.part.len()
    }
}

impl Default for Outbox {
    fn default() -> Self {
        Self {
            heads: Vec::new(),
            files: Vec::new(),
            segments: Vec::new(),
            messages: Vec::new(),
            segmenting: true,
        }
    }
}

impl Outbox {
    /// Adds a datagram.
    pub(crate) fn datagram(&mut self, to: impl Into<SocketAddr>, bytes: &[u8]) {
        self.blocks(to, &Bytes::new(), std::iter::once((bytes, 0..0)));
    }

    /// Adds datagrams to one address, each of a head and a part of `file`. All but the last must be equally long.
    pub(crate) fn blocks<H: AsRef<[u8]>>(
        &mut self,
        to: impl Into<SocketAddr>,
        file: &Bytes,
        blocks: impl Iterator<Item = (H, Range<usize>)>,
    ) {
        let to = to.into();
        let known = self
            .files
            .last()
            .is_some_and(|last| std::ptr::eq(last.as_ptr(), file.as_ptr()));
        if !known {
            self.files.push(file.clone());
        }
        let mut message: Option<Message> = None;
        for (head, part) in blocks {
            let start = self.heads.len();
            self.heads.extend_from_slice(head.as_ref());
            let segment = Segment {
                head: start..self.heads.len(),
                file: self.files.len() - 1,
                part,
            };
            let (length, index) = (segment.len(), self.segments.len());
            self.segments.push(segment);
            match &mut message {
                Some(message) if message.has_room_for(length) => {
                    message.segments.end += 1;
                    message.bytes += length;
                }
                _ => {
                    let new = Message {
                        to,
                        segments: index..index + 1,
                        bytes: length,
                    };
                    self.messages.extend(message.replace(new));
                }
            }
        }
        self.messages.extend(message);
    }

    /// How many messages wait.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.messages.len()
    }

    /// Takes the datagrams out instead of sending them.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn take(&mut self) -> Vec<(SocketAddr, Vec<u8>)> {
        let messages = std::mem::take(&mut self.messages);
        let datagram = |message: Message| {
            let segment = &self.segments[message.segments.start];
            let head = &self.heads[segment.head.clone()];
            let part = &self.files[segment.file][segment.part.clone()];
            (message.to, [head, part].concat())
        };
        let taken = self.singly(&messages).into_iter().map(datagram).collect();
        *self = Self::default();
        taken
    }

    /// Sends all of it, waiting where the socket does, and forgets it. What the kernel will not send is lost, as on any wire: the first reason is given.
    ///
    /// # Errors
    /// The first of sendmmsg(2).
    pub(crate) fn send(&mut self, socket: BorrowedFd<'_>) -> io::Result<()> {
        if self.messages.is_empty() {
            return Ok(());
        }
        let mut messages = std::mem::take(&mut self.messages);
        if !self.segmenting {
            messages = self.singly(&messages);
        }
        let mut first_error = Ok(());
        let mut rest = &messages[..];
        let mut split;
        while !rest.is_empty() {
            match self.send_batch(socket, &rest[..rest.len().min(BATCH)]) {
                Ok(sent) => rest = &rest[sent..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if rest[0].segments.len() > 1 && cannot_segment(&error) => {
                    tracing::debug!(%error, "datagrams are sent one by one: this wire cannot take several as one");
                    self.segmenting = false;
                    split = self.singly(rest);
                    rest = &split;
                }
                Err(error) => {
                    first_error = first_error.and(Err(error));
                    rest = &rest[1..];
                }
            }
        }
        messages.clear();
        self.messages = messages;
        self.heads.clear();
        self.files.clear();
        self.segments.clear();
        first_error
    }

    fn singly(&self, messages: &[Message]) -> Vec<Message> {
        let each = |message: &Message| {
            let to = message.to;
            message.segments.clone().map(move |index| Message {
                to,
                segments: index..index + 1,
                bytes: self.segments[index].len(),
            })
        };
        messages.iter().flat_map(each).collect()
    }

    /// Sends up to [`BATCH`] messages; gives how many the kernel took, at least one.
    fn send_batch(&self, socket: BorrowedFd<'_>, messages: &[Message]) -> io::Result<usize> {
        let mut names = [Name::NONE; BATCH];
        let mut controls = [[0u64; CONTROL_WORDS]; BATCH];
        // SAFETY: a structure of integers and pointers, for which zero is a value.
        let mut headers: [libc::mmsghdr; BATCH] = unsafe { std::mem::zeroed() };
        let segments: usize = messages.iter().map(|message| message.segments.len()).sum();
        let mut pieces = Vec::with_capacity(2 * segments);
        for (index, message) in messages.iter().enumerate() {
            let begin = pieces.len();
            for segment in &self.segments[message.segments.clone()] {
                pieces.push(piece(&self.heads[segment.head.clone()]));
                pieces.push(piece(&self.files[segment.file][segment.part.clone()]));
            }
            names[index] = Name::of(message.to);
            let header = &mut headers[index].msg_hdr;
            header.msg_namelen = names[index].length();
            header.msg_name = (&raw mut names[index]).cast();
            header.msg_iov = pieces[begin..].as_mut_ptr();
            header.msg_iovlen = pieces.len() - begin;
            if message.segments.len() > 1 {
                let size = self.segments[message.segments.start].len();
                header.msg_control = controls[index].as_mut_ptr().cast();
                header.msg_controllen = size_of::<[u64; CONTROL_WORDS]>();
                // SAFETY: the control buffer is aligned for a header and has room for one with two bytes of data.
                unsafe { set_segment_size(header, u16::try_from(size).unwrap_or(u16::MAX)) };
            }
        }
        // SAFETY: the headers point to names, pieces and control data that outlive the call; `pieces` has not been moved, since its room was reserved at
        // the beginning. The kernel only reads what the pieces point to.
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
}

impl Message {
    fn has_room_for(&self, length: usize) -> bool {
        self.segments.len() < MOST_SEGMENTS && self.bytes + length <= MOST_BYTES
    }
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
        (*control).cmsg_len = libc::CMSG_LEN(2) as usize;
        libc::CMSG_DATA(control).cast::<u16>().write_unaligned(size);
        header.msg_controllen = libc::CMSG_SPACE(2) as usize;
    }
}

fn piece(bytes: &[u8]) -> libc::iovec {
    libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
    use std::os::fd::AsFd as _;

    fn socket() -> (UdpSocket, SocketAddr) {
        socket_at("127.0.0.1:0")
    }

    fn socket_at(address: &str) -> (UdpSocket, SocketAddr) {
        let socket = UdpSocket::bind(address).unwrap();
        socket
            .set_read_timeout(Some(std::time::Duration::from_secs(5)))
            .unwrap();
        let address = socket.local_addr().unwrap();
        (socket, address)
    }

    /// A file of 100 blocks of 500 bytes and one of 10, each behind its number: no more than a socket holds.
    fn send_file(outbox: &mut Outbox, to: SocketAddr, file: &Bytes) {
        let blocks = (0..101u32).map(|number| {
            let start = number as usize * 500;
            (number.to_be_bytes(), start..(start + 500).min(file.len()))
        });
        outbox.blocks(to, file, blocks);
    }

    fn receive_file(socket: &UdpSocket) -> Vec<u8> {
        let (mut file, mut buffer) = (Vec::new(), [0; 2000]);
        for number in 0..101u32 {
            let length = socket.recv(&mut buffer).unwrap();
            assert_eq!(buffer[..4], number.to_be_bytes());
            file.extend_from_slice(&buffer[4..length]);
        }
        file
    }

    #[test]
    fn segmented_or_not_every_datagram_arrives_as_it_was_written() {
        for (address, segmenting) in [
            ("127.0.0.1:0", true),
            ("127.0.0.1:0", false),
            ("[::1]:0", true),
            ("[::1]:0", false),
        ] {
            let ((here, from), (there, to)) = (socket_at(address), socket_at(address));
            let file: Bytes = (0..50_010u32).map(|index| (index % 251) as u8).collect();
            let mut outbox = Outbox {
                segmenting,
                ..Outbox::default()
            };
            send_file(&mut outbox, to, &file);
            outbox.datagram(to, b"the end");
            assert_eq!(outbox.len(), 3, "64 blocks, 37 blocks, and the last word");
            outbox.send(here.as_fd()).unwrap();
            assert!(receive_file(&there) == file);
            let mut buffer = [0; 10];
            let length = there.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], b"the end");
            assert_eq!(outbox.segmenting, segmenting);
            here.send_to(b"x", to).unwrap();
            let mut inbox = Inbox::new(8);
            while inbox.receive(there.as_fd()).unwrap() == 0 {}
            assert_eq!(inbox.iter().collect::<Vec<_>>(), [(from, &b"x"[..])]);
        }
    }

    #[test]
    fn what_the_wire_cannot_take_as_one_is_sent_singly() {
        let ((here, _), (there, to)) = (socket(), socket());
        // Without checksums the kernel refuses to segment, as it does for devices that compute none.
        forbid_checksums(&here);
        let file: Bytes = (0..50_010u32).map(|index| (index % 251) as u8).collect();
        let mut outbox = Outbox::default();
        send_file(&mut outbox, to, &file);
        outbox.send(here.as_fd()).unwrap();
        assert!(receive_file(&there) == file);
        assert!(!outbox.segmenting);
    }

    fn forbid_checksums(socket: &UdpSocket) {
        let yes: libc::c_int = 1;
        // SAFETY: the option's value is an integer, which is passed with its size.
        let done = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_NO_CHECK,
                (&raw const yes).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
        assert_eq!(done, 0);
    }

    #[test]
    fn a_batch_arrives_with_its_senders() {
        let (here, to) = socket();
        let mut inbox = Inbox::new(8);
        assert_eq!(inbox.receive(here.as_fd()).unwrap(), 0);
        let others: Vec<_> = (0..70).map(|_| socket()).collect();
        for (number, (other, _)) in others.iter().enumerate() {
            other
                .send_to(format!("{number} and too much").as_bytes(), to)
                .unwrap();
        }
        let mut got = Vec::new();
        while inbox.receive(here.as_fd()).unwrap() > 0 {
            got.extend(inbox.iter().map(|(from, bytes)| (from, bytes.to_vec())));
        }
        assert_eq!(got.len(), 70);
        for (number, ((from, bytes), (_, sender))) in got.iter().zip(&others).enumerate() {
            assert_eq!(
                (from, &bytes[..]),
                (sender, &format!("{number} and too much").as_bytes()[..8])
            );
        }
    }

    #[test]
    fn one_refused_datagram_does_not_hold_up_the_others() {
        let ((here, _), (there, to)) = (socket(), socket());
        let mut outbox = Outbox::default();
        // A datagram to the whole network is refused to a socket that did not ask for the right.
        outbox.datagram(SocketAddrV4::new(Ipv4Addr::BROADCAST, 9), b"x");
        outbox.datagram(to, b"y");
        assert!(outbox.send(here.as_fd()).is_err());
        let mut buffer = [0; 10];
        assert_eq!(there.recv(&mut buffer).unwrap(), 1);
    }
}
