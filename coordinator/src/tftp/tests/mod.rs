//! The protocol against a simulated network, and the service against the clients that people use.

mod advisories;
mod peers;
mod sessions;
mod simulation;
