//! Passwords in files that only their owner may read.

use super::PowerConfigError;
use leaseboot_protocol::secret::Secret;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use zeroize::Zeroizing;

const KEY: &str = "password_file";
/// Nobody's password is longer, in bytes.
const LONGEST: u64 = 4096;

/// The first line of the file, which must be closed to group and others.
///
/// # Errors
/// [`PowerConfigError::Read`], [`PowerConfigError::Exposed`], [`PowerConfigError::NoPassword`].
pub(super) fn read(path: &Path) -> Result<Secret, PowerConfigError> {
    let failed = |source| PowerConfigError::Read {
        path: path.to_owned(),
        key: KEY,
        source,
    };
    let file = std::fs::File::open(path).map_err(failed)?;
    // The permissions of the very file that is read, not of what bears its name a moment later.
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(PowerConfigError::Exposed {
            path: path.to_owned(),
            key: KEY,
            mode,
        });
    }
    let mut text = Zeroizing::new(String::new());
    file.take(LONGEST).read_to_string(&mut text).map_err(failed)?;
    match text.lines().next() {
        Some(password) if !password.is_empty() => Ok(Secret::new(password)),
        _ => Err(PowerConfigError::NoPassword {
            path: path.to_owned(),
        }),
    }
}
