//! The agent's client of the Lease Manager (contract: `leaseboot_protocol::agent`).
//!
//! [`LeaseManager`] can only say hello; the session token that comes back makes a [`Session`], which can do the rest. The only root
//! of trust is the CA of the site archive.
//!
//! Several LMs may share the lender's store. The one that answered last is asked first; when it cannot be reached, the next one is, and
//! when it fails over a request, the next request goes to the next one.

mod session;

use crate::http::{self, HttpError};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request, StatusCode, Uri, header};
use leaseboot_protocol::agent::{Hello, Welcome};
use leaseboot_protocol::leases::Refusal;
use leaseboot_protocol::secret::Secret;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use serde::de::DeserializeOwned;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

pub(crate) use session::Session;

const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
const MESSAGE_LIMIT: usize = 1 << 20;
const SHELL_LIMIT: usize = 8 << 20;
const KICKSTART_LIMIT: usize = 4 << 20;

/// A request to the LM failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LmError {
    /// The facts of the site archive cannot be used.
    #[error("the site archive's facts are not usable: {what}")]
    Facts {
        /// What is wrong with them.
        what: String,
    },
    /// No connection.
    #[error("cannot reach the lease manager at {authority}")]
    Connect {
        /// Host and port.
        authority: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The LM refused; asking again would not help.
    #[error("the lease manager refused to {what}: {refusal}")]
    Refused {
        /// What was asked.
        what: &'static str,
        /// Its words.
        refusal: String,
    },
    /// The exchange failed.
    #[error("cannot {what} at the lease manager {authority}")]
    Exchange {
        /// What was asked.
        what: &'static str,
        /// Host and port.
        authority: String,
        /// Why.
        #[source]
        source: HttpError,
    },
    /// The answer makes no sense.
    #[error("the lease manager's answer to {what} cannot be read")]
    Answer {
        /// What was asked.
        what: &'static str,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

impl LmError {
    /// Whether another attempt is pointless.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self, LmError::Facts { .. } | LmError::Refused { .. })
    }
}

/// The LM before the hello, wherever it answers. Clones agree on who is asked first.
#[derive(Clone)]
pub(crate) struct LeaseManager {
    places: Arc<[Place]>,
    first: Arc<AtomicUsize>,
    tls: TlsConnector,
}

/// Where one LM serves its API.
struct Place {
    host: String,
    port: u16,
    name: ServerName<'static>,
}

impl Place {
    fn parse(url: &str) -> Result<Self, LmError> {
        let uri: Uri = url.parse().map_err(|_| facts("an LM's URL is not one"))?;
        if uri.scheme_str() != Some("https") {
            return Err(facts("an LM's URL does not begin with https://"));
        }
        let host = uri
            .host()
            .ok_or_else(|| facts("an LM's URL names no host"))?
            .trim_matches(['[', ']'])
            .to_owned();
        let name = ServerName::try_from(host.clone())
            .map_err(|_| facts("the host in an LM's URL is not a name or address"))?;
        let port = uri.port_u16().unwrap_or(443);
        Ok(Self { host, port, name })
    }

    fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

fn facts(what: &str) -> LmError {
    LmError::Facts {
        what: what.to_owned(),
    }
}

/// The address in an LM's URL; nothing when it is a name, which stage 1 has nobody to ask about.
pub(crate) fn address(url: &str) -> Option<IpAddr> {
    let uri: Uri = url.parse().ok()?;
    uri.host()?.trim_matches(['[', ']']).parse().ok()
}

impl LeaseManager {
    /// From the URLs and the CA of the site archive: the LM that rendered it, and the others.
    pub(crate) fn new(url: &str, others: &[String], ca_pem: &str) -> Result<Self, LmError> {
        let urls = std::iter::once(url).chain(others.iter().map(String::as_str));
        let places = urls.map(Place::parse).collect::<Result<_, _>>()?;
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
            let certificate = certificate.map_err(|_| facts("lm_ca_pem is not PEM"))?;
            roots
                .add(certificate)
                .map_err(|_| facts("lm_ca_pem holds an unusable certificate"))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| facts(&error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            places,
            first: Arc::default(),
            tls: TlsConnector::from(Arc::new(config)),
        })
    }

    /// The first word, with the boot token.
    pub(crate) async fn hello(&self, boot_token: &Secret, hello: &Hello) -> Result<Welcome, LmError> {
        let body = json(hello);
        let answer = self
            .request(
                "say hello",
                Method::POST,
                "/v1/agent/hello",
                boot_token,
                body,
                MESSAGE_LIMIT,
            )
            .await?;
        parse("say hello", &answer)
    }

    /// With the session token that the hello brought.
    pub(crate) fn session(self, token: Secret) -> Session {
        Session::new(self, token)
    }

    async fn request(
        &self,
        what: &'static str,
        method: Method,
        path: &str,
        token: &Secret,
        body: Bytes,
        limit: usize,
    ) -> Result<Bytes, LmError> {
        let (number, stream) = self.connect().await?;
        let authority = self.places[number].authority();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, &authority)
            .header(header::AUTHORIZATION, bearer(token)?)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| LmError::Facts {
                what: error.to_string(),
            })?;
        let answer = async { http::body(http::exchange(stream, request).await?, limit).await };
        answer.await.map_err(|source| {
            let error = failure(what, authority, source);
            if !error.is_final() {
                self.first.store(number + 1, Ordering::Relaxed);
            }
            error
        })
    }

    /// The first that can be reached, with its number.
    async fn connect(&self) -> Result<(usize, tokio_rustls::client::TlsStream<TcpStream>), LmError> {
        let first = self.first.load(Ordering::Relaxed);
        let mut failed = facts("they name no LM");
        for number in (first..).take(self.places.len()) {
            let number = number % self.places.len();
            match self.connect_to(&self.places[number]).await {
                Ok(stream) => {
                    self.first.store(number, Ordering::Relaxed);
                    return Ok((number, stream));
                }
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    /// The LM that serves this API, if it is one of those that the site archive names.
    fn place_of(&self, url: &str) -> Option<&Place> {
        let wanted = Place::parse(url).ok()?.authority();
        self.places.iter().find(|place| place.authority() == wanted)
    }

    async fn connect_to(&self, place: &Place) -> Result<tokio_rustls::client::TlsStream<TcpStream>, LmError> {
        let connect = async {
            let stream = TcpStream::connect((place.host.as_str(), place.port)).await?;
            stream.set_nodelay(true)?;
            self.tls.connect(place.name.clone(), stream).await
        };
        let connected = timeout(CONNECT_DEADLINE, connect).await.unwrap_or_else(|_| {
            Err(std::io::Error::new(
                std::io::ErrorKind::TimedOut,
                "no answer within the time for a connection",
            ))
        });
        connected.map_err(|source| LmError::Connect {
            authority: place.authority(),
            source,
        })
    }
}

fn failure(what: &'static str, authority: String, source: HttpError) -> LmError {
    match source {
        HttpError::Status { status, message } if is_refusal(status) => {
            let refusal =
                serde_json::from_str::<Refusal>(&message).map_or(message, |refusal| refusal.to_string());
            LmError::Refused { what, refusal }
        }
        source => LmError::Exchange {
            what,
            authority,
            source,
        },
    }
}

/// Requests that are wrong stay wrong; the LM's own failures and too many requests pass.
fn is_refusal(status: StatusCode) -> bool {
    status.is_client_error()
        && status != StatusCode::TOO_MANY_REQUESTS
        && status != StatusCode::REQUEST_TIMEOUT
}

fn bearer(token: &Secret) -> Result<header::HeaderValue, LmError> {
    let text = zeroize::Zeroizing::new(format!("Bearer {}", token.expose()));
    let mut value = header::HeaderValue::from_str(&text).map_err(|_| LmError::Facts {
        what: "the token is not printable".to_owned(),
    })?;
    value.set_sensitive(true);
    Ok(value)
}

fn json(message: &impl serde::Serialize) -> Bytes {
    // Our own messages have string keys and no failing serializers.
    serde_json::to_vec(message)
        .map(Bytes::from)
        .expect("a message of the protocol is JSON")
}

fn parse<T: DeserializeOwned>(what: &'static str, answer: &[u8]) -> Result<T, LmError> {
    serde_json::from_slice(answer).map_err(|source| LmError::Answer { what, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_checked() {
        for (url, ca) in [
            ("nonsense url", ""),
            ("http://10.10.0.1", ""),
            ("https://", ""),
            (
                "https://a",
                "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",
            ),
        ] {
            assert!(
                matches!(LeaseManager::new(url, &[], ca), Err(LmError::Facts { .. })),
                "{url}"
            );
        }
    }

    #[test]
    fn the_address_is_in_the_url() {
        assert_eq!(address("https://10.10.0.1:8443"), "10.10.0.1".parse().ok());
        assert_eq!(address("https://[2001:db8::1]"), "2001:db8::1".parse().ok());
        assert_eq!(address("https://lm.example:8443"), None);
    }

    #[test]
    fn a_clients_fault_is_final_and_a_servers_is_not() {
        let failure = |status| {
            let source = HttpError::Status {
                status,
                message: String::new(),
            };
            failure("report", "10.10.0.1:8443".to_owned(), source).is_final()
        };
        assert!(failure(StatusCode::UNAUTHORIZED));
        assert!(!failure(StatusCode::INTERNAL_SERVER_ERROR) && !failure(StatusCode::TOO_MANY_REQUESTS));
    }

    #[tokio::test]
    async fn whoever_can_be_reached_is_asked() {
        let answers = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = answers.local_addr().unwrap().port();
        // Nobody listens at the first: a port that was ours a moment ago.
        let dead = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dead = dead.local_addr().unwrap().port();
        let others = [format!("https://127.0.0.1:{port}")];
        let lm = LeaseManager::new(&format!("https://127.0.0.1:{dead}"), &others, "")
            .ok()
            .unwrap();
        let asked = tokio::spawn(async move { lm.connect().await.err() });
        let (stream, _) = answers.accept().await.unwrap();
        drop(stream);
        // It speaks no TLS, and both have failed: the last of them is named.
        let error = asked.await.unwrap().expect("no TLS");
        assert!(
            matches!(error, LmError::Connect { authority, .. } if authority == format!("127.0.0.1:{port}"))
        );
    }
}
