//! DNS by UDP to the enterprise's own addresses: questions are taken on the loopback interface, carried to where they wanted, and answered from there.
//!
//! One flow for each program and server, which ends when nothing has come back for a while. There is one port, 53: what else an installer sends by UDP goes by names
//! that can be told (time, by the agent's own clock) or is of no use to it (logs).

use super::{Inside, ProxyError, on_loopback_alone};
use leaseboot_tunnel::userspace::Flow;
use nix::cmsg_space;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, sendmsg, setsockopt, sockopt,
};
use std::collections::HashMap;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

const PORT: u16 = 53;
/// EDNS(0) asks for 4096 bytes at most in practice (RFC 6891, 6.2.5).
const LONGEST: usize = 4096;
/// A resolver gives up after 5 s by default (resolv.conf(5)).
const IDLE: Duration = Duration::from_secs(15);
const MOST_FLOWS: usize = 64;
const WAITING: usize = 16;

/// Who asks whom.
type Ends = (SocketAddrV4, SocketAddrV4);

/// Listens on the port of every address of the loopback interface.
pub(super) fn listen() -> Result<UdpSocket, ProxyError> {
    let address = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, PORT);
    let bound = || {
        let socket = std::net::UdpSocket::bind(address)?;
        on_loopback_alone(&socket)?;
        setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
        socket.set_nonblocking(true)?;
        UdpSocket::from_std(socket)
    };
    bound().map_err(|source| ProxyError::Listen { address, source })
}

/// Carries questions and answers until it is dropped.
pub(super) async fn serve(socket: UdpSocket, inside: Inside) {
    let socket = Arc::new(socket);
    let mut flows: HashMap<Ends, mpsc::Sender<Vec<u8>>> = HashMap::new();
    let mut tasks = JoinSet::new();
    loop {
        // Goal: the next question. Both may be dropped: a datagram that is not received waits, and a task that has ended stays so.
        tokio::select! {
            received = receive(&socket) => {
                let Ok((ends, question)) = received else { continue };
                let open = flows.get(&ends).is_some_and(|flow| !flow.is_closed());
                if !open && inside.contains(*ends.1.ip()) && flows.len() < MOST_FLOWS
                    && let Ok(flow) = inside.dialler.flow(ends.1)
                {
                    let (sender, questions) = mpsc::channel(WAITING);
                    flows.insert(ends, sender);
                    tasks.spawn(carry(Arc::clone(&socket), ends, flow, questions));
                }
                if let Some(flow) = flows.get(&ends) {
                    // A queue that is full loses it, as a wire would.
                    let _ = flow.try_send(question);
                }
            }
            Some(Ok(ended)) = tasks.join_next() => drop(flows.remove(&ended)),
        }
    }
}

/// One flow, until nothing has gone either way for a while; gives its ends.
async fn carry(
    socket: Arc<UdpSocket>,
    ends: Ends,
    flow: Flow,
    mut questions: mpsc::Receiver<Vec<u8>>,
) -> Ends {
    loop {
        // Goal: a question or an answer. Both are cancel-safe.
        let next = timeout(IDLE, async {
            tokio::select! {
                question = questions.recv() => match question {
                    Some(question) => { flow.send(&question); true }
                    None => false,
                },
                answer = flow.receive() => match answer {
                    Ok(answer) => { let _ = send(&socket, ends, &answer).await; true }
                    Err(_) => false,
                },
            }
        });
        if !next.await.unwrap_or(false) {
            return ends;
        }
    }
}

async fn receive(socket: &UdpSocket) -> io::Result<(Ends, Vec<u8>)> {
    socket
        .async_io(Interest::READABLE, || {
            let mut bytes = vec![0; LONGEST];
            let mut control = cmsg_space!(libc::in_pktinfo);
            let mut pieces = [IoSliceMut::new(&mut bytes)];
            let message = recvmsg::<SockaddrIn>(
                socket.as_raw_fd(),
                &mut pieces,
                Some(&mut control),
                MsgFlags::empty(),
            )?;
            let length = message.bytes;
            let wanted = message.cmsgs()?.find_map(|control| match control {
                ControlMessageOwned::Ipv4PacketInfo(info) => {
                    Some(Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr)))
                }
                _ => None,
            });
            let ends = message
                .address
                .zip(wanted)
                .map(|(from, wanted)| (SocketAddrV4::from(from), SocketAddrV4::new(wanted, PORT)));
            let ends = ends.ok_or(io::ErrorKind::InvalidData)?;
            bytes.truncate(length);
            Ok((ends, bytes))
        })
        .await
}

/// Answers as if it were the server.
async fn send(socket: &UdpSocket, (to, from): Ends, answer: &[u8]) -> io::Result<()> {
    let own = libc::in_pktinfo {
        ipi_ifindex: 0,
        ipi_spec_dst: libc::in_addr {
            s_addr: u32::from(*from.ip()).to_be(),
        },
        ipi_addr: libc::in_addr { s_addr: 0 },
    };
    socket
        .async_io(Interest::WRITABLE, || {
            sendmsg(
                socket.as_raw_fd(),
                &[IoSlice::new(answer)],
                &[ControlMessage::Ipv4PacketInfo(&own)],
                MsgFlags::empty(),
                Some(&SockaddrIn::from(to)),
            )?;
            Ok(())
        })
        .await
}
