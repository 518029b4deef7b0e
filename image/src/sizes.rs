//! What an image may weigh: it crosses the lender's wire at each boot, and it lies in the bare server's memory.

use crate::manifest::Manifest;
use crate::stage1::{BASE, DRIVER};
use leaseboot_protocol::architecture::Architecture;

/// What the files of an architecture may weigh, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Kernel and stage-1 image together. The Debian 12 network installer's for x86-64 are 49.0 MB.
    pub boot: u64,
    /// What they should weigh.
    pub aim: u64,
    /// Kernel, base and the drivers of a server whose hardware is on record.
    pub own_drivers: u64,
}

impl Limits {
    /// Debian's kernel for 64-bit ARM weighs 3 MB more than the one for x86, with the same drivers left out.
    pub fn of(architecture: Architecture) -> Self {
        let x86 = Self {
            boot: 20_000_000,
            aim: 17_000_000,
            own_drivers: 12_000_000,
        };
        match architecture {
            Architecture::X86_64 => x86,
            Architecture::Aarch64 => Self {
                boot: x86.boot + 3_000_000,
                aim: x86.aim + 3_000_000,
                own_drivers: x86.own_drivers + 3_000_000,
            },
        }
    }
}

/// So many of the largest drivers must fit: they weigh more than one kind of network card and all storage controllers of any board.
const LARGEST_DRIVERS: usize = 2;
/// The agent before compression, in bytes.
pub const AGENT_LIMIT: u64 = 5_000_000;

/// Something weighs too much.
#[derive(Debug, thiserror::Error)]
#[error(
    "the image is too large: leave drivers out of image/recipe.toml, or weigh the agent's dependencies\n{table}"
)]
pub struct SizeError {
    table: String,
}

/// Checks the limits and gives the table of sizes to show.
///
/// # Errors
/// [`SizeError`] with the same table when a limit is exceeded, or a file is missing that every boot needs.
pub fn check_sizes(manifest: &Manifest) -> Result<String, SizeError> {
    let size = |name: &str| manifest.file(name).map_or(u64::MAX, |file| file.size);
    let limits = Limits::of(manifest.architecture);
    let boot = size("vmlinuz").saturating_add(size("stage1.img"));
    let agent = manifest.agent.size;
    let mut drivers: Vec<u64> = manifest
        .files
        .iter()
        .filter(|file| file.name.starts_with(DRIVER))
        .map(|file| file.size)
        .collect();
    drivers.sort_unstable_by(|a, b| b.cmp(a));
    let largest: u64 = drivers.iter().take(LARGEST_DRIVERS).sum();
    let own = size("vmlinuz").saturating_add(size(BASE)).saturating_add(largest);
    let mut table = String::new();
    for file in manifest
        .files
        .iter()
        .filter(|file| !file.name.starts_with(DRIVER))
    {
        table.push_str(&row(&file.name, file.size, ""));
    }
    let in_words = format!("  ({} archives)", drivers.len());
    table.push_str(&row("drivers, one by one", drivers.iter().sum(), &in_words));
    table.push_str(&row(
        "kernel + own drivers",
        own,
        &verdict(own, limits.own_drivers, None),
    ));
    table.push_str(&row(
        "kernel + image",
        boot,
        &verdict(boot, limits.boot, Some(limits.aim)),
    ));
    table.push_str(&row("agent, unpacked", agent, &verdict(agent, AGENT_LIMIT, None)));
    if boot > limits.boot || own > limits.own_drivers || agent > AGENT_LIMIT {
        Err(SizeError { table })
    } else {
        Ok(table)
    }
}

fn row(name: &str, size: u64, remark: &str) -> String {
    format!("{name:<20} {:>9.3} MB{remark}\n", size as f64 / 1e6)
}

fn verdict(size: u64, limit: u64, aim: Option<u64>) -> String {
    let limit_mb = limit / 1_000_000;
    match aim {
        _ if size > limit => format!("  TOO LARGE: at most {limit_mb} MB"),
        Some(aim) if size > aim => format!("  (aim {} MB, at most {limit_mb} MB)", aim / 1_000_000),
        _ => format!("  (at most {limit_mb} MB)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::MadeFile;
    use leaseboot_protocol::architecture::Architecture;
    use leaseboot_protocol::digest::Sha256;

    fn manifest(image: u64, agent: u64) -> Manifest {
        let file = |name: &str, size| MadeFile {
            name: name.to_owned(),
            size,
            sha256: Sha256::of(b""),
        };
        Manifest {
            architecture: Architecture::X86_64,
            files: vec![
                file(BASE, 3_000_000),
                file("driver-a.img", 100_000),
                file("driver-b.img", 400_000),
                file("driver-c.img", 300_000),
                file("driver-d.img", 300_000),
                file("stage1.img", image),
                file("vmlinuz", 8_000_000),
            ],
            kernel: String::new(),
            agent: file("leaseboot-agent", agent),
            modules: 0,
            inputs: [].into(),
        }
    }

    #[test]
    fn limits_are_the_last_sizes_that_pass() {
        assert!(check_sizes(&manifest(12_000_000, AGENT_LIMIT)).is_ok());
        assert!(check_sizes(&manifest(12_000_001, 0)).is_err());
        assert!(check_sizes(&manifest(0, AGENT_LIMIT + 1)).is_err());
        let mut heavy = manifest(0, 0);
        heavy.files[1].size += 500_001;
        assert!(check_sizes(&heavy).is_err());
        heavy.architecture = Architecture::Aarch64;
        assert!(check_sizes(&heavy).is_ok());
    }

    #[test]
    fn the_error_says_what_is_too_large() {
        let text = check_sizes(&manifest(13_000_000, 1_000_000))
            .unwrap_err()
            .to_string();
        assert!(
            text.contains("kernel + image          21.000 MB  TOO LARGE: at most 20 MB"),
            "{text}"
        );
    }

    #[test]
    fn a_missing_image_does_not_pass() {
        let mut manifest = manifest(1, 1);
        manifest.files.clear();
        assert!(check_sizes(&manifest).is_err());
    }
}
