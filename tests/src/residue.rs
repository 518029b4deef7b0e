//! What lies on a server's disks, seen from outside: the host writes a pattern into the files behind them, and looks for what is left.

use anyhow::{Context as _, Result, ensure};
use memchr::memmem;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

const MIB: usize = 1 << 20;
/// Between two stretches of the pattern on a large disk, whose file stays sparse so.
const STRIDE: u64 = 16 << 20;
const PATTERN: &[u8] = b"what a tenant left behind, and nobody else may ever read; ";

/// Writes the pattern over the first and the last MiB of every 16 MiB, the disk's very ends among them.
pub fn fill(disk: &Path) -> Result<()> {
    let failed = || format!("cannot fill {}", disk.display());
    let file = OpenOptions::new().write(true).open(disk).with_context(failed)?;
    let size = file.metadata().with_context(failed)?.len();
    ensure!(
        size.is_multiple_of(STRIDE),
        "{} is no multiple of 16 MiB",
        disk.display()
    );
    let stretch: Vec<u8> = PATTERN.iter().copied().cycle().take(MIB).collect();
    let starts = (0..size / STRIDE).flat_map(|number| [number * STRIDE, (number + 1) * STRIDE - MIB as u64]);
    for at in starts {
        file.write_all_at(&stretch, at).with_context(failed)?;
    }
    Ok(())
}

/// Where the first byte lies that is not zero, in the whole disk.
pub fn first_byte_left(disk: &Path) -> Result<Option<u64>> {
    let failed = || format!("cannot search {}", disk.display());
    let file = File::open(disk).with_context(failed)?;
    let size = file.metadata().with_context(failed)?.len();
    let (mut buffer, zeros) = (vec![0; MIB], vec![0; MIB]);
    let mut at = 0;
    while at < size {
        let length = usize::try_from(size - at).unwrap_or(MIB).min(MIB);
        file.read_exact_at(&mut buffer[..length], at)
            .with_context(failed)?;
        if buffer[..length] != zeros[..length] {
            let within = buffer.iter().position(|byte| *byte != 0).unwrap_or(0);
            return Ok(Some(at + within as u64));
        }
        at += length as u64;
    }
    Ok(None)
}

/// Whether these bytes lie on the disk, within its blocks as they are.
pub fn holds(disk: &Path, wanted: &[u8]) -> Result<bool> {
    place_of(disk, wanted).map(|place| place.is_some())
}

/// Changes one bit in the middle of these bytes, where they lie on the disk first.
///
/// # Errors
/// Also when they do not lie there.
pub fn change(disk: &Path, wanted: &[u8]) -> Result<()> {
    let failed = || format!("cannot change {}", disk.display());
    let place = place_of(disk, wanted)?
        .with_context(|| format!("the bytes to change are not on {}", disk.display()))?;
    let middle = wanted.len() / 2;
    let file = OpenOptions::new().write(true).open(disk).with_context(failed)?;
    file.write_all_at(&[wanted[middle] ^ 1], place + middle as u64)
        .with_context(failed)
}

/// Where these bytes begin on the disk first.
fn place_of(disk: &Path, wanted: &[u8]) -> Result<Option<u64>> {
    let failed = || format!("cannot search {}", disk.display());
    let file = File::open(disk).with_context(failed)?;
    let size = file.metadata().with_context(failed)?.len();
    // Each piece reaches into the next one, so that nothing is missed between two.
    let mut buffer = vec![0; MIB + wanted.len()];
    let finder = memmem::Finder::new(wanted);
    for at in (0..size).step_by(MIB) {
        let length = usize::try_from(size - at)
            .unwrap_or(buffer.len())
            .min(buffer.len());
        file.read_exact_at(&mut buffer[..length], at)
            .with_context(failed)?;
        if let Some(within) = finder.find(&buffer[..length]) {
            return Ok(Some(at + within as u64));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pattern_is_found_wherever_a_piece_of_it_is_left() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(2 * STRIDE).unwrap();
        assert_eq!(first_byte_left(file.path()).unwrap(), None);
        fill(file.path()).unwrap();
        assert_eq!(first_byte_left(file.path()).unwrap(), Some(0));
        assert!(holds(file.path(), PATTERN).unwrap() && !holds(file.path(), b"something else").unwrap());
        file.as_file().set_len(0).unwrap();
        file.as_file().set_len(2 * STRIDE).unwrap();
        file.as_file().write_all_at(b"x", 2 * STRIDE - 1).unwrap();
        assert_eq!(first_byte_left(file.path()).unwrap(), Some(2 * STRIDE - 1));
    }
}
