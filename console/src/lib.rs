//! Consoles of servers in rescue mode, as far as both managers have them in common.
//!
//! ```text
//!  terminal ── Unix socket ──► manager: calls ─ "call" in the next word ─► agent
//!  [`terminal`]                [`calls`]  ◄──── it dials, naming the call ──┘
//!                              [`relay`]: frames both ways, bounded in rate and time, until it is not permitted any more
//! ```
//!
//! Lender and enterprise have a manager each, and neither's console passes the other's. What is the same in both is here: none of it knows who may.

pub mod calls;
pub mod relay;
pub mod socket;
pub mod terminal;

use tokio::io::{AsyncRead, AsyncWrite};

/// The far end of a session, whatever carries it.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for S {}
