//! Two connections as one, until both directions have ended.

use std::io;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional_with_sizes};

/// Bytes in one go, in either direction.
const BUFFER: usize = 64 << 10;

/// Carries bytes both ways, and the ends of both ways. An error leaves both as they are: who drops them breaks them off.
pub(super) async fn relay(
    near: &mut (impl AsyncRead + AsyncWrite + Unpin),
    far: &mut (impl AsyncRead + AsyncWrite + Unpin),
) -> io::Result<()> {
    copy_bidirectional_with_sizes(near, far, BUFFER, BUFFER)
        .await
        .map(drop)
}
