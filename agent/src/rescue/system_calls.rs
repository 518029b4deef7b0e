//! The one thing in rescue mode that the compiler cannot see: that a descriptor stays open for as long as it is waited for.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::OwnedFd;
use tokio::io::unix::AsyncFd;

/// Lets the runtime wait for a descriptor.
///
/// # Errors
/// Those of epoll(7), and without a runtime.
pub(super) fn waited_for(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is an open descriptor that nobody else closes. It moves into the `AsyncFd`, and nothing here takes it out or replaces it before that is dropped.
    let waited = unsafe { AsyncFd::register(descriptor) };
    Ok(waited?)
}
