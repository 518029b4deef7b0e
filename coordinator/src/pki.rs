//! The lender's own certificates: a CA, the Lease Manager's certificate, and one for each tenant.
//!
//! All keys are ECDSA on P-256, whose handshakes are cheap. All certificates are dated back by a day, because the clocks of bare servers
//! are off. Private keys are written for their owner only, and by rename, so that no half of one is ever there.

use leaseboot_protocol::digest::Sha256;
use leaseboot_protocol::ids::TenantId;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateSigningRequestParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use time::{Duration, OffsetDateTime};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use zeroize::Zeroizing;

const DATED_BACK: Duration = Duration::days(1);
const CA_LIFE: Duration = Duration::days(20 * 365);
const LIFE: Duration = Duration::days(10 * 365);

/// Certificates cannot be made, read or used.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file cannot be read.
    #[error("cannot read {path}: make it with `leaseboot-lm init`, or check [api] in lm.toml")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// There is no key for erasure records.
    #[error(
        "there is no key {path} to sign erasure records with: put the old one back, whose public half enterprises know, or make the first one with `leaseboot-lm erasure-key --make`"
    )]
    NoErasureKey {
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A certificate cannot be made.
    #[error("cannot make the certificate of {subject}")]
    Make {
        /// Whose.
        subject: String,
        /// Why it failed.
        source: rcgen::Error,
    },
    /// A file does not hold what it should.
    #[error("cannot use {path}: {problem}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// No key for the tickets of TLS sessions.
    #[error("cannot make a key for TLS session tickets: the kernel gives no random numbers")]
    Tickets(#[source] rustls::Error),
}

/// A certificate and its key, both PEM.
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// The private key.
    pub key: Zeroizing<String>,
}

/// A certificate for somebody else's key.
pub struct Signed {
    /// The certificate, in PEM.
    pub pem: String,
    /// The digest of its DER form, by which the store knows it.
    pub sha256: Sha256,
}

/// The CA that all others trust.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A new CA.
    ///
    /// # Errors
    /// [`PkiError::Make`].
    pub fn create() -> Result<(Self, Issued), PkiError> {
        let name = "leaseboot lease manager CA";
        let failed = |source| PkiError::Make {
            subject: name.to_owned(),
            source,
        };
        let mut params = params(name, Vec::new(), CA_LIFE).map_err(failed)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = params.self_signed(&key).map_err(failed)?;
        let issued = issued(&certificate, &key);
        Ok((
            Self {
                issuer: Issuer::new(params, key),
            },
            issued,
        ))
    }

    /// A CA that was made before.
    ///
    /// # Errors
    /// [`PkiError::Read`], [`PkiError::Content`].
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, PkiError> {
        let key_pem = Zeroizing::new(read(key)?);
        let pair = KeyPair::from_pem(&key_pem).map_err(|error| content(key, error))?;
        let issuer = Issuer::from_ca_cert_pem(&read(certificate)?, pair)
            .map_err(|error| content(certificate, error))?;
        Ok(Self { issuer })
    }

    /// The certificate of a Lease Manager that is reached by these names and addresses.
    ///
    /// # Errors
    /// [`PkiError::Make`].
    pub fn server(&self, names: &[String]) -> Result<Issued, PkiError> {
        self.issue(
            "leaseboot lease manager",
            names,
            ExtendedKeyUsagePurpose::ServerAuth,
        )
    }

    /// The certificate of a tenant.
    ///
    /// # Errors
    /// [`PkiError::Make`].
    pub fn tenant(&self, tenant: &TenantId) -> Result<Issued, PkiError> {
        self.issue(tenant.as_str(), &[], ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// A client certificate for a tenant that made its key itself and sends a signing request (PKCS #10, in PEM). Of the
    /// request only the key is taken, once its signature has shown that the sender has the private half.
    ///
    /// # Errors
    /// [`PkiError::Make`].
    pub fn sign(&self, tenant: &TenantId, request: &str) -> Result<Signed, PkiError> {
        let failed = |source| PkiError::Make {
            subject: tenant.to_string(),
            source,
        };
        let request = CertificateSigningRequestParams::from_pem(request).map_err(failed)?;
        let certificate = client_params(tenant)
            .and_then(|params| params.signed_by(&request.public_key, &self.issuer))
            .map_err(failed)?;
        Ok(Signed {
            sha256: Sha256::of(certificate.der()),
            pem: certificate.pem(),
        })
    }

    fn issue(
        &self,
        name: &str,
        names: &[String],
        purpose: ExtendedKeyUsagePurpose,
    ) -> Result<Issued, PkiError> {
        let failed = |source| PkiError::Make {
            subject: name.to_owned(),
            source,
        };
        let params = leaf_params(name, names, purpose).map_err(failed)?;
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        Ok(issued(&certificate, &key))
    }
}

fn client_params(tenant: &TenantId) -> Result<CertificateParams, rcgen::Error> {
    leaf_params(tenant.as_str(), &[], ExtendedKeyUsagePurpose::ClientAuth)
}

fn leaf_params(
    name: &str,
    names: &[String],
    purpose: ExtendedKeyUsagePurpose,
) -> Result<CertificateParams, rcgen::Error> {
    let mut params = params(name, names.to_vec(), LIFE)?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![purpose];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn params(common_name: &str, names: Vec<String>, life: Duration) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    let now = OffsetDateTime::now_utc();
    params.not_before = now - DATED_BACK;
    params.not_after = now + life;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    Ok(params)
}

fn issued(certificate: &Certificate, key: &KeyPair) -> Issued {
    Issued {
        certificate: certificate.pem(),
        key: Zeroizing::new(key.serialize_pem()),
    }
}

pub(crate) fn read(path: &Path) -> Result<String, PkiError> {
    std::fs::read_to_string(path).map_err(|source| PkiError::Read {
        path: path.to_owned(),
        source,
    })
}

fn content(path: &Path, problem: impl std::fmt::Display) -> PkiError {
    PkiError::Content {
        path: path.to_owned(),
        problem: problem.to_string(),
    }
}

/// Writes a file of which nobody ever sees a half, readable by its owner only.
///
/// # Errors
/// [`PkiError::Write`].
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), PkiError> {
    write(path, bytes, 0o600)
}

/// As [`write_private`], readable by everybody.
///
/// # Errors
/// [`PkiError::Write`].
pub fn write_public(path: &Path, bytes: &[u8]) -> Result<(), PkiError> {
    write(path, bytes, 0o644)
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), PkiError> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let temporary = PathBuf::from(name);
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&temporary)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        })
        .and_then(|()| std::fs::rename(&temporary, path));
    written.map_err(|source| {
        // What is left of the attempt is of no use; that it cannot be removed either is told by the error that
        // comes.
        let _ = std::fs::remove_file(&temporary);
        PkiError::Write {
            path: path.to_owned(),
            source,
        }
    })
}

/// TLS for the API: agents come without certificate, tenants with one, and one that is shown must be of the CA.
///
/// # Errors
/// [`PkiError`].
pub fn server_config(
    ca: &Path,
    certificate: &Path,
    key: &Path,
) -> Result<Arc<rustls::ServerConfig>, PkiError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    for root in certificates(ca)? {
        roots.add(root).map_err(|error| content(ca, error))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(|error| content(ca, error))?;
    // The CA goes along, for whoever enrols and knows it by its digest only.
    let mut chain = certificates(certificate)?;
    chain.extend(certificates(ca)?);
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| content(key, error))?;
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| content(certificate, error))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, private)
        .map_err(|error| content(certificate, error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // An agent connects for each request. With tickets (RFC 8446, section 2.2) the server's half of a resumed session is kept by the agent, so it is resumed
    // however many others connect meanwhile; a memory of our own would hold as many sessions as it has places.
    config.ticketer = rustls::crypto::ring::Ticketer::new().map_err(PkiError::Tickets)?;
    Ok(Arc::new(config))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, PkiError> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| content(path, error))
}

/// The CA's certificate as servers and tenants are given it.
///
/// # Errors
/// [`PkiError::Read`].
pub fn read_ca(path: &Path) -> Result<String, PkiError> {
    read(path)
}

/// The digest of the CA's certificate, which an invitation carries.
///
/// # Errors
/// [`PkiError`].
pub fn ca_digest(path: &Path) -> Result<Sha256, PkiError> {
    digest_of_pem(path, &read(path)?)
}

/// The digest of the first certificate in a text, in its DER form; `path` is where it stands.
///
/// # Errors
/// [`PkiError::Content`].
pub fn digest_of_pem(path: &Path, pem: &str) -> Result<Sha256, PkiError> {
    CertificateDer::from_pem_slice(pem.as_bytes())
        .map(|certificate| Sha256::of(&certificate))
        .map_err(|error| content(path, error))
}

/// Whose certificate it is, by its common name. The certificate must have been verified.
pub fn tenant_of(certificate: &CertificateDer<'_>) -> Option<TenantId> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let mut names = parsed.subject().iter_common_name();
    let name = names.next()?.as_str().ok()?;
    // Two names would leave open which one counts.
    names.next().is_none().then(|| name.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenants_are_known_by_their_certificates() {
        let (authority, _) = Authority::create().unwrap();
        let tenant: TenantId = "acme".parse().unwrap();
        let issued = authority.tenant(&tenant).unwrap();
        let der = CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap();
        assert_eq!(tenant_of(&der), Some(tenant));
        let server = authority.server(&["10.10.0.1".to_owned()]).unwrap();
        let der = CertificateDer::from_pem_slice(server.certificate.as_bytes()).unwrap();
        assert_eq!(tenant_of(&der), None);
    }

    #[test]
    fn certificates_are_good_since_yesterday() {
        let (authority, ca) = Authority::create().unwrap();
        let issued = authority.server(&["localhost".to_owned()]).unwrap();
        for pem in [ca.certificate, issued.certificate] {
            let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
            let (_, parsed) = X509Certificate::from_der(&der).unwrap();
            let begun = parsed.validity().not_before.timestamp();
            assert!(OffsetDateTime::now_utc().unix_timestamp() - begun >= 86_400);
        }
    }

    #[test]
    fn private_files_are_private_and_whole() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        write_private(&path, b"one").unwrap();
        write_private(&path, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
