//! A connection and a flow through the tunnel, as tokio's programs know them.

use super::Shared;
use super::stack::Stack;
use smoltcp::iface::SocketHandle;
use smoltcp::socket::{tcp, udp};
use smoltcp::wire::{IpAddress, IpEndpoint};
use std::io;
use std::net::SocketAddrV4;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A TCP connection that the kernel knows nothing of. Dropping it before it is shut down breaks it off.
pub struct Stream {
    handle: SocketHandle,
    shared: Arc<Shared>,
}

impl Stream {
    /// Connects; the caller bounds the time.
    pub(super) async fn connect(shared: &Arc<Shared>, to: SocketAddrV4) -> io::Result<Self> {
        let handle = shared.stack().connect(to).map_err(io::Error::other)?;
        let stream = Self {
            handle,
            shared: Arc::clone(shared),
        };
        shared.work.notify_one();
        std::future::poll_fn(|context| stream.poll_connected(context)).await?;
        Ok(stream)
    }

    /// A connection that came to us.
    #[cfg(test)]
    pub(super) async fn accepted(shared: &Arc<Shared>, handle: SocketHandle) -> io::Result<Self> {
        let stream = Self {
            handle,
            shared: Arc::clone(shared),
        };
        std::future::poll_fn(|context| stream.poll_connected(context)).await?;
        Ok(stream)
    }

    fn poll_connected(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut stack = self.shared.stack();
        let socket = stack.tcp(self.handle);
        match socket.state() {
            tcp::State::Listen | tcp::State::SynSent | tcp::State::SynReceived => {
                socket.register_send_waker(context.waker());
                Poll::Pending
            }
            tcp::State::Closed => Poll::Ready(Err(io::ErrorKind::ConnectionRefused.into())),
            _ => Poll::Ready(Ok(())),
        }
    }

    fn with<R>(&self, act: impl FnOnce(&mut tcp::Socket<'static>) -> R) -> R {
        let mut stack = self.shared.stack();
        act(stack.tcp(self.handle))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.shared.stack().abandon(self.handle);
        self.shared.work.notify_one();
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read: Poll<io::Result<usize>> =
            self.with(|socket| match socket.recv_slice(buffer.initialize_unfilled()) {
                Ok(0) if buffer.remaining() > 0 => {
                    socket.register_recv_waker(context.waker());
                    Poll::Pending
                }
                Ok(length) => Poll::Ready(Ok(length)),
                Err(tcp::RecvError::Finished) => Poll::Ready(Ok(0)),
                Err(tcp::RecvError::InvalidState) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            });
        let length = ready!(read)?;
        buffer.advance(length);
        // There is room again, and the other end may have to be told.
        self.shared.work.notify_one();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written: Poll<io::Result<usize>> = self.with(|socket| match socket.send_slice(bytes) {
            Ok(0) if !bytes.is_empty() => {
                socket.register_send_waker(context.waker());
                Poll::Pending
            }
            Ok(length) => Poll::Ready(Ok(length)),
            Err(tcp::SendError::InvalidState) => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        });
        let length = ready!(written)?;
        self.shared.work.notify_one();
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What was written is sent by itself.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(tcp::Socket::close);
        self.shared.work.notify_one();
        Poll::Ready(Ok(()))
    }
}

/// Datagrams to one address and back, from a port of their own.
pub struct Flow {
    handle: SocketHandle,
    to: IpEndpoint,
    shared: Arc<Shared>,
}

impl Flow {
    pub(super) fn open(shared: &Arc<Shared>, to: SocketAddrV4) -> io::Result<Self> {
        let handle = shared.stack().flow().map_err(io::Error::other)?;
        Ok(Self {
            handle,
            to: IpEndpoint::new(IpAddress::Ipv4(*to.ip()), to.port()),
            shared: Arc::clone(shared),
        })
    }

    /// Sends one datagram; one that finds no room is lost, as on any wire.
    pub fn send(&self, datagram: &[u8]) {
        let mut stack = self.shared.stack();
        if let Err(error) = stack.udp(self.handle).send_slice(datagram, self.to) {
            tracing::debug!(%error, to = %self.to, "a datagram was lost");
        }
        drop(stack);
        self.shared.work.notify_one();
    }

    /// The next datagram from there. Cancel-safe.
    ///
    /// # Errors
    /// None as long as the tunnel runs.
    pub async fn receive(&self) -> io::Result<Vec<u8>> {
        std::future::poll_fn(|context| self.poll_receive(context)).await
    }

    fn poll_receive(&self, context: &mut Context<'_>) -> Poll<io::Result<Vec<u8>>> {
        let mut stack: std::sync::MutexGuard<'_, Stack> = self.shared.stack();
        let socket = stack.udp(self.handle);
        loop {
            match socket.recv() {
                Ok((datagram, from)) if from.endpoint == self.to => {
                    return Poll::Ready(Ok(datagram.to_vec()));
                }
                // Whoever else found the port is not heard.
                Ok(_) => {}
                Err(udp::RecvError::Exhausted | udp::RecvError::Truncated) => break,
            }
        }
        socket.register_recv_waker(context.waker());
        Poll::Pending
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.shared.stack().end_flow(self.handle);
    }
}
