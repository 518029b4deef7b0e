//! Signatures over whole files: minisign's (streamed, the prehashed form that minisign makes by default), and plain ed25519 (RFC 8032) as
//! `openssl pkeyutl -sign -rawin` makes them. The public key's file tells which.
//!
//! ed25519 hashes its message twice and ring wants it in one piece: such a file is read into memory, and therefore bounded.

use super::FileError;
use minisign_verify::{PublicKey as MinisignKey, Signature as MinisignSignature};
use ring::signature::{ED25519, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Keys and signatures are short.
const LONGEST_TEXT: u64 = 64 << 10;
/// The longest file that is read into memory, in bytes.
const LONGEST_IN_MEMORY: u64 = 1 << 30;
/// What stands before the key in a `SubjectPublicKeyInfo` of ed25519 (RFC 8410, 4).
const SPKI_PREFIX: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0,
];

/// A signature is not good, or cannot be checked.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// No public key.
    #[error(
        "{} holds no public key: give minisign's .pub file, or an ed25519 key in PEM (`openssl pkey -pubout`)",
        .0.display()
    )]
    Key(PathBuf),
    /// No signature of the key's kind.
    #[error(
        "{} holds no {kind} signature: give {}",
        path.display(),
        match kind { Kind::Minisign => "the .minisig file of `minisign -S`", Kind::Ed25519 => "the 64 bytes of `openssl pkeyutl -sign -rawin`" }
    )]
    Form {
        /// The file.
        path: PathBuf,
        /// The key's kind.
        kind: Kind,
    },
    /// The signature is of another key or of other bytes.
    #[error("{} is not what the owner of the key signed; it was not used", .0.display())]
    Bad(PathBuf),
    /// The file is too long.
    #[error("{} is longer than the {LONGEST_IN_MEMORY} bytes that an ed25519 signature is checked over; sign it with minisign", .0.display())]
    TooLong(PathBuf),
}

/// The kinds of signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// minisign, prehashed with BLAKE2b.
    Minisign,
    /// ed25519 over the file itself.
    Ed25519,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Minisign => "minisign",
            Self::Ed25519 => "ed25519",
        })
    }
}

/// Whose signatures are believed.
pub enum PublicKey {
    /// A key of minisign.
    Minisign(MinisignKey),
    /// A key of 32 bytes.
    Ed25519([u8; 32]),
}

impl PublicKey {
    /// Reads a key's file.
    ///
    /// # Errors
    /// [`SignatureError::File`] and [`SignatureError::Key`].
    pub fn read(path: &Path) -> Result<Self, SignatureError> {
        let bytes = short(path)?;
        Self::parse(&bytes).ok_or_else(|| SignatureError::Key(path.to_owned()))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?.trim();
        if let Some(pem) = text.strip_prefix("-----BEGIN PUBLIC KEY-----") {
            let body: String = pem.split("-----END").next()?.split_whitespace().collect();
            let der = base64(&body)?;
            let key = der.strip_prefix(&SPKI_PREFIX)?;
            return Some(Self::Ed25519(key.try_into().ok()?));
        }
        let minisign = MinisignKey::decode(text).or_else(|_| MinisignKey::from_base64(text));
        minisign.ok().map(Self::Minisign)
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Minisign(_) => Kind::Minisign,
            Self::Ed25519(_) => Kind::Ed25519,
        }
    }

    /// Checks that the first `length` bytes of `file` are what the file `signature` signs.
    ///
    /// # Errors
    /// [`SignatureError`].
    pub fn check(&self, file: &Path, length: u64, signature: &Path) -> Result<(), SignatureError> {
        let signed = short(signature)?;
        let form = || SignatureError::Form {
            path: signature.to_owned(),
            kind: self.kind(),
        };
        let bad = || SignatureError::Bad(file.to_owned());
        let opened = File::open(file).map_err(FileError::of("open", file))?;
        let content = opened.take(length);
        match self {
            Self::Minisign(key) => {
                let text = std::str::from_utf8(&signed).map_err(|_| form())?;
                let signature = MinisignSignature::decode(text).map_err(|_| form())?;
                let mut verifier = key.verify_stream(&signature).map_err(|_| bad())?;
                let read = pieces(content, |piece| verifier.update(piece));
                read.map_err(FileError::of("read", file))?;
                verifier.finalize().map_err(|_| bad())
            }
            Self::Ed25519(key) => {
                let signature = raw_signature(&signed).ok_or_else(form)?;
                if length > LONGEST_IN_MEMORY {
                    return Err(SignatureError::TooLong(file.to_owned()));
                }
                let mut message = Vec::new();
                let mut content = content;
                content
                    .read_to_end(&mut message)
                    .map_err(FileError::of("read", file))?;
                let key = UnparsedPublicKey::new(&ED25519, key);
                key.verify(&message, &signature).map_err(|_| bad())
            }
        }
    }
}

fn short(path: &Path) -> Result<Vec<u8>, SignatureError> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(FileError::of("open", path))?;
    file.take(LONGEST_TEXT)
        .read_to_end(&mut bytes)
        .map_err(FileError::of("read", path))?;
    Ok(bytes)
}

fn pieces(mut content: impl Read, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 20];
    loop {
        let length = content.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        each(&buffer[..length]);
    }
}

/// 64 bytes, or their base64.
fn raw_signature(bytes: &[u8]) -> Option<[u8; 64]> {
    if let Ok(raw) = bytes.try_into() {
        return Some(raw);
    }
    base64(std::str::from_utf8(bytes).ok()?.trim())?.try_into().ok()
}

fn base64(text: &str) -> Option<Vec<u8>> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::rand::SystemRandom;
    use ring::signature::{Ed25519KeyPair, KeyPair};

    /// A key, its PEM file and a signed file.
    fn signed(folder: &Path) -> (PathBuf, PathBuf, PathBuf) {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap();
        let mut der = SPKI_PREFIX.to_vec();
        der.extend(pair.public_key().as_ref());
        let pem = {
            use base64::Engine as _;
            base64::engine::general_purpose::STANDARD.encode(der)
        };
        let [key, file, signature] = ["key.pem", "file", "file.sig"].map(|name| folder.join(name));
        std::fs::write(
            &key,
            format!("-----BEGIN PUBLIC KEY-----\n{pem}\n-----END PUBLIC KEY-----\n"),
        )
        .unwrap();
        std::fs::write(&file, b"kernel and more").unwrap();
        std::fs::write(&signature, pair.sign(b"kernel").as_ref()).unwrap();
        (key, file, signature)
    }

    #[test]
    fn ed25519_over_the_part_that_was_signed() {
        let folder = tempfile::tempdir().unwrap();
        let (key, file, signature) = signed(folder.path());
        let key = PublicKey::read(&key).unwrap();
        key.check(&file, 6, &signature).unwrap();
        assert!(matches!(
            key.check(&file, 7, &signature),
            Err(SignatureError::Bad(_))
        ));
        std::fs::write(&signature, "nonsense").unwrap();
        assert!(matches!(
            key.check(&file, 6, &signature),
            Err(SignatureError::Form { .. })
        ));
    }

    /// Key and signature are the example of minisign-verify's documentation: over the word `test`.
    #[test]
    fn minisign_over_its_own_example() {
        let folder = tempfile::tempdir().unwrap();
        let [key, file, signature] = ["key.pub", "file", "file.minisig"].map(|name| folder.path().join(name));
        std::fs::write(
            &key,
            "untrusted comment: x\nRWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3\n",
        )
        .unwrap();
        std::fs::write(&file, "test").unwrap();
        std::fs::write(
            &signature,
            "untrusted comment: signature from minisign secret key\n\
             RUQf6LRCGA9i559r3g7V1qNyJDApGip8MfqcadIgT9CuhV3EMhHoN1mGTkUidF/z7SrlQgXdy8ofjb7bNJJylDOocrCo8KLzZwo=\n\
             trusted comment: timestamp:1556193335\tfile:test\n\
             y/rUw2y8/hOUYjZU71eHp/Wo1KZ40fGy2VJEDl34XMJM+TX48Ss/17u3IvIfbVR1FkZZSNCisQbuQY+bHwhEBg==",
        )
        .unwrap();
        let key = PublicKey::read(&key).unwrap();
        assert_eq!(key.kind(), Kind::Minisign);
        key.check(&file, 4, &signature).unwrap();
        assert!(matches!(
            key.check(&file, 3, &signature),
            Err(SignatureError::Bad(_))
        ));
    }

    #[test]
    fn what_is_no_key_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(
            &path,
            "-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----\n",
        )
        .unwrap();
        assert!(matches!(PublicKey::read(&path), Err(SignatureError::Key(_))));
    }
}
