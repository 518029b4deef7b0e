//! The lender's servers: how they are declared, and what is different about them since.

mod approve;
mod compare;
mod policy;

pub use approve::{Approval, ApproveError, approve};
pub use compare::{Basis, Difference, DifferenceKind, compare};
pub use policy::{InventoryPolicy, Reaction};
