//! What a network card does for the kernel, done for a TUN device in user space: one trip through the kernel's network stack for many packets of TCP.
//!
//! ```text
//!  TUN ── header, up to 64 KiB ──► split ──► segments with checksums, each to be encrypted
//!  TUN ◄── header, pieces ──────── join  ◄── packets that were decrypted
//! ```
//!
//! Pure: bytes in, bytes out. The tests hold both against each other: what is split of what was joined is what had arrived.

mod checksum;
mod header;
mod join;
mod split;
mod tcp;
#[cfg(test)]
mod tests;

pub(crate) use header::{LENGTH as HEADER_LENGTH, Offload};
pub(crate) use join::{Joined, join};
pub(crate) use split::split;
