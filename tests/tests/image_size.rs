//! What every boot carries over the lender's wire stays small.

use anyhow::{Context as _, Result};
use leaseboot_tests::folders::Folders;
use serde::Deserialize;

const MEGABYTE: u64 = 1_000_000;
const LARGEST_BOOT: u64 = 20 * MEGABYTE;
/// Kernel, base and the largest drivers: what a server brings over the wire whose hardware is on record.
const LARGEST_OWN_BOOT: u64 = 12 * MEGABYTE;
const LARGEST_AGENT: u64 = 5 * MEGABYTE;

/// What is read of `manifest.json`.
#[derive(Deserialize)]
struct Manifest {
    files: Vec<File>,
    agent: File,
}

#[derive(Deserialize)]
struct File {
    name: String,
    size: u64,
}

#[test]
fn kernel_image_and_agent_keep_within_their_bounds() -> Result<()> {
    let path = Folders::find()?.image().join("manifest.json");
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}: run `cargo xtask image`", path.display()))?;
    let manifest: Manifest = serde_json::from_str(&text)?;
    let size = |name: &str| {
        let file = manifest.files.iter().find(|file| file.name == name);
        file.map(|file| file.size)
            .with_context(|| format!("the manifest does not name {name}"))
    };
    let boot = size("vmlinuz")? + size("stage1.img")?;
    assert!(boot <= LARGEST_BOOT, "kernel and stage 1 are {boot} bytes");
    let drivers = manifest
        .files
        .iter()
        .filter(|file| file.name.starts_with("driver-"));
    let mut drivers: Vec<u64> = drivers.map(|file| file.size).collect();
    drivers.sort_unstable();
    let largest: u64 = drivers.iter().rev().take(2).sum();
    let own = size("vmlinuz")? + size("base.img")? + largest;
    assert!(
        own <= LARGEST_OWN_BOOT,
        "with its own drivers a boot is {own} bytes"
    );
    // No emulator here has the card, so its driver is looked for.
    assert!(size("driver-igb.img")? > 0);
    assert!(
        manifest.agent.size <= LARGEST_AGENT,
        "the agent is {} bytes",
        manifest.agent.size
    );
    Ok(())
}
