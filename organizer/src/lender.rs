//! The LM's client: HTTPS with our certificate, and with the lender's CA as the only one that is trusted.
//!
//! Each method is one attempt. Trying again belongs to the driver, which knows for how long it makes sense; [`LenderError`] says
//! whether it does.

use crate::config::{LenderConfig, SealedError, demand_private};
use crate::error_chain;
use leaseboot_protocol::digest::Sha256;
use leaseboot_protocol::erasure::{ErasureKey, SignedErasure};
use leaseboot_protocol::ids::LeaseId;
use leaseboot_protocol::lease::LeaseView;
use leaseboot_protocol::leases::{
    BootOrder, EventBatch, LeaseRequest, Prepared, Refusal, RenewRequest, SearchAnswer, SearchRequest,
};
use leaseboot_protocol::rescue::{RescueRequest, RescueView};
use leaseboot_protocol::settings::InstallSettings;
use reqwest::{Certificate, Client, Identity, Method, RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the LM may hold a question for events.
const WAIT_S: u64 = 25;
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
const REQUEST_DEADLINE: Duration = Duration::from_secs(20);
/// The longest answer: a merged kickstart with a hardware report, many times over.
const LONGEST_ANSWER: usize = 16 << 20;

/// The client cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// A file of the bundle cannot be read.
    #[error("cannot read {}: copy the lender's bundle (client.pem, client.key, lm-ca.pem) there", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Our key is not for us alone.
    #[error("the client's key cannot be used")]
    Key(#[source] SealedError),
    /// The files are not what they should be.
    #[error("the lender's bundle ({}) is not a CA certificate, a client certificate and its key in PEM", path.display())]
    Pem {
        /// The file that was looked at last.
        path: PathBuf,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
}

/// An attempt failed.
#[derive(Debug, thiserror::Error)]
pub enum LenderError {
    /// No connection; the LM has not seen the request.
    #[error("cannot reach the lease manager at {url}")]
    Unreachable {
        /// Its API.
        url: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The connection broke, or the LM failed; it may have carried the request out.
    #[error("the lease manager at {url} did not answer: {what}")]
    Silent {
        /// Its API.
        url: String,
        /// What happened.
        what: String,
    },
    /// The borrowing is with a lender that is not configured.
    #[error("po.toml has no lender {name:?}, which has servers of ours; put it back")]
    Unknown {
        /// Its name.
        name: String,
    },
    /// The LM does not want to.
    #[error("{0}")]
    Refused(Refusal),
}

impl LenderError {
    /// Whether another attempt may go better.
    pub fn is_passing(&self) -> bool {
        !matches!(self, LenderError::Refused(_))
    }
}

/// What a look at the LM has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Examined {
    /// Its version.
    pub version: Option<String>,
    /// Its clock, as HTTP tells it.
    pub date: Option<String>,
    /// Its certificate, in DER.
    pub certificate: Option<Vec<u8>>,
}

/// The part of the LM's description that is of interest here.
#[derive(serde::Deserialize)]
struct Description {
    info: Info,
}

#[derive(serde::Deserialize)]
struct Info {
    version: String,
}

/// One LM.
#[derive(Clone)]
pub struct Lender {
    url: String,
    client: Client,
    erasure_key: Option<ErasureKey>,
}

impl Lender {
    /// A client with the bundle of `config`. A process-wide rustls provider must be installed.
    ///
    /// # Errors
    /// [`BundleError`].
    pub fn new(config: &LenderConfig) -> Result<Self, BundleError> {
        demand_private(&config.key).map_err(BundleError::Key)?;
        let pem = |path: &Path, source| BundleError::Pem {
            path: path.to_owned(),
            source,
        };
        let ca = Certificate::from_pem(&read(&config.ca)?).map_err(|error| pem(&config.ca, error))?;
        let mut identity = read(&config.certificate)?;
        identity.push(b'\n');
        identity.extend(read(&config.key)?);
        let identity = Identity::from_pem(&identity).map_err(|error| pem(&config.certificate, error))?;
        let client = Client::builder()
            .tls_certs_only([ca])
            .identity(identity)
            .https_only(true)
            .tls_info(true)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_DEADLINE)
            .timeout(REQUEST_DEADLINE)
            .build()
            .map_err(|error| pem(&config.certificate, error))?;
        Ok(Self {
            url: config.url.clone(),
            client,
            erasure_key: erasure_key(&config.erasure_key)?,
        })
    }

    /// The key that the lender published for its erasure records; none when the bundle is of before there was one.
    pub fn erasure_key(&self) -> Option<&ErasureKey> {
        self.erasure_key.as_ref()
    }

    /// Keeps the server for `term_s` seconds from now, or for the lender's default.
    ///
    /// # Errors
    /// [`LenderError`].
    pub async fn renew(&self, lease: &LeaseId, term_s: Option<u64>) -> Result<LeaseView, LenderError> {
        let path = format!("/v1/leases/{lease}/renew");
        self.ask(self.at(Method::POST, &path).json(&RenewRequest { term_s }))
            .await
    }

    /// Says what is wanted of rescue mode.
    ///
    /// # Errors
    /// [`LenderError`].
    pub async fn rescue(&self, lease: &LeaseId, request: RescueRequest) -> Result<RescueView, LenderError> {
        let path = format!("/v1/leases/{lease}/rescue");
        self.ask(self.at(Method::PUT, &path).json(&request)).await
    }

    /// The signed record of the server's erasure.
    ///
    /// # Errors
    /// [`LenderError`].
    pub async fn erasure(&self, lease: &LeaseId) -> Result<SignedErasure, LenderError> {
        self.ask(self.at(Method::GET, &format!("/v1/leases/{lease}/erasure")))
            .await
    }

    /// Looks whether the LM answers us as its tenant, and what it tells of itself. Nothing is asked for.
    ///
    /// # Errors
    /// [`LenderError`].
    pub async fn examine(&self) -> Result<Examined, LenderError> {
        let described = self.at(Method::GET, "/v1/openapi.json");
        let description = self.ask::<Description>(described).await.ok();
        let response = self.response(self.at(Method::GET, "/v1/leases")).await?;
        let header = response.headers().get(reqwest::header::DATE);
        let date = header.and_then(|date| Some(date.to_str().ok()?.to_owned()));
        let tls = response.extensions().get::<reqwest::tls::TlsInfo>();
        let certificate = tls.and_then(|tls| tls.peer_certificate()).map(<[u8]>::to_owned);
        self.finish(response).await?;
        Ok(Examined {
            version: description.map(|description| description.info.version),
            date,
            certificate,
        })
    }

    /// Its API.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Asks what there is, without taking it.
    ///
    /// # Errors
    /// [`LenderError`].
    pub async fn search(&self, request: &SearchRequest) -> Result<SearchAnswer, LenderError> {
        self.ask(self.at(Method::POST, "/v1/search").json(request)).await
    }

    /// Asks for a server.
    ///
    /// # Errors
    /// [`LenderError`].
    pub async fn request(&self, request: &LeaseRequest) -> Result<LeaseView, LenderError> {
        self.ask(self.at(Method::POST, "/v1/leases").json(request)).await
    }

    /// Sends the install settings.
    ///
    /// # Errors
    /// [`LenderError`].
    pub async fn prepare(
        &self,
        lease: &LeaseId,
        settings: &InstallSettings,
    ) -> Result<Prepared, LenderError> {
        let path = format!("/v1/leases/{lease}/settings");
        self.ask(self.at(Method::PUT, &path).json(settings)).await
    }

    /// Consents to a merged kickstart and orders the boot.
    ///
    /// # Errors
    /// [`LenderError`].
    pub async fn boot(&self, lease: &LeaseId, kickstart_sha256: Sha256) -> Result<LeaseView, LenderError> {
        let order = BootOrder { kickstart_sha256 };
        let path = format!("/v1/leases/{lease}/boot");
        self.ask(self.at(Method::POST, &path).json(&order)).await
    }

    /// Waits for events after position `after`; an empty batch when none came in time.
    ///
    /// # Errors
    /// [`LenderError`].
    pub async fn events(&self, lease: &LeaseId, after: u64) -> Result<EventBatch, LenderError> {
        let path = format!("/v1/leases/{lease}/events?after={after}&wait_s={WAIT_S}");
        let request = self
            .at(Method::GET, &path)
            .timeout(Duration::from_secs(WAIT_S) + REQUEST_DEADLINE);
        self.ask(request).await
    }

    /// Says that the member's key is registered.
    ///
    /// # Errors
    /// [`LenderError`].
    pub async fn installed(&self, lease: &LeaseId) -> Result<(), LenderError> {
        let path = format!("/v1/leases/{lease}/installed");
        self.send(self.at(Method::POST, &path)).await.map(|_| ())
    }

    /// Says that the member was seen.
    ///
    /// # Errors
    /// [`LenderError`].
    pub async fn in_service(&self, lease: &LeaseId) -> Result<(), LenderError> {
        let path = format!("/v1/leases/{lease}/in-service");
        self.send(self.at(Method::POST, &path)).await.map(|_| ())
    }

    /// Gives the server back.
    ///
    /// # Errors
    /// [`LenderError`].
    pub async fn give_back(&self, lease: &LeaseId) -> Result<(), LenderError> {
        let path = format!("/v1/leases/{lease}");
        self.send(self.at(Method::DELETE, &path)).await.map(|_| ())
    }

    fn at(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url))
    }

    async fn ask<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, LenderError> {
        let body = self.send(request).await?;
        serde_json::from_slice(&body)
            .map_err(|error| self.silent(format!("its answer cannot be read: {error}")))
    }

    /// Sends a request and reads the answer to its end.
    async fn send(&self, request: RequestBuilder) -> Result<Vec<u8>, LenderError> {
        let response = self.response(request).await?;
        self.finish(response).await
    }

    async fn response(&self, request: RequestBuilder) -> Result<Response, LenderError> {
        request.send().await.map_err(|source| {
            if source.is_connect() {
                LenderError::Unreachable {
                    url: self.url.clone(),
                    source: source.without_url(),
                }
            } else {
                self.silent(error_chain(&source.without_url()))
            }
        })
    }

    async fn finish(&self, mut response: Response) -> Result<Vec<u8>, LenderError> {
        let body = self.body(&mut response).await?;
        if response.status().is_success() {
            Ok(body)
        } else {
            Err(self.refusal(response.status(), &body))
        }
    }

    async fn body(&self, response: &mut Response) -> Result<Vec<u8>, LenderError> {
        let mut body = Vec::new();
        loop {
            match response.chunk().await {
                Ok(None) => return Ok(body),
                Ok(Some(chunk)) if body.len() + chunk.len() <= LONGEST_ANSWER => {
                    body.extend_from_slice(&chunk)
                }
                Ok(Some(_)) => return Err(self.silent(format!("its answer exceeds {LONGEST_ANSWER} bytes"))),
                Err(error) => return Err(self.silent(error_chain(&error.without_url()))),
            }
        }
    }

    fn refusal(&self, status: StatusCode, body: &[u8]) -> LenderError {
        match serde_json::from_slice(body) {
            Ok(refusal @ (Refusal::Internal { .. } | Refusal::Busy { .. })) => {
                self.silent(refusal.to_string())
            }
            _ if status.is_server_error() => self.silent(format!("it answered {status}")),
            Ok(refusal) => LenderError::Refused(refusal),
            Err(_) => LenderError::Refused(Refusal::Invalid {
                message: format!(
                    "the lease manager at {} answered {status}; is it one, and of this version?",
                    self.url
                ),
            }),
        }
    }

    fn silent(&self, what: String) -> LenderError {
        LenderError::Silent {
            url: self.url.clone(),
            what,
        }
    }
}

fn erasure_key(path: &Path) -> Result<Option<ErasureKey>, BundleError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(ErasureKey {
            public_key: text.trim().to_owned(),
        })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(BundleError::Read {
            path: path.to_owned(),
            source,
        }),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, BundleError> {
    std::fs::read(path).map_err(|source| BundleError::Read {
        path: path.to_owned(),
        source,
    })
}
