//! The API of the Lease Manager: for tenants (mutual TLS) and for agents (bearer tokens), on one port.
//!
//! | module | what |
//! |---|---|
//! | `listener` | connections: TLS, who is at the other end, how many and how long |
//! | `tenants` | the routes of `leaseboot_protocol::leases` |
//! | `agents` | the routes of `leaseboot_protocol::agent` |
//! | `refusal` | what an error looks like outside, and what stays inside |

mod agents;
mod listener;
mod refusal;
mod tenants;

pub use listener::{Api, ApiError, Peer};

use crate::lease::Driver;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use std::sync::Arc;

/// Settings with a kickstart are the largest messages.
const LARGEST_BODY: usize = 1 << 20;

/// All routes. Each request must carry a [`Peer`] as its extension, as [`Api`] provides it.
pub fn router(driver: Arc<Driver>) -> Router {
    Router::new()
        .merge(tenants::routes())
        .merge(agents::routes())
        .fallback(refusal::no_such_path)
        .method_not_allowed_fallback(refusal::no_such_method)
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .with_state(driver)
}
