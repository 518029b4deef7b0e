//! An HTTP proxy on the loopback interface, for programs that honour `http_proxy`, for ports that the transparent way does not know, and for names.
//!
//! `CONNECT host:port` makes a tunnel (RFC 9110, 9.3.6); a request in absolute form (RFC 9112, 3.2.2) is passed on, and the connection to its server is kept
//! for the next one. A destination outside of the tunnel's networks is refused: there is no way to anywhere else.

use super::names::{LookupError, Root};
use super::{Inside, PROXY, ProxyError, note, on_loopback_alone, relay};
use crate::errors::chain;
use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::uri::Authority;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

const BACKLOG: u32 = 128;
const HEAD_DEADLINE: Duration = Duration::from_secs(60);
const HTTP: u16 = 80;
const HTTPS: u16 = 443;
/// Of one connection and not of the message (RFC 9110, 7.6.1).
const HOP_BY_HOP: [&str; 7] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "upgrade",
];

type Answer = Response<Either<Incoming, Full<Bytes>>>;

/// Why a request is not carried out.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("this is a proxy: it takes CONNECT and http:// URLs")]
    NotForProxies,
    #[error(transparent)]
    Lookup(#[from] LookupError),
    #[error("{0} is not behind the tunnel, and nothing else can be reached from here")]
    Outside(SocketAddrV4),
    #[error("cannot connect to {to} through the tunnel")]
    Connect {
        to: SocketAddrV4,
        #[source]
        source: io::Error,
    },
    #[error("the server broke the exchange off")]
    Exchange(#[from] hyper::Error),
}

/// One client's way on: the connection of its last request is kept for the next.
struct Client {
    inside: Inside,
    root: Arc<Root>,
    kept: Mutex<Option<(SocketAddrV4, SendRequest<Incoming>)>>,
}

/// Listens.
pub(super) fn listen() -> Result<(TcpListener, Root), ProxyError> {
    let bound = || {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        on_loopback_alone(&socket)?;
        socket.bind(PROXY.into())?;
        Ok((socket.listen(BACKLOG)?, Root::of_init()?))
    };
    bound().map_err(|source| ProxyError::Listen {
        address: PROXY,
        source,
    })
}

/// Serves clients until it is dropped.
pub(super) async fn serve((listener, root): (TcpListener, Root), inside: Inside) {
    let root = Arc::new(root);
    let mut clients = JoinSet::new();
    loop {
        // Goal: the next client. Both may be dropped: what is not accepted waits, and a task that has ended stays so.
        tokio::select! {
            accepted = listener.accept() => {
                // Out of descriptors, most likely; whoever waits is accepted once others have gone.
                let Ok((stream, _)) = accepted else {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                };
                let client = Client { inside: inside.clone(), root: Arc::clone(&root), kept: Mutex::new(None) };
                clients.spawn(client.serve(stream));
            }
            Some(_) = clients.join_next() => {}
        }
    }
}

impl Client {
    async fn serve(self, stream: TcpStream) {
        let client = Arc::new(self);
        let service = service_fn(|request| {
            let client = Arc::clone(&client);
            async move { Ok::<_, Infallible>(client.answer(request).await) }
        });
        let served = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_DEADLINE)
            .pipeline_flush(true)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        // A client that goes away is its own business.
        drop(served.await);
    }

    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let what = format!("{} {}", request.method(), request.uri());
        let done = match *request.method() {
            Method::CONNECT => self.tunnel(request).await,
            _ => self.pass_on(request).await,
        };
        done.unwrap_or_else(|refusal| {
            note("cannot carry out", what, &refusal);
            refusal.answer()
        })
    }

    async fn tunnel(&self, request: Request<Incoming>) -> Result<Answer, Refusal> {
        let authority = request.uri().authority().ok_or(Refusal::NotForProxies)?;
        let to = self.find(authority, HTTPS).await?;
        let connected = self.inside.connect(to).await;
        let mut far = connected.map_err(|source| Refusal::Connect { to, source })?;
        // Ends with either side, or with the tunnel.
        tokio::spawn(async move {
            if let Ok(near) = hyper::upgrade::on(request).await
                && let Err(error) = relay::relay(&mut TokioIo::new(near), &mut far).await
            {
                note("the connection failed to", to, &error);
            }
        });
        Ok(Response::new(Either::Right(Full::default())))
    }

    async fn pass_on(&self, mut request: Request<Incoming>) -> Result<Answer, Refusal> {
        let uri = request.uri().clone();
        let (Some("http"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(Refusal::NotForProxies);
        };
        let to = self.find(authority, HTTP).await?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        *request.uri_mut() = Uri::try_from(path).map_err(|_| Refusal::NotForProxies)?;
        without_hops(request.headers_mut());
        if let Ok(host) = HeaderValue::from_str(authority.as_str()) {
            request.headers_mut().insert(header::HOST, host);
        }
        let mut sender = self.sender(to).await?;
        let mut response = sender.send_request(request).await?;
        *self.kept.lock().await = Some((to, sender));
        without_hops(response.headers_mut());
        Ok(response.map(Either::Left))
    }

    /// A connection to there, the kept one if it still can be used.
    async fn sender(&self, to: SocketAddrV4) -> Result<SendRequest<Incoming>, Refusal> {
        if let Some((kept, mut sender)) = self.kept.lock().await.take()
            && kept == to
            && sender.ready().await.is_ok()
        {
            return Ok(sender);
        }
        let connected = self.inside.connect(to).await;
        let stream = connected.map_err(|source| Refusal::Connect { to, source })?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // Ends by itself when the sender and its last answer are gone.
        tokio::spawn(connection);
        Ok(sender)
    }

    async fn find(&self, authority: &Authority, port: u16) -> Result<SocketAddrV4, Refusal> {
        let address = self.root.lookup(authority.host(), &self.inside).await?;
        let to = SocketAddrV4::new(address, authority.port_u16().unwrap_or(port));
        match self.inside.contains(address) {
            true => Ok(to),
            false => Err(Refusal::Outside(to)),
        }
    }
}

impl Refusal {
    fn answer(&self) -> Answer {
        let status = match self {
            Self::NotForProxies => StatusCode::BAD_REQUEST,
            Self::Outside(_) => StatusCode::FORBIDDEN,
            Self::Lookup(_) | Self::Connect { .. } | Self::Exchange(_) => StatusCode::BAD_GATEWAY,
        };
        let text = format!("leaseboot's proxy: {}\n", chain(self).join(": "));
        let mut answer = Response::new(Either::Right(Full::from(text)));
        *answer.status_mut() = status;
        answer
    }
}

/// Takes away what is of the connection: the usual headers, and those that the message names.
fn without_hops(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_of_the_connection_is_not_passed_on() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Private"),
            ("x-private", "1"),
            ("proxy-authorization", "Basic x"),
            ("accept", "*/*"),
        ] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        without_hops(&mut headers);
        let left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(left, ["accept"]);
    }

    #[test]
    fn a_refusal_says_what_was_wanted() {
        let refused = Refusal::Outside("192.0.2.1:80".parse().unwrap());
        assert_eq!(refused.answer().status(), StatusCode::FORBIDDEN);
        assert!(refused.to_string().contains("192.0.2.1:80"));
    }
}
