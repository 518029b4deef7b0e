//! The Lease Manager: the lender's side of a transfer.

pub mod boot;
pub mod dhcp;
pub mod power;
pub mod tftp;
