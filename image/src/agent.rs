//! The agent as a static binary.

use crate::error::ImageError;
use crate::musl::Toolchain;
use crate::workspace::{self, Workspace};
use std::path::{Path, PathBuf};

/// The cargo package of the agent, and its binary's name.
pub const PACKAGE: &str = "leaseboot-agent";

/// Builds the agent (cargo compiles only what changed) and gives the binary's path: stage 1 and stage 2 carry it, and an
/// installed host runs it.
///
/// # Errors
/// When no compiler for static binaries can be had, or it fails.
pub fn binary(workspace: &Workspace, toolchain: Toolchain) -> Result<PathBuf, ImageError> {
    Ok(toolchain.build(workspace, &workspace.musl_target(), PACKAGE)?)
}

/// Builds the agent in a target folder of its own and gives its bytes.
///
/// # Errors
/// As [`binary`].
pub fn bytes(workspace: &Workspace, toolchain: Toolchain, target: &Path) -> Result<Vec<u8>, ImageError> {
    workspace::read(&toolchain.build(workspace, target, PACKAGE)?)
}
