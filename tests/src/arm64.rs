//! Servers with 64-bit ARM, and an enterprise that has something to run on them.
//!
//! The emulator, its firmware, the lender's boot files and the enterprise's busybox for this processor are needed by few scenarios and take minutes to make. So `cargo xtask test`
//! prepares them only when those scenarios are due, and what is missing says so.

use crate::folders::Folders;
use crate::managers::Organizer;
use crate::namespace::checked;
use crate::tiny_image::{self, POWER_OFF, Packing, TINY};
use anyhow::{Context as _, Result, ensure};
use leaseboot_protocol::architecture::Architecture;
use std::path::PathBuf;
use tokio::process::Command;

/// Debian packages of the emulated servers.
pub const HOST_PACKAGES: [&str; 2] = ["qemu-system-arm", "qemu-efi-aarch64"];

/// Where the preparation puts a busybox for the enterprise's image.
pub fn busybox(folders: &Folders) -> PathBuf {
    folders
        .assets()
        .join(Architecture::Aarch64.name())
        .join("busybox")
}

/// Where the lender's boot files for these servers are.
pub fn boot_files(folders: &Folders) -> Result<PathBuf> {
    let place = Architecture::Aarch64.within(folders.image());
    ensure!(
        place.join("manifest.json").is_file(),
        "there are no boot files in {}: `cargo xtask image --architecture aarch64` makes them",
        place.display()
    );
    Ok(place)
}

/// Puts the tiny image in place as [`tiny_image::add`] does, with the kernel that stage 1 has on these servers.
pub async fn add_tiny(po: &Organizer) -> Result<()> {
    let folders = Folders::find()?;
    let busybox = busybox(&folders);
    let busybox = std::fs::read(&busybox)
        .with_context(|| format!("cannot read {}, which `cargo xtask test` gets", busybox.display()))?;
    let boot_files = boot_files(&folders)?;
    let archive = tiny_image::archive_of(busybox, &boot_files, 0, POWER_OFF).await?;
    let unpacked = tempfile::tempdir().context("cannot make a folder")?;
    let kernel = unpacked.path().join("vmlinuz");
    // What the lender serves is packed for the wire; distributions have it plain.
    let mut unpack = Command::new("sh");
    unpack.args(["-e", "-c", r#"gzip -d < "$1/vmlinuz" > "$2""#, "sh"]);
    checked(unpack.arg(&boot_files).arg(&kernel))
        .await
        .context("cannot unpack the kernel")?;
    let initrd = Packing::Zstd.pack(&archive).await?;
    tiny_image::add_profile_of(po, TINY, &kernel, &initrd, &[], "")
}
