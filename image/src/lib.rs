//! The stage-1 image and the files by which a bare server gets to it.
//!
//! `cargo xtask image` calls [`build::build`], which goes through the rooms in this order:
//!
//! ```text
//! recipe.toml ─┐
//! kernel package ─> kernel ─> modules (selection with its closure) ─> stage1 ─┐
//! agent sources ──> musl ───> agent ──────────────────────────────> stage1 ──┼─> manifest, sizes ─> target/image/
//! GRUB, iPXE packages, grub/binaries.toml ─────────> boot_files ──────────────┘
//! ```
//!
//! The selection goes into the image whole, and once more in parts ([`split`]), for servers whose hardware is on record.
//! Everything is a pure function of its inputs (package versions, compiler, sources, recipe), so that an enterprise can make
//! the image again that it is asked to trust: [`build::verify`] does it twice and compares.
//! Packages are unpacked, never installed; what the host itself needs is named by [`host_packages`].

pub mod agent;
pub mod boot_files;
pub mod build;
mod c_tools;
pub mod debian;
pub mod error;
pub mod host_packages;
pub mod kernel;
pub mod manifest;
pub mod modules;
pub mod musl;
pub mod process;
pub mod recipe;
pub mod sizes;
pub mod split;
pub mod stage1;
pub mod workspace;

pub use error::ImageError;
pub use leaseboot_protocol::architecture::Architecture;
pub use workspace::Workspace;
