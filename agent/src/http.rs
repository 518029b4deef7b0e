//! One HTTP/1.1 request over one connection, with bounds on everything that the other side can make long.

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

/// Time for the head of an answer. An LM may hold an answer back for 30 s at most.
const HEAD_DEADLINE: Duration = Duration::from_secs(40);
/// Time without a byte of the body.
const IDLE_DEADLINE: Duration = Duration::from_secs(30);

/// A request failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    /// The exchange broke off.
    #[error("the connection broke off")]
    Connection(#[from] hyper::Error),
    /// Nothing came.
    #[error("no byte of an answer within {} s", .0.as_secs())]
    Silence(Duration),
    /// The other side refused.
    #[error("answered {status}: {message}")]
    Status {
        /// The status code.
        status: StatusCode,
        /// The first part of the body.
        message: String,
    },
    /// The body is longer than it may be.
    #[error("the answer is longer than {limit} bytes, or broke off")]
    Body {
        /// The bound.
        limit: usize,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Sends a request and waits for the head of a successful answer.
pub(crate) async fn exchange<S>(
    stream: S,
    request: Request<Full<Bytes>>,
) -> Result<Response<Incoming>, HttpError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // Ends by itself when the answer has been read or dropped.
    tokio::spawn(connection);
    let head = timeout(HEAD_DEADLINE, sender.send_request(request)).await;
    let response = head.map_err(|_| HttpError::Silence(HEAD_DEADLINE))??;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let message = body(response, 4096).await.unwrap_or_default();
    Err(HttpError::Status {
        status,
        message: String::from_utf8_lossy(&message).into_owned(),
    })
}

/// Sends a request for another protocol, and gives the connection once the other side has changed to it.
pub(crate) async fn upgrade<S>(
    stream: S,
    request: Request<Full<Bytes>>,
) -> Result<TokioIo<Upgraded>, HttpError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // Ends by itself when the connection is handed over or dropped.
    tokio::spawn(connection.with_upgrades());
    let head = timeout(HEAD_DEADLINE, sender.send_request(request)).await;
    let response = head.map_err(|_| HttpError::Silence(HEAD_DEADLINE))??;
    let status = response.status();
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(TokioIo::new(hyper::upgrade::on(response).await?));
    }
    let message = body(response, 4096).await.unwrap_or_default();
    Err(HttpError::Status {
        status,
        message: String::from_utf8_lossy(&message).into_owned(),
    })
}

/// Reads a whole body of at most `limit` bytes.
pub(crate) async fn body(response: Response<Incoming>, limit: usize) -> Result<Bytes, HttpError> {
    let collected = timeout(HEAD_DEADLINE, Limited::new(response.into_body(), limit).collect()).await;
    match collected.map_err(|_| HttpError::Silence(HEAD_DEADLINE))? {
        Ok(body) => Ok(body.to_bytes()),
        Err(source) => Err(HttpError::Body { limit, source }),
    }
}

/// The next piece of a body; `None` at its end. Cancel safe as long as the piece is used at once.
pub(crate) async fn piece(body: &mut Incoming) -> Result<Option<Bytes>, HttpError> {
    loop {
        match timeout(IDLE_DEADLINE, body.frame())
            .await
            .map_err(|_| HttpError::Silence(IDLE_DEADLINE))?
        {
            None => return Ok(None),
            Some(frame) => {
                if let Ok(data) = frame?.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}
