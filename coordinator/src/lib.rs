//! The Lease Manager: the lender's side of a transfer.
//!
//! | module | what |
//! |---|---|
//! | [`config`] | `lm.toml` and `servers.toml` |
//! | [`pki`] | CA, the LM's certificate, tenants' certificates |
//! | [`store`] | all that must not be forgotten; the only place with SQL |
//! | [`fleet`] | how servers are declared, found by card and address, and compared with what they were |
//! | [`search`] | requirements × servers → the smallest that is sufficient |
//! | [`merge`] | the enterprise's kickstart × the lender's hardware |
//! | [`lease`] | the life of a lease, and the driver that makes it happen |
//! | [`erasure`] | what becomes of a report of wipe mode, and the signature over it |
//! | [`api`] | for tenants and agents, over TLS |
//! | [`dhcp`], [`dhcp6`], [`tftp`], [`boot`] | what a server meets between firmware and agent |
//! | [`logs`] | what is written to standard error; lines about strangers by the piece (`seldom`) |
//! | [`metrics`] | numbers for Prometheus, health and readiness |
//! | [`power`] | Redfish, IPMI, Wake-on-LAN and commands |
//! | [`switch`] | a program of the lender that puts a server's port into its tenant's network |
//! | [`tenants`] | who may borrow, and how much |
//! | [`audit`] | who did what, in a chain of digests |
//! | [`serial`] | what the servers' serial lines say while a lease boots them |
//! | [`console`] | the lender's terminals on servers in rescue mode |
//! | [`commands`] | the command line

pub mod api;
pub mod audit;
pub mod boot;
pub mod commands;
pub mod config;
pub mod console;
mod datagrams;
pub mod dhcp;
pub mod dhcp6;
pub mod erasure;
pub mod fleet;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod lease;
pub mod logs;
pub mod merge;
pub mod metrics;
pub mod pki;
pub mod power;
pub mod search;
mod seats;
mod seldom;
pub mod serial;
pub mod store;
pub mod switch;
pub mod tenants;
pub mod tftp;
