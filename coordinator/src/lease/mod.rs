//! Leases: what may happen to them ([`machine`]), how long it may take ([`deadline`]), and who makes it happen ([`driver`]).
//!
//! [`Driver`] is the only one that touches store and power. The API and the boot services ask it, in three rooms: [`tenant`] for what the
//! PO orders, [`agent`] for what a server in stage 1 says, [`boots`] for what a server that asks to boot is told. [`rescue`] has
//! who may hold a server up and open a console on it.

mod admission;
pub mod agent;
mod attention;
pub mod boots;
pub mod deadline;
pub mod driver;
mod groups;
mod inventory;
pub mod machine;
mod pages;
mod power_queue;
mod replacement;
pub mod rescue;
mod reserved;
pub mod tenant;
mod tokens;

pub use deadline::{Deadlines, Rules, TermRules};
pub use driver::{Driver, DriverError};
pub use machine::{Boot, Effect, Event, Lease, OutOfPlace, Phase, Release, Return, Step, Term};
