//! Connections to the enterprise's own addresses, taken on the loopback interface and carried to where they wanted.
//!
//! The socket's local address is where the program wanted to go. A connection that cannot be made there is broken off here by a reset, so that a program does not take it
//! for an empty answer; nor does one that breaks off in the middle end as if it were complete.

use super::{Inside, LOOPBACK, ProxyError, note, on_loopback_alone, relay};
use crate::backoff::Backoff;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

const BACKLOG: u32 = 128;

/// Listens on a port of every address of the loopback interface.
pub(super) fn listen(port: u16) -> Result<TcpListener, ProxyError> {
    let address = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port);
    let bound = || {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        on_loopback_alone(&socket)?;
        socket.bind(address.into())?;
        socket.listen(BACKLOG)
    };
    bound().map_err(|source| ProxyError::Listen { address, source })
}

/// Carries connections until it is dropped.
pub(super) async fn serve(listener: TcpListener, inside: Inside) {
    let mut tasks = tokio::task::JoinSet::new();
    let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(1));
    loop {
        // Goal: the next connection. Both may be dropped: what is not accepted waits, and a task that has ended stays so.
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(tasks.spawn(carry(stream, inside.clone()))),
                // Out of descriptors, most likely: connections that end give some back.
                Err(error) => {
                    note("cannot take a connection on", LOOPBACK, &error);
                    backoff.wait().await;
                }
            },
            Some(_) = tasks.join_next() => {}
        }
    }
}

async fn carry(mut near: TcpStream, inside: Inside) {
    let wanted = match near.local_addr() {
        Ok(SocketAddr::V4(wanted)) if inside.contains(*wanted.ip()) => wanted,
        // Somebody meant this host itself.
        _ => return,
    };
    if let Err(error) = through(&mut near, wanted, &inside).await {
        note("the connection failed to", wanted, &error);
        // Best effort: without it the program sees an end in place of a reset.
        let _ = near.set_zero_linger();
    }
}

async fn through(near: &mut TcpStream, wanted: SocketAddrV4, inside: &Inside) -> io::Result<()> {
    let mut far = inside.connect(wanted).await?;
    near.set_nodelay(true)?;
    relay::relay(near, &mut far).await
}
