//! Requests as agents, firmware and tenants make them.
//!
//! | who | how |
//! |---|---|
//! | firmware | plain HTTP, a connection for each file |
//! | agent | **a TLS connection for each request**, as `agent/src/lm.rs` does: nothing is held open in between. A stage resumes its own sessions when the Lease Manager lets it; stage 2 is a new process and begins with a whole handshake |
//! | tenant | mutual TLS, connections that are kept and used again, as the organizer's client does |
//!
//! Each comes from its own address: the Lease Manager takes a token from no other.

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, Request, header};
use hyper_util::rt::TokioIo;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// Sessions that an agent remembers.
const SESSIONS: usize = 4;

type Connection = SendRequest<Full<Bytes>>;

/// A question: what is asked for, with which token, and what is said.
pub(super) struct Question<'a> {
    pub(super) method: Method,
    pub(super) path: &'a str,
    pub(super) token: Option<&'a str>,
    pub(super) body: Bytes,
}

impl Question<'_> {
    pub(super) fn get(path: &str) -> Question<'_> {
        Question {
            method: Method::GET,
            path,
            token: None,
            body: Bytes::new(),
        }
    }

    fn request(&self, host: SocketAddr) -> Result<Request<Full<Bytes>>> {
        let mut request = Request::builder()
            .method(self.method.clone())
            .uri(self.path)
            .header(header::HOST, host.to_string())
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(token) = self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        request
            .body(Full::new(self.body.clone()))
            .context("a request cannot be made")
    }
}

async fn connect(from: Ipv4Addr, to: SocketAddr) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4().context("cannot make a socket")?;
    socket
        .bind((from, 0).into())
        .with_context(|| format!("cannot take the address {from}"))?;
    let stream = socket
        .connect(to)
        .await
        .with_context(|| format!("{from} cannot connect to {to}"))?;
    stream.set_nodelay(true).context("cannot set a socket")?;
    Ok(stream)
}

async fn handshake(tls: &TlsConnector, from: Ipv4Addr, to: SocketAddr) -> Result<TlsStream<TcpStream>> {
    let stream = connect(from, to).await?;
    let name = ServerName::IpAddress(to.ip().into());
    tls.connect(name, stream)
        .await
        .with_context(|| format!("the TLS handshake of {from} failed"))
}

async fn speak<S>(stream: S) -> Result<Connection>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (connection, driver) = http1::handshake(TokioIo::new(stream))
        .await
        .context("cannot speak HTTP")?;
    // It ends with the connection.
    tokio::spawn(driver);
    Ok(connection)
}

async fn ask(connection: &mut Connection, to: SocketAddr, question: &Question<'_>) -> Result<Bytes> {
    let path = question.path;
    let answer = connection.send_request(question.request(to)?).await;
    let answer = answer.with_context(|| format!("{path} was not answered"))?;
    let status = answer.status();
    let body = answer.into_body().collect().await;
    let body = body
        .with_context(|| format!("the answer to {path} broke off"))?
        .to_bytes();
    ensure!(
        status.is_success(),
        "{path}: {status}: {}",
        String::from_utf8_lossy(&body)
    );
    Ok(body)
}

/// Fetches a file as firmware does.
pub(super) async fn fetch(from: Ipv4Addr, to: SocketAddr, path: &str) -> Result<Bytes> {
    let mut connection = speak(connect(from, to).await?).await?;
    ask(&mut connection, to, &Question::get(path)).await
}

/// TLS that trusts the Lease Manager's CA; with a tenant's certificate and key, mutual.
pub(super) fn tls(ca: &Path, identity: Option<(&Path, &Path)>) -> Result<Arc<ClientConfig>> {
    let certificates = |path: &Path| -> Result<Vec<CertificateDer<'static>>> {
        let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
        read.with_context(|| format!("cannot read {}", path.display()))
    };
    let mut roots = RootCertStore::empty();
    for root in certificates(ca)? {
        roots.add(root).context("the CA cannot be trusted")?;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    Ok(Arc::new(match identity {
        None => config.with_no_client_auth(),
        Some((chain, key)) => {
            let key = PrivateKeyDer::from_pem_file(key)
                .with_context(|| format!("cannot read {}", key.display()))?;
            config.with_client_auth_cert(certificates(chain)?, key)?
        }
    }))
}

/// One stage of one agent.
pub(super) struct Agent {
    from: Ipv4Addr,
    to: SocketAddr,
    tls: TlsConnector,
}

impl Agent {
    /// An agent that has just started, so it remembers no session.
    pub(super) fn new(from: Ipv4Addr, to: SocketAddr, tls: &Arc<ClientConfig>) -> Self {
        let mut tls = ClientConfig::clone(tls);
        tls.resumption = Resumption::in_memory_sessions(SESSIONS);
        Self {
            from,
            to,
            tls: TlsConnector::from(Arc::new(tls)),
        }
    }

    pub(super) async fn ask(&self, question: &Question<'_>) -> Result<Bytes> {
        let mut connection = speak(handshake(&self.tls, self.from, self.to).await?).await?;
        ask(&mut connection, self.to, question).await
    }
}

/// A tenant's organizer.
pub(super) struct Desk {
    from: Ipv4Addr,
    to: SocketAddr,
    tls: TlsConnector,
    idle: Mutex<Vec<Connection>>,
}

impl Desk {
    pub(super) fn new(from: Ipv4Addr, to: SocketAddr, tls: Arc<ClientConfig>) -> Self {
        Self {
            from,
            to,
            tls: TlsConnector::from(tls),
            idle: Mutex::default(),
        }
    }

    /// Asks over a connection that rests, or a new one when none does. One that was closed while it rested is passed over.
    pub(super) async fn ask(&self, question: &Question<'_>) -> Result<Bytes> {
        let mut connection = loop {
            let Some(mut resting) = self.rested() else {
                break speak(handshake(&self.tls, self.from, self.to).await?).await?;
            };
            if resting.ready().await.is_ok() {
                break resting;
            }
        };
        let answer = ask(&mut connection, self.to, question).await?;
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(connection);
        Ok(answer)
    }

    fn rested(&self) -> Option<Connection> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }
}
