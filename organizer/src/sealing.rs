//! Makes the files of sealed values: `leaseboot-po seal`. What a value is, and who gets it, is decided elsewhere ([`crate::config`] reads it for a
//! profile, the gateway's service gives it to a server); here a person's input becomes a file for its owner alone, and nothing is ever printed.
//!
//! Passwords are hashed with SHA-512 crypt ("Unix crypt using SHA-256 and SHA-512", Drepper): every installer and every libc of the last fifteen years
//! takes it, which cannot be said of yescrypt.

use crate::files::{self, WriteError};
use leaseboot_protocol::marks;
use leaseboot_protocol::secret::Secret;
use sha_crypt::password_hash::PasswordHasher;
use sha_crypt::{Algorithm, Params, ShaCrypt};
use std::path::{Path, PathBuf};

/// Twenty times crypt's usual number: some 50 ms for each guess on a processor of today.
const ROUNDS: u32 = 100_000;
/// 12 bytes are 16 letters, the longest salt that crypt takes.
const SALT_BYTES: usize = 12;
/// Longer than any key; a person pasted the wrong thing.
const LONGEST: usize = 64 << 10;

/// A value cannot be sealed. It is never repeated.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// Not a mark's name.
    #[error("{0:?} cannot be the name of a sealed value: a-z, 0-9 and _, as in the mark @sealed:name@")]
    Name(String),
    /// There is no such profile.
    #[error("there is no profile in {}; make the folder with its profile.toml first", .0.display())]
    Profile(PathBuf),
    /// Nothing was said.
    #[error("the value is empty")]
    Empty,
    /// More than a line.
    #[error(
        "the value has more than one line, or control characters; it stands inside one line of the kickstart"
    )]
    SeveralLines,
    /// Too long.
    #[error("the value is longer than {LONGEST} bytes")]
    TooLong,
    /// There is one already.
    #[error("{} is there already; --replace puts the new value in its place, for boots from now on", .0.display())]
    Taken(PathBuf),
    /// The file cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Where the value `name` of a profile is kept.
///
/// # Errors
/// [`SealError::Name`] and [`SealError::Profile`].
pub fn place(folder: &Path, profile: &str, name: &str) -> Result<PathBuf, SealError> {
    // The mark's own parser decides: what it does not take as a name could not be used.
    let named = marks::names(&format!("@sealed:{name}@"));
    if !named.is_ok_and(|names| names.len() == 1 && names.contains(name)) {
        return Err(SealError::Name(name.to_owned()));
    }
    let folder = folder.join("profiles").join(profile);
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if profile.is_empty() || profile.starts_with('.') || !profile.bytes().all(plain) || !folder.is_dir() {
        return Err(SealError::Profile(folder));
    }
    Ok(folder.join(format!("{name}.sealed")))
}

/// A value as it will stand in the installer's text: one line, without the line break at its end.
///
/// # Errors
/// [`SealError::Empty`], [`SealError::SeveralLines`] and [`SealError::TooLong`].
pub fn value(input: &Secret) -> Result<Secret, SealError> {
    let line = input.expose().trim_end_matches(['\n', '\r']);
    if line.len() > LONGEST {
        Err(SealError::TooLong)
    } else if line.is_empty() {
        Err(SealError::Empty)
    } else if line.contains(|c: char| c.is_control()) {
        Err(SealError::SeveralLines)
    } else {
        Ok(Secret::new(line))
    }
}

/// The hash of a password for `rootpw --iscrypted`, `passwd/root-password-crypted` and `identity.password`.
///
/// # Panics
/// When getrandom(2) fails.
pub fn hash(password: &Secret) -> Secret {
    let mut salt = [0; SALT_BYTES];
    getrandom::fill(&mut salt).expect("getrandom(2) gives random bytes once the kernel is up");
    let rounds = Params::new(ROUNDS).expect("the number of rounds is one of crypt's");
    let hash = ShaCrypt::new(Algorithm::Sha512Crypt, rounds)
        .hash_password_with_salt(password.expose().as_bytes(), &salt)
        .expect("salt and password are of lengths that crypt takes");
    Secret::new(hash.as_str())
}

/// Writes the value to its place, for its owner alone, whole or not at all.
///
/// # Errors
/// [`SealError::Taken`] and [`SealError::Write`].
pub fn write(place: &Path, value: &Secret, replace: bool) -> Result<(), SealError> {
    if !replace && place.exists() {
        return Err(SealError::Taken(place.to_owned()));
    }
    Ok(files::replace(place, 0o600, value.expose().as_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    /// OpenSSL's crypt makes the same of the same salt.
    #[test]
    fn the_hash_is_the_one_of_other_programs() {
        let hash = hash(&Secret::new("correct horse"));
        let parts: Vec<_> = hash.expose().split('$').collect();
        let [_, "6", "rounds=100000", salt, _] = parts[..] else {
            panic!("not SHA-512 crypt with rounds and salt");
        };
        assert_eq!(salt.len(), 16);
        let mut openssl = Command::new("openssl")
            .args([
                "passwd",
                "-6",
                "-stdin",
                "-salt",
                &format!("rounds=100000${salt}"),
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        openssl
            .stdin
            .take()
            .unwrap()
            .write_all(b"correct horse\n")
            .unwrap();
        let theirs = openssl.wait_with_output().unwrap();
        assert_eq!(String::from_utf8(theirs.stdout).unwrap().trim(), hash.expose());
    }

    #[test]
    fn a_value_is_one_line() {
        let told = |text: &str| {
            value(&Secret::new(text))
                .map(|value| value.expose().to_owned())
                .map_err(|error| error.to_string())
        };
        assert_eq!(told("token with spaces\r\n").unwrap(), "token with spaces");
        for (text, word) in [
            ("\n", "empty"),
            ("a\nb", "more than one line"),
            ("a\x1bb", "control"),
            (&"x".repeat(70_000), "longer"),
        ] {
            assert!(told(text).unwrap_err().contains(word));
        }
    }

    #[test]
    fn names_and_profiles_lead_nowhere_else() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("profiles/web")).unwrap();
        let place = |profile: &str, name: &str| {
            place(folder.path(), profile, name).map_err(|error| error.to_string())
        };
        assert!(
            place("web", "root_1")
                .unwrap()
                .ends_with("profiles/web/root_1.sealed")
        );
        for (profile, name, word) in [
            ("web", "../x", "a-z, 0-9 and _"),
            ("web", "a@ @sealed:b", "a-z, 0-9 and _"),
            ("web", "", "a-z, 0-9 and _"),
            ("..", "root", "no profile"),
            ("db", "root", "no profile"),
        ] {
            assert!(
                place(profile, name).unwrap_err().contains(word),
                "{profile} {name}"
            );
        }
    }
}
