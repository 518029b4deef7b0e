//! The CLI's side of the control socket.

use super::rescue::OPERATOR;
use super::{BorrowRequest, Problem};
use crate::announce::Entry;
use crate::borrowing::BorrowingId;
use crate::borrowing::view::BorrowingView;
use crate::error_chain;
use crate::progress::Progress;
use crate::progress::estimate::Course;
use crate::store::{BootLogPiece, ConsoleRecord};
use bytes::Bytes;
use leaseboot_protocol::console::UPGRADE;
use leaseboot_protocol::leases::RenewRequest;
use leaseboot_protocol::rescue::{RescueRequest, RescueView};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, Upgraded, header};
use serde::de::DeserializeOwned;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};

/// A note is a line; the longest carries a kernel log.
const LONGEST_LINE: usize = 4 << 20;
const BORROWINGS: &str = "/v1/borrowings";

/// The daemon did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers.
    #[error(
        "no leaseboot-po answers on {}: start it with `leaseboot-po serve --config {}`",
        socket.display(),
        config.display()
    )]
    NoDaemon {
        /// The socket.
        socket: PathBuf,
        /// The configuration.
        config: PathBuf,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The connection broke.
    #[error("the connection to leaseboot-po broke ({0})")]
    Broken(String),
    /// The daemon ended while it was listened to.
    #[error("leaseboot-po went away; {0} when it serves again")]
    Away(String),
    /// The daemon could do it at another time.
    #[error("{0}")]
    Conflict(String),
    /// The daemon refused.
    #[error("{0}")]
    Refused(String),
}

/// A client of one daemon.
pub struct ControlClient {
    socket: PathBuf,
    config: PathBuf,
    client: Client,
}

impl ControlClient {
    /// A client of the daemon that serves with `config` and listens on `socket`.
    ///
    /// # Errors
    /// [`ClientError::Broken`] when no client can be made at all.
    pub fn new(socket: PathBuf, config: &Path) -> Result<Self, ClientError> {
        let client = Client::builder()
            .no_proxy()
            // No TLS is spoken here: without this line the system's certificates would be loaded.
            .tls_certs_only([])
            .unix_socket(socket.as_path())
            .build()
            .map_err(|error| ClientError::Broken(error_chain(&error)))?;
        Ok(Self {
            socket,
            config: config.to_owned(),
            client,
        })
    }

    /// Begins a borrowing.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn begin(&self, request: &BorrowRequest) -> Result<BorrowingView, ClientError> {
        self.ask(self.at(Method::POST, BORROWINGS).json(request)).await
    }

    /// All borrowings, oldest first.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn list(&self) -> Result<Vec<BorrowingView>, ClientError> {
        self.ask(self.at(Method::GET, BORROWINGS)).await
    }

    /// One borrowing, by identifier, lease or host name.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn find(&self, name: &str) -> Result<BorrowingView, ClientError> {
        self.ask(self.at(Method::GET, &of(name, "")?)).await
    }

    /// What a borrowed server said on its console.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn boot_log(&self, name: &str) -> Result<Vec<BootLogPiece>, ClientError> {
        self.ask(self.at(Method::GET, &of(name, "/log")?)).await
    }

    /// Gives a server back; with `now`, without draining it first.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn release(&self, name: &str, now: bool) -> Result<BorrowingView, ClientError> {
        let path = of(name, &format!("/release?now={now}"))?;
        self.ask(self.at(Method::POST, &path)).await
    }

    /// Keeps a server for longer.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn renew(&self, name: &str, term_s: Option<u64>) -> Result<BorrowingView, ClientError> {
        let request = self.at(Method::POST, &of(name, "/renew")?);
        self.ask(request.json(&RenewRequest { term_s })).await
    }

    /// Says what is wanted of rescue mode.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn rescue(&self, name: &str, request: RescueRequest) -> Result<RescueView, ClientError> {
        let order = self.at(Method::PUT, &of(name, "/rescue")?);
        self.ask(order.json(&request)).await
    }

    /// Who had a console.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn consoles(&self, name: &str) -> Result<Vec<ConsoleRecord>, ClientError> {
        self.ask(self.at(Method::GET, &of(name, "/consoles")?)).await
    }

    /// Opens a console, on behalf of `who`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn console(&self, name: &str, who: &str) -> Result<Upgraded, ClientError> {
        let request = self
            .at(Method::GET, &of(name, "/console")?)
            .header(OPERATOR, who)
            .header(header::CONNECTION, "upgrade")
            .header(header::UPGRADE, UPGRADE);
        self.send(request).await?.upgrade().await.map_err(broken)
    }

    /// Follows a borrowing from the note after `after` on.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn follow(&self, id: &BorrowingId, after: u64) -> Result<ProgressStream, ClientError> {
        let path = format!("{BORROWINGS}/{id}/progress?after={after}");
        let response = self.send(self.at(Method::GET, &path)).await?;
        Ok(ProgressStream {
            response,
            rest: Vec::new(),
            ready: VecDeque::new(),
        })
    }

    /// The servers that the enterprise may count on.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn announced(&self) -> Result<Vec<Entry>, ClientError> {
        self.ask(self.client.get("http://po/v1/announced")).await
    }

    /// The courses of the latest transfers of `profile`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn courses(&self, profile: &str) -> Result<Vec<Course>, ClientError> {
        self.ask(self.at(Method::GET, &format!("/v1/profiles/{profile}/courses")))
            .await
    }

    pub(crate) fn at(&self, method: Method, path: &str) -> RequestBuilder {
        // The host is never looked up: the connection is the socket's.
        self.client.request(method, format!("http://po{path}"))
    }

    pub(crate) async fn ask<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, ClientError> {
        self.send(request).await?.json().await.map_err(broken)
    }

    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let response = request.send().await.map_err(|source| {
            if source.is_connect() {
                ClientError::NoDaemon {
                    socket: self.socket.clone(),
                    config: self.config.clone(),
                    source: source.without_url(),
                }
            } else {
                broken(source)
            }
        })?;
        let status = response.status();
        if status.is_success() || status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(response);
        }
        let problem = response.json::<Problem>().await;
        let problem = problem.map_or_else(
            |_| format!("leaseboot-po answered {status}; is it of this version?"),
            |problem| problem.error,
        );
        Err(match status {
            StatusCode::CONFLICT => ClientError::Conflict(problem),
            _ => ClientError::Refused(problem),
        })
    }
}

fn broken(error: reqwest::Error) -> ClientError {
    ClientError::Broken(error_chain(&error.without_url()))
}

/// The path of a borrowing, or of something that is its own.
fn of(name: &str, what: &str) -> Result<String, ClientError> {
    Ok(format!("{BORROWINGS}/{}{what}", plain(name)?))
}

/// A name that can stand in a path.
fn plain(name: &str) -> Result<&str, ClientError> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    if !name.is_empty() && name.bytes().all(fits) {
        Ok(name)
    } else {
        Err(ClientError::Refused(format!(
            "{name:?} is no name of a borrowing"
        )))
    }
}

/// Notes as they come.
pub struct ProgressStream {
    response: Response,
    rest: Vec<u8>,
    ready: VecDeque<Progress>,
}

impl ProgressStream {
    /// The next note; `None` when nothing more will come. Cancel-safe.
    ///
    /// # Errors
    /// [`ClientError::Broken`] when the daemon goes away.
    pub async fn next(&mut self) -> Result<Option<Progress>, ClientError> {
        loop {
            if let Some(progress) = self.ready.pop_front() {
                return Ok(Some(progress));
            }
            match self.response.chunk().await.map_err(broken)? {
                None => return Ok(None),
                Some(chunk) => self.take(&chunk)?,
            }
        }
    }

    fn take(&mut self, chunk: &Bytes) -> Result<(), ClientError> {
        self.rest.extend_from_slice(chunk);
        let whole = self
            .rest
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        let lines: Vec<u8> = self.rest.drain(..whole).collect();
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let progress = serde_json::from_slice(line)
                .map_err(|error| ClientError::Broken(format!("a note cannot be read: {error}")))?;
            self.ready.push_back(progress);
        }
        if self.rest.len() > LONGEST_LINE {
            return Err(ClientError::Broken("a note is too long".to_owned()));
        }
        Ok(())
    }
}
