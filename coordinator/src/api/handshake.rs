//! A connection that may say only so much until its TLS handshake is over. A handshake message names its own length, up to 64 KiB, and all of it
//! is kept until it is complete; ours need some two KiB, with a tenant's certificate some four.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// What a handshake may take, in bytes.
const LONGEST: usize = 16 << 10;

/// The connection.
pub(super) struct Hello {
    stream: TcpStream,
    /// Bytes that may still come; `usize::MAX` when there is no limit any more.
    left: AtomicUsize,
}

impl Hello {
    pub(super) fn new(stream: TcpStream) -> Self {
        let left = AtomicUsize::new(LONGEST);
        Self { stream, left }
    }

    /// The handshake is over.
    pub(super) fn is_over(&self) {
        self.left.store(usize::MAX, Ordering::Relaxed);
    }
}

impl AsyncRead for Hello {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(context, buffer);
        let left = this.left.get_mut();
        if *left != usize::MAX {
            let read = buffer.filled().len() - before;
            *left = left.checked_sub(read).ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("a TLS handshake of more than {LONGEST} bytes"),
                )
            })?;
        }
        polled
    }
}

impl AsyncWrite for Hello {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
