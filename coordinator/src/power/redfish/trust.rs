//! Whom to believe that it is the controller: certificates of the configuration and no others, because controllers have no names
//! that public authorities know. Many make a certificate for themselves that names nobody: that one is known by its fingerprint.

use crate::power::PowerConfigError;
use crate::power::config::RedfishConfig;
use reqwest::Url;
use ring::digest;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use std::path::Path;
use std::sync::Arc;

/// What the configuration trusts.
pub(super) fn trust(
    url: &Url,
    config: &RedfishConfig,
    directory: &Path,
) -> Result<ClientConfig, PowerConfigError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("ring provides the suites of every protocol version");
    match (&config.fingerprint, &config.ca_file) {
        (Some(_), Some(_)) => Err(PowerConfigError::Value {
            key: "fingerprint",
            problem:
                "and power.ca_file exclude each other: the one names a certificate, the other who made it"
                    .to_owned(),
        }),
        (Some(text), None) => {
            let pin = Pin {
                sha256: fingerprint(text)?,
                provider,
            };
            Ok(builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(pin))
                .with_no_client_auth())
        }
        (None, Some(file)) => {
            let roots = roots(&directory.join(file))?;
            Ok(builder.with_root_certificates(roots).with_no_client_auth())
        }
        (None, None) if url.scheme() == "https" => Err(PowerConfigError::NoTrust { url: url.to_string() }),
        (None, None) => Ok(builder
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth()),
    }
}

fn roots(path: &Path) -> Result<RootCertStore, PowerConfigError> {
    let bytes = std::fs::read(path).map_err(|source| PowerConfigError::Read {
        path: path.to_owned(),
        key: "ca_file",
        source,
    })?;
    let bad = |problem: String| PowerConfigError::Certificates {
        path: path.to_owned(),
        problem,
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&bytes) {
        let certificate = certificate.map_err(|error| bad(error.to_string()))?;
        roots.add(certificate).map_err(|error| bad(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(bad("it has none".to_owned()));
    }
    Ok(roots)
}

fn fingerprint(text: &str) -> Result<[u8; 32], PowerConfigError> {
    let digits: String = text.chars().filter(|c| *c != ':').collect();
    let bytes = hex::decode(digits).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| PowerConfigError::Value {
        key: "fingerprint",
        problem: format!(
            "{text:?} is not a SHA-256: `openssl x509 -in controller.pem -noout -fingerprint -sha256` prints one"
        ),
    })
}

/// One certificate. What it says of itself (names, times) does not count; that the peer has its key does.
#[derive(Debug)]
struct Pin {
    sha256: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pin {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let found = digest::digest(&digest::SHA256, certificate);
        if found.as_ref() == self.sha256 {
            return Ok(ServerCertVerified::assertion());
        }
        let found = hex::encode(found);
        Err(rustls::Error::General(format!(
            "the controller's certificate has the SHA-256 {found}, not the one that power.fingerprint names"
        )))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
