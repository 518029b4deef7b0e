//! Becoming known to a lender (`leaseboot_protocol::enrolment`).
//!
//! The code says whom to trust: the connection is given up before a byte of it is sent, unless the LM shows the CA whose digest the code
//! carries and a certificate of that CA for the name in the URL. Our private key is made here and written down here; only
//! the signing request crosses.

use crate::files::{self, WriteError};
use leaseboot_protocol::digest::Sha256;
use leaseboot_protocol::enrolment::{EnrolRequest, Enrolled, InvitationCode};
use leaseboot_protocol::ids::TenantId;
use leaseboot_protocol::leases::Refusal;
use rcgen::{CertificateParams, KeyPair};
use reqwest::{Client, Response};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const REQUEST_TIME: Duration = Duration::from_secs(20);
/// Two certificates are far shorter, in bytes.
const LONGEST_ANSWER: usize = 64 * 1024;

/// We are not known to the lender.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// Files of an enrolment are there already.
    #[error("{} is there already: name another folder, so that no key is lost", path.display())]
    Taken {
        /// The file.
        path: PathBuf,
    },
    /// A key or a request cannot be made.
    #[error("cannot make a key and its signing request")]
    Make(#[source] rcgen::Error),
    /// The connection failed, or the LM is not the one that the code names.
    #[error("cannot enrol at {url}")]
    Unreachable {
        /// The LM's API.
        url: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The LM says no.
    #[error("the lease manager at {url} refuses: {refusal}")]
    Refused {
        /// The LM's API.
        url: String,
        /// What it says.
        refusal: Box<Refusal>,
    },
    /// The answer is not what it should be.
    #[error("the answer of {url} cannot be used: {problem}")]
    Answer {
        /// The LM's API.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A file cannot be written.
    #[error("the bundle cannot be written")]
    Write(#[from] WriteError),
}

/// Enrols at the LM and leaves `client.key`, `client.pem`, `lm-ca.pem` and `erasure.pub` in `folder`. A process-wide rustls provider must be
/// installed.
///
/// # Errors
/// [`EnrolError`]; nothing is left in the folder then.
pub async fn enrol(url: &str, code: InvitationCode, folder: &Path) -> Result<TenantId, EnrolError> {
    let names = ["client.key", "client.pem", "lm-ca.pem", "erasure.pub"];
    let [key, certificate, ca, erasure] = names.map(|name| folder.join(name));
    for path in [&key, &certificate, &ca, &erasure] {
        if path.exists() {
            return Err(EnrolError::Taken { path: path.clone() });
        }
    }
    let pair = KeyPair::generate().map_err(EnrolError::Make)?;
    // The subject is the LM's to decide.
    let params = CertificateParams::new(Vec::new()).map_err(EnrolError::Make)?;
    let request = params.serialize_request(&pair).and_then(|request| request.pem());
    let request = request.map_err(EnrolError::Make)?;
    // Before the code is used up: a folder that cannot be written must not cost it.
    let pem = zeroize::Zeroizing::new(pair.serialize_pem());
    files::replace(&key, 0o600, pem.as_bytes())?;
    match ask(url, code, request).await {
        Ok(enrolled) => {
            files::replace(&certificate, 0o644, enrolled.certificate.as_bytes())?;
            files::replace(&ca, 0o644, enrolled.ca.as_bytes())?;
            files::replace(&erasure, 0o644, enrolled.erasure_key.as_bytes())?;
            Ok(enrolled.tenant)
        }
        Err(error) => {
            // A key without a certificate is of no use to anybody.
            let _ = std::fs::remove_file(&key);
            Err(error)
        }
    }
}

async fn ask(url: &str, code: InvitationCode, request: String) -> Result<Enrolled, EnrolError> {
    let code = Arc::new(code);
    let unreachable = |source: reqwest::Error| EnrolError::Unreachable {
        url: url.to_owned(),
        source,
    };
    let client = Client::builder()
        .tls_backend_preconfigured(trust(code.clone()))
        .https_only(true)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(REQUEST_TIME)
        .build()
        .map_err(unreachable)?;
    let body = EnrolRequest {
        invitation: code.name.clone(),
        secret: code.secret.clone(),
        request,
    };
    let response = client
        .post(format!("{}/v1/enrol", url.trim_end_matches('/')))
        .json(&body)
        .send()
        .await
        .map_err(unreachable)?;
    let is_success = response.status().is_success();
    let bytes = read(response, url).await?;
    let answer = |problem: String| EnrolError::Answer {
        url: url.to_owned(),
        problem,
    };
    if !is_success {
        let refusal = serde_json::from_slice(&bytes).map_err(|error| answer(error.to_string()))?;
        return Err(EnrolError::Refused {
            url: url.to_owned(),
            refusal: Box::new(refusal),
        });
    }
    let enrolled: Enrolled = serde_json::from_slice(&bytes).map_err(|error| answer(error.to_string()))?;
    let ca =
        CertificateDer::from_pem_slice(enrolled.ca.as_bytes()).map_err(|error| answer(error.to_string()))?;
    if !code.is_of_ca(&Sha256::of(&ca)) {
        return Err(answer("its CA is not the one that the code names".to_owned()));
    }
    Ok(enrolled)
}

async fn read(mut response: Response, url: &str) -> Result<Vec<u8>, EnrolError> {
    let mut bytes = Vec::new();
    loop {
        let chunk = response.chunk().await.map_err(|source| EnrolError::Unreachable {
            url: url.to_owned(),
            source,
        })?;
        let Some(chunk) = chunk else { return Ok(bytes) };
        if bytes.len() + chunk.len() > LONGEST_ANSWER {
            return Err(EnrolError::Answer {
                url: url.to_owned(),
                problem: format!("it is longer than {LONGEST_ANSWER} bytes"),
            });
        }
        bytes.extend_from_slice(&chunk);
    }
}

fn trust(code: Arc<InvitationCode>) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = CaOfCode {
        code,
        provider: provider.clone(),
    };
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring provides the suites of every protocol version")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth()
}

/// Trusts the CA that the code names, when the LM shows it, and what that CA has signed.
struct CaOfCode {
    code: Arc<InvitationCode>,
    provider: Arc<CryptoProvider>,
}

impl std::fmt::Debug for CaOfCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CaOfCode").finish_non_exhaustive()
    }
}

impl ServerCertVerifier for CaOfCode {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let ca = intermediates
            .iter()
            .find(|certificate| self.code.is_of_ca(&Sha256::of(certificate)));
        let Some(ca) = ca else {
            return Err(rustls::Error::General(
                "the lease manager does not show the CA that the invitation names: either this is not the lender's, or the code is mistyped"
                    .to_owned(),
            ));
        };
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone().into_owned())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
