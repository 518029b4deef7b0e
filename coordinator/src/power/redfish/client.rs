//! HTTP to a Redfish service: the account, the certificates to trust, retries, bounded answers.
//!
//! Nothing in an answer can send the account elsewhere: redirects are not followed, and of a link only the path is taken.

use crate::power::PowerError;
use crate::power::config::{PowerConfigError, RedfishConfig};
use leaseboot_protocol::secret::Secret;
use reqwest::{Client, Method, Response, StatusCode, Url};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Pauses before a request is tried again that failed by no fault of its own.
const RETRIES: [Duration; 4] = [
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
];
const CONNECT_TIME: Duration = Duration::from_secs(5);
const REQUEST_TIME: Duration = Duration::from_secs(30);
/// The largest answer that is read, in bytes.
const LARGEST_ANSWER: usize = 1 << 20;

/// A service and the account there.
pub(super) struct Service {
    client: Client,
    url: Url,
    username: String,
    password: Secret,
}

impl Service {
    pub(super) fn new(config: &RedfishConfig, directory: &Path) -> Result<Self, PowerConfigError> {
        let bad_url = || PowerConfigError::Url {
            url: config.url.clone(),
        };
        let url = Url::parse(&config.url).map_err(|_| bad_url())?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() || !url.username().is_empty() {
            return Err(bad_url());
        }
        let tls = trust(&url, config.ca_file.as_ref().map(|file| directory.join(file)))?;
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_TIME)
            .timeout(REQUEST_TIME)
            .build()
            .map_err(|source| PowerConfigError::Client {
                url: config.url.clone(),
                source,
            })?;
        Ok(Self {
            client,
            url,
            username: config.username.clone(),
            password: read_password(&directory.join(&config.password_file))?,
        })
    }

    /// The URL in the configuration.
    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// A link of the service, on the host that the configuration names and on no other.
    pub(super) fn resolve(&self, path: &str, attempted: &'static str) -> Result<Url, PowerError> {
        let mut url = self.url.clone();
        url.set_query(None);
        url.set_fragment(None);
        url.set_path(path);
        if path.starts_with('/') && !path.starts_with("//") {
            return Ok(url);
        }
        let problem = format!("the link {path:?} is not a path");
        Err(PowerError::Answer {
            attempted,
            url: self.url.to_string(),
            problem,
        })
    }

    /// Sends a request, again with growing pauses while the service cannot be reached or is in trouble itself.
    pub(super) async fn send(
        &self,
        attempted: &'static str,
        method: Method,
        url: &Url,
        body: Option<&Value>,
        etag: Option<&str>,
    ) -> Result<Response, PowerError> {
        let mut pauses = RETRIES.iter();
        loop {
            let mut request = self.client.request(method.clone(), url.clone());
            request = request.basic_auth(&self.username, Some(self.password.expose()));
            if let Some(body) = body {
                request = request.json(body);
            }
            if let Some(etag) = etag {
                request = request.header(reqwest::header::IF_MATCH, etag);
            }
            let outcome = request.send().await;
            let again = match &outcome {
                Ok(response) => {
                    response.status().is_server_error() || response.status() == StatusCode::TOO_MANY_REQUESTS
                }
                Err(_) => true,
            };
            match pauses.next().filter(|_| again) {
                Some(pause) => tokio::time::sleep(*pause).await,
                None => return judge(attempted, url, outcome).await,
            }
        }
    }
}

async fn judge(
    attempted: &'static str,
    url: &Url,
    outcome: Result<Response, reqwest::Error>,
) -> Result<Response, PowerError> {
    let response = outcome.map_err(|source| PowerError::Unreachable {
        attempted,
        url: url.to_string(),
        source: source.without_url(),
    })?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let said = read(attempted, url, response).await.unwrap_or_default();
    let message = serde_json::from_slice::<Value>(&said)
        .ok()
        .and_then(|answer| Some(answer.pointer("/error/message")?.as_str()?.to_owned()))
        .unwrap_or_else(|| {
            String::from_utf8_lossy(&said[..said.len().min(200)])
                .trim()
                .to_owned()
        });
    Err(PowerError::Refused {
        attempted,
        url: url.to_string(),
        status: status.as_u16(),
        message,
    })
}

pub(super) async fn decode<T: serde::de::DeserializeOwned>(
    attempted: &'static str,
    url: &Url,
    response: Response,
) -> Result<T, PowerError> {
    let bytes = read(attempted, url, response).await?;
    serde_json::from_slice(&bytes).map_err(|error| PowerError::Answer {
        attempted,
        url: url.to_string(),
        problem: error.to_string(),
    })
}

async fn read(attempted: &'static str, url: &Url, mut response: Response) -> Result<Vec<u8>, PowerError> {
    let broken = |source: reqwest::Error| PowerError::Unreachable {
        attempted,
        url: url.to_string(),
        source: source.without_url(),
    };
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(broken)? {
        if bytes.len() + chunk.len() > LARGEST_ANSWER {
            let problem = format!("it is longer than {LARGEST_ANSWER} bytes");
            return Err(PowerError::Answer {
                attempted,
                url: url.to_string(),
                problem,
            });
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn read_password(path: &Path) -> Result<Secret, PowerConfigError> {
    let text = std::fs::read_to_string(path)
        .map(zeroize::Zeroizing::new)
        .map_err(|source| PowerConfigError::Read {
            path: path.to_owned(),
            key: "password_file",
            source,
        })?;
    match text.lines().next() {
        Some(password) if !password.is_empty() => Ok(Secret::new(password)),
        _ => Err(PowerConfigError::NoPassword {
            path: path.to_owned(),
        }),
    }
}

/// Trusts the certificates of the file and no others: controllers have no names that public authorities know.
fn trust(url: &Url, file: Option<PathBuf>) -> Result<rustls::ClientConfig, PowerConfigError> {
    let mut roots = rustls::RootCertStore::empty();
    match file {
        Some(path) => {
            let bytes = std::fs::read(&path).map_err(|source| PowerConfigError::Read {
                path: path.clone(),
                key: "ca_file",
                source,
            })?;
            for certificate in CertificateDer::pem_slice_iter(&bytes) {
                let bad = |problem: String| PowerConfigError::Certificates {
                    path: path.clone(),
                    problem,
                };
                let certificate = certificate.map_err(|error| bad(error.to_string()))?;
                roots.add(certificate).map_err(|error| bad(error.to_string()))?;
            }
            if roots.is_empty() {
                return Err(PowerConfigError::Certificates {
                    path,
                    problem: "it has none".to_owned(),
                });
            }
        }
        None if url.scheme() == "https" => return Err(PowerConfigError::NoTrust { url: url.to_string() }),
        None => {}
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring provides the suites of every protocol version");
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}
