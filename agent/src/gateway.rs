//! The agent's client of the PO's service inside the tunnel (contract: `leaseboot_protocol::gateway`).

use crate::http::{self, HttpError};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper::{Method, Request, Response, header};
use hyper_util::rt::TokioIo;
use leaseboot_protocol::boot_log::LogLines;
use leaseboot_protocol::console::{CallId, UPGRADE};
use leaseboot_protocol::gateway::{MemberHello, MemberKey, MemberSettings, SealedValues, SessionManifest};
use leaseboot_protocol::network::WireguardPublicKey;
use leaseboot_protocol::rescue::RescueWord;
use serde::de::DeserializeOwned;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
const MESSAGE_LIMIT: usize = 1 << 20;

/// A request through the tunnel failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GatewayError {
    /// No connection.
    #[error("cannot reach the enterprise's gateway at {service} through the tunnel")]
    Connect {
        /// Its service.
        service: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The exchange failed.
    #[error("cannot {what} at the enterprise's gateway {service}")]
    Exchange {
        /// What was asked.
        what: String,
        /// Its service.
        service: SocketAddr,
        /// Why.
        #[source]
        source: HttpError,
    },
    /// The answer makes no sense.
    #[error("the gateway's answer to {what} cannot be read")]
    Answer {
        /// What was asked.
        what: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

/// The PO's service inside the tunnel.
#[derive(Clone, Copy)]
pub(crate) struct Gateway {
    service: SocketAddr,
}

impl Gateway {
    /// At this address, which the tunnel must lead to.
    pub(crate) fn new(service: SocketAddr) -> Self {
        Self { service }
    }

    /// The address.
    pub(crate) fn service(&self) -> SocketAddr {
        self.service
    }

    /// What the enterprise says that this server is about to run. Its arrival proves the tunnel.
    pub(crate) async fn session(&self) -> Result<SessionManifest, GatewayError> {
        self.ask("ask for the session", Method::GET, "/v1/session", Bytes::new())
            .await
    }

    /// The values for the kickstart's marks.
    pub(crate) async fn sealed(&self) -> Result<SealedValues, GatewayError> {
        self.ask(
            "ask for the sealed values",
            Method::GET,
            "/v1/sealed",
            Bytes::new(),
        )
        .await
    }

    /// Registers the member's key.
    pub(crate) async fn register_member(
        &self,
        key: WireguardPublicKey,
    ) -> Result<MemberSettings, GatewayError> {
        self.ask(
            "register the member's key",
            Method::PUT,
            "/v1/member/key",
            json(&MemberKey { key }),
        )
        .await
    }

    /// The installed system's first word.
    pub(crate) async fn member_hello(&self, hello: &MemberHello) -> Result<(), GatewayError> {
        let what = "announce the installed system";
        let response = self
            .request(what, Method::POST, "/v1/member/hello", json(hello), None)
            .await?;
        http::body(response, MESSAGE_LIMIT)
            .await
            .map(|_| ())
            .map_err(|source| self.failure(what, source))
    }

    /// Whether the enterprise wants the agent to stay in rescue mode, and who waits for a console.
    pub(crate) async fn rescue(&self) -> Result<RescueWord, GatewayError> {
        self.ask("ask about rescue mode", Method::GET, "/v1/rescue", Bytes::new())
            .await
    }

    /// Opens the console that somebody in the enterprise waits for.
    pub(crate) async fn console(&self, call: &CallId) -> Result<TokioIo<Upgraded>, GatewayError> {
        let what = "open a console";
        let stream = self.connect().await?;
        let request = Request::builder()
            .method(Method::GET)
            .uri(format!("/v1/console/{call}"))
            .header(header::HOST, self.service.to_string())
            .header(header::CONNECTION, "upgrade")
            .header(header::UPGRADE, UPGRADE)
            .body(Full::new(Bytes::new()))
            .expect("a path of hexadecimal digits");
        http::upgrade(stream, request)
            .await
            .map_err(|source| self.failure(what, source))
    }

    /// What the boot said on its console.
    pub(crate) async fn log(&self, lines: &LogLines) -> Result<(), GatewayError> {
        let what = "send the log";
        let response = self
            .request(what, Method::POST, "/v1/log", json(lines), None)
            .await?;
        http::body(response, MESSAGE_LIMIT)
            .await
            .map(|_| ())
            .map_err(|source| self.failure(what, source))
    }

    /// A file from byte `offset` on.
    pub(crate) async fn open(&self, path: &str, offset: u64) -> Result<Response<Incoming>, GatewayError> {
        self.request(
            &format!("fetch {path}"),
            Method::GET,
            path,
            Bytes::new(),
            Some(offset),
        )
        .await
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        what: &str,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, GatewayError> {
        let response = self.request(what, method, path, body, None).await?;
        let answer = http::body(response, MESSAGE_LIMIT)
            .await
            .map_err(|source| self.failure(what, source))?;
        serde_json::from_slice(&answer).map_err(|source| GatewayError::Answer {
            what: what.to_owned(),
            source,
        })
    }

    async fn request(
        &self,
        what: &str,
        method: Method,
        path: &str,
        body: Bytes,
        offset: Option<u64>,
    ) -> Result<Response<Incoming>, GatewayError> {
        let stream = self.connect().await?;
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.service.to_string())
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(offset) = offset.filter(|offset| *offset > 0) {
            request = request.header(header::RANGE, format!("bytes={offset}-"));
        }
        let request = request.body(Full::new(body)).map_err(|_| GatewayError::Connect {
            service: self.service,
            source: std::io::Error::new(
                std::io::ErrorKind::InvalidInput,
                format!("{path:?} is not a path"),
            ),
        })?;
        http::exchange(stream, request)
            .await
            .map_err(|source| self.failure(what, source))
    }

    async fn connect(&self) -> Result<TcpStream, GatewayError> {
        let service = self.service;
        let silent = || {
            std::io::Error::new(
                std::io::ErrorKind::TimedOut,
                "no answer within the time for a connection",
            )
        };
        let connected = timeout(CONNECT_DEADLINE, TcpStream::connect(service))
            .await
            .unwrap_or_else(|_| Err(silent()));
        connected.map_err(|source| GatewayError::Connect { service, source })
    }

    fn failure(&self, what: &str, source: HttpError) -> GatewayError {
        GatewayError::Exchange {
            what: what.to_owned(),
            service: self.service,
            source,
        }
    }
}

fn json(message: &impl serde::Serialize) -> Bytes {
    serde_json::to_vec(message)
        .map(Bytes::from)
        .expect("a message of the protocol is JSON")
}
