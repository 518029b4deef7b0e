//! Read-only TFTP for the first boot loaders (RFC 1350, 2347, 2348, 2349, 7440).
//!
//! Only what firmware cannot fetch in another way comes over TFTP, and the rest where HTTP fails. There is no file system behind it: a name is looked up in [`TftpNames`], exactly, or is unknown.
//! [`Terms::negotiate`] and [`Transfer`] are the whole protocol without a socket, `sessions` is the table of all transfers, still without one, and [`TftpService`] moves the
//! datagrams in batches. A thousand servers that are powered on at once share a handful of sockets and one thread.

mod engine;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod negotiation;
mod packet;
mod service;
mod sessions;
#[cfg(test)]
mod tests;
mod transfer;
mod wheel;

pub use negotiation::Terms;
pub use packet::{ErrorCode, FromClient, Malformed, ReadRequest};
pub use service::{SERVER_PORT, TftpError, TftpNames, TftpService, TftpSettings};
pub use transfer::{CONFIRMED_SENDS, End, Event, Outgoing, Transfer, UNCONFIRMED_SENDS};
