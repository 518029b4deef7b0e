//! Enrolment against an LM that this test plays: whom the PO trusts, what it sends, and what it leaves on the disk.

#![allow(clippy::unwrap_used)]

use leaseboot_po::enrolment::{EnrolError, enrol};
use leaseboot_protocol::digest::Sha256;
use leaseboot_protocol::enrolment::{EnrolRequest, Enrolled, InvitationCode};
use rcgen::{BasicConstraints, CertificateParams, CertificateSigningRequestParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// A lender's CA and the LM that it vouches for.
struct Lender {
    issuer: Issuer<'static, KeyPair>,
    ca: CertificateDer<'static>,
    ca_pem: String,
}

impl Lender {
    fn new() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        Self {
            ca: certificate.der().clone(),
            ca_pem: certificate.pem(),
            issuer: Issuer::new(params, key),
        }
    }

    fn code(&self) -> InvitationCode {
        InvitationCode::new([1; 4], [2; 16], &Sha256::of(&self.ca))
    }

    fn acceptor(&self) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone(), self.ca.clone()], key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }

    /// Answers one request; gives the LM's URL and what was asked, once it was.
    async fn serve(self) -> (String, Arc<Mutex<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(String::new()));
        let heard = asked.clone();
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = self.acceptor().accept(stream).await else {
                return;
            };
            let mut text = Vec::new();
            let body = loop {
                let mut piece = [0; 4096];
                let length = stream.read(&mut piece).await.unwrap_or_default();
                if length == 0 {
                    return;
                }
                text.extend_from_slice(&piece[..length]);
                *heard.lock().unwrap() = String::from_utf8_lossy(&text).into_owned();
                let body = text
                    .windows(4)
                    .position(|four| four == b"\r\n\r\n")
                    .map(|at| &text[at + 4..]);
                if let Some(request) = body.and_then(|body| serde_json::from_slice::<EnrolRequest>(body).ok())
                {
                    break self.answer(&request);
                }
            };
            let head = format!("HTTP/1.1 201 Created\r\ncontent-length: {}\r\n\r\n", body.len());
            stream.write_all((head + &body).as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
        });
        (url, asked)
    }

    fn answer(&self, request: &EnrolRequest) -> String {
        let signing = CertificateSigningRequestParams::from_pem(&request.request).unwrap();
        let params = CertificateParams::new(Vec::new()).unwrap();
        let certificate = params.signed_by(&signing.public_key, &self.issuer).unwrap();
        let enrolled = Enrolled {
            tenant: "acme".parse().unwrap(),
            certificate: certificate.pem(),
            ca: self.ca_pem.clone(),
            erasure_key: "key\n".to_owned(),
        };
        serde_json::to_string(&enrolled).unwrap()
    }
}

fn files(folder: &Path) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}

#[tokio::test]
async fn the_key_stays_and_the_certificate_fits_it() {
    let folder = tempfile::tempdir().unwrap();
    let lender = Lender::new();
    let code = lender.code();
    let (url, asked) = lender.serve().await;
    let tenant = enrol(&url, code, folder.path()).await.unwrap();
    assert_eq!(tenant.as_str(), "acme");
    let key_file = folder.path().join("client.key");
    assert_eq!(key_file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let pem = [
        std::fs::read(folder.path().join("client.pem")).unwrap(),
        std::fs::read(&key_file).unwrap(),
    ];
    // It looks whether the two belong together.
    reqwest::Client::builder()
        .identity(reqwest::Identity::from_pem(&pem.concat()).unwrap())
        .build()
        .unwrap();
    let asked = asked.lock().unwrap().clone();
    assert!(
        asked.contains("CERTIFICATE REQUEST") && !asked.contains("PRIVATE"),
        "{asked}"
    );
    assert_eq!(
        std::fs::read_to_string(folder.path().join("erasure.pub")).unwrap(),
        "key\n"
    );
    // A second time would overwrite the key.
    let (url, _) = Lender::new().serve().await;
    let error = enrol(&url, Lender::new().code(), folder.path())
        .await
        .unwrap_err();
    assert!(matches!(error, EnrolError::Taken { .. }), "{error}");
}

#[tokio::test]
async fn another_lender_gets_no_byte_of_the_code() {
    let folder = tempfile::tempdir().unwrap();
    let code = Lender::new().code();
    let (url, asked) = Lender::new().serve().await;
    let error = enrol(&url, code, folder.path()).await.unwrap_err();
    assert!(matches!(error, EnrolError::Unreachable { .. }), "{error}");
    assert!(
        leaseboot_po::error_chain(&error).contains("does not show the CA"),
        "{}",
        leaseboot_po::error_chain(&error)
    );
    assert_eq!(asked.lock().unwrap().as_str(), "");
    assert_eq!(files(folder.path()), 0);
}
