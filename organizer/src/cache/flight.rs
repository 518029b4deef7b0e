//! One fetch from an upstream, and all who read along. A body goes into its file as it comes, and each reader follows the file, at its own speed; a reader that
//! goes away stops nobody. A body that ends early, is longer than announced, or has not the digest that its path promises, fails for every reader before its last
//! byte, so that none takes half a file for a whole one.

use super::shelf::{Description, Shelf};
use super::{CacheError, Upstream, is_immutable, promised};
use axum::http::StatusCode;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};
use leaseboot_protocol::digest::{Hasher, Sha256};
use reqwest::{Certificate, Client, Response, header, redirect};
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{Semaphore, watch};

const CONNECT_TIME: Duration = Duration::from_secs(10);
/// How long an upstream may send nothing.
const SILENCE: Duration = Duration::from_secs(60);
/// Fetches from one upstream at once, also of those whose readers went away.
const MOST_FLIGHTS: usize = 64;
const PIECE: usize = 64 << 10;

/// A package does not come.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    /// The upstream does not answer.
    #[error("cannot fetch {url}: does the package server run, and is `upstream` in po.toml right?")]
    Upstream {
        /// What was asked for.
        url: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// What came is not what was announced.
    #[error("{url} gave {found}, and {announced} was announced; it was not kept")]
    Broken {
        /// What was asked for.
        url: String,
        /// What was announced.
        announced: String,
        /// What came.
        found: String,
    },
    /// It cannot be written.
    #[error("cannot write {}: is the disk full?", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Somebody else's fetch failed.
    #[error("{0}")]
    Shared(String),
}

/// What is answered.
pub(super) enum Answer {
    /// The whole file.
    Kept(PathBuf),
    /// A body on its way.
    Coming {
        /// Its length in bytes, when the upstream said so.
        length: Option<u64>,
        /// The bytes; an error cuts the answer.
        body: Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>,
    },
    /// What the upstream said instead.
    Other(StatusCode),
}

/// How far a fetch is.
#[derive(Clone)]
enum Stage {
    Asking,
    Kept(PathBuf),
    Coming {
        file: PathBuf,
        length: u64,
        written: u64,
        whole: bool,
    },
    /// Nothing that is kept, for want of room or of a length: everybody asks for himself.
    NotKept,
    Other(StatusCode),
    Failed(String),
}

/// The fetches from one upstream.
pub(super) struct Flights {
    upstream: Arc<Airline>,
    running: Arc<Mutex<HashMap<String, watch::Receiver<Stage>>>>,
}

/// What a fetch needs.
struct Airline {
    url: String,
    client: Client,
    shelf: Shelf,
    permits: Semaphore,
}

impl Flights {
    pub(super) fn new(upstream: &Upstream, shelf: Shelf) -> Result<Self, CacheError> {
        Ok(Self {
            upstream: Arc::new(Airline {
                url: upstream.url.clone(),
                client: upstream.client()?,
                shelf,
                permits: Semaphore::new(MOST_FLIGHTS),
            }),
            running: Arc::default(),
        })
    }

    /// What is at `path` of the upstream.
    pub(super) async fn answer(&self, path: &str) -> Result<Answer, FetchError> {
        if is_immutable(path)
            && let Some(known) = self.upstream.shelf.touch(path)
        {
            return Ok(Answer::Kept(self.upstream.shelf.body(&known)));
        }
        let mut stages = self.join(path);
        let landed = stages.wait_for(|stage| !matches!(stage, Stage::Asking)).await;
        let stage = landed.map_or(Stage::Failed("the fetch was given up".to_owned()), |stage| {
            stage.clone()
        });
        match stage {
            Stage::Kept(file) => Ok(Answer::Kept(file)),
            Stage::Coming { file, length, .. } => {
                let opened = File::open(&file).await;
                let opened = opened.map_err(|source| FetchError::Write { path: file, source })?;
                Ok(Answer::Coming {
                    length: Some(length),
                    body: Box::pin(follow(opened, stages)),
                })
            }
            Stage::NotKept => self.upstream.pass_on(path).await,
            Stage::Other(status) => Ok(Answer::Other(status)),
            Stage::Failed(words) => Err(FetchError::Shared(words)),
            Stage::Asking => Err(FetchError::Shared("the fetch did not begin".to_owned())),
        }
    }

    /// The fetch of this path, which begins when there is none.
    fn join(&self, path: &str) -> watch::Receiver<Stage> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stages) = running.get(path) {
            return stages.clone();
        }
        let (stage, stages) = watch::channel(Stage::Asking);
        running.insert(path.to_owned(), stages.clone());
        let (upstream, all, path) = (
            Arc::clone(&self.upstream),
            Arc::clone(&self.running),
            path.to_owned(),
        );
        tokio::spawn(async move {
            if let Err(error) = upstream.fetch(&path, &stage).await {
                stage.send_replace(Stage::Failed(crate::error_chain(&error)));
            }
            all.lock().unwrap_or_else(PoisonError::into_inner).remove(&path);
        });
        stages
    }
}

impl Upstream {
    /// A client that asks it, and believes nobody else.
    pub(crate) fn client(&self) -> Result<Client, CacheError> {
        let builder = Client::builder()
            .no_proxy()
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT_TIME)
            .read_timeout(SILENCE);
        let tls = |source| CacheError::Tls {
            url: self.url.clone(),
            source,
        };
        let builder = match &self.ca {
            Some(path) => {
                let pem = std::fs::read(path).map_err(|source| CacheError::Ca {
                    path: path.clone(),
                    source,
                })?;
                builder.tls_certs_only(Certificate::from_pem_bundle(&pem).map_err(tls)?)
            }
            None if self.url.starts_with("https://") => builder,
            // No TLS is spoken here: without this line the system's certificates would be loaded.
            None => builder.tls_certs_only([]),
        };
        builder.build().map_err(tls)
    }
}

impl Airline {
    async fn fetch(&self, path: &str, stage: &watch::Sender<Stage>) -> Result<(), FetchError> {
        // The semaphore is never closed.
        let _permit = self.permits.acquire().await;
        let known = self.shelf.touch(path);
        let response = self.ask(path, known.as_ref()).await?;
        let next = match (response.status(), known) {
            (StatusCode::NOT_MODIFIED, Some(known)) => Stage::Kept(self.shelf.body(&known)),
            (StatusCode::OK, _) => match response.content_length() {
                Some(length) => return self.take_in(path, response, length, stage).await,
                None => Stage::NotKept,
            },
            (status, _) if status.is_redirection() => Stage::Other(StatusCode::BAD_GATEWAY),
            (status, _) => Stage::Other(status),
        };
        stage.send_replace(next);
        Ok(())
    }

    async fn ask(&self, path: &str, known: Option<&Description>) -> Result<Response, FetchError> {
        let url = format!("{}/{path}", self.url);
        let mut request = self.client.get(&url);
        let validators = known.map(|known| (&known.etag, &known.last_modified));
        if let Some((etag, last_modified)) = validators {
            for (name, value) in [
                (header::IF_NONE_MATCH, etag),
                (header::IF_MODIFIED_SINCE, last_modified),
            ] {
                if let Some(value) = value {
                    request = request.header(name, value);
                }
            }
        }
        request
            .send()
            .await
            .map_err(|source| FetchError::Upstream { url, source })
    }

    /// Keeps a body of `length` bytes, while readers follow.
    async fn take_in(
        &self,
        path: &str,
        response: Response,
        length: u64,
        stage: &watch::Sender<Stage>,
    ) -> Result<(), FetchError> {
        let Some(room) = self.shelf.reserve(length) else {
            stage.send_replace(Stage::NotKept);
            return Ok(());
        };
        let text = |name| {
            response
                .headers()
                .get(name)
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned)
        };
        let description = Description {
            path: path.to_owned(),
            body: self.shelf.fresh_body(path),
            size: length,
            etag: text(header::ETAG),
            last_modified: text(header::LAST_MODIFIED),
        };
        let file = self.shelf.body(&description);
        let written = self.write(path, response, length, &file, stage).await;
        let write = |source| FetchError::Write {
            path: file.clone(),
            source,
        };
        let kept = match written {
            Ok(()) => self.shelf.keep(room, description).map_err(write),
            Err(error) => {
                self.shelf.cancel(room);
                Err(error)
            }
        };
        if kept.is_err() {
            // Nothing names it; the next start would sweep it.
            let _ = tokio::fs::remove_file(&file).await;
        }
        kept?;
        stage.send_modify(|stage| {
            if let Stage::Coming { whole, written, .. } = stage {
                (*whole, *written) = (true, length);
            }
        });
        Ok(())
    }

    async fn write(
        &self,
        path: &str,
        mut response: Response,
        length: u64,
        file: &Path,
        stage: &watch::Sender<Stage>,
    ) -> Result<(), FetchError> {
        let url = || format!("{}/{path}", self.url);
        let write = |source| FetchError::Write {
            path: file.to_owned(),
            source,
        };
        let mut body = File::create_new(file).await.map_err(write)?;
        stage.send_replace(Stage::Coming {
            file: file.to_owned(),
            length,
            written: 0,
            whole: false,
        });
        let (mut hasher, mut at) = (Hasher::new(), 0);
        while let Some(piece) = response
            .chunk()
            .await
            .map_err(|source| FetchError::Upstream { url: url(), source })?
        {
            hasher.update(&piece);
            at += piece.len() as u64;
            body.write_all(&piece).await.map_err(write)?;
            body.flush().await.map_err(write)?;
            stage.send_modify(|stage| {
                if let Stage::Coming { written, .. } = stage {
                    // The last byte comes when all are checked and kept: no reader has a whole file that is none.
                    *written = at.min(length.saturating_sub(1));
                }
            });
        }
        check(url, length, at, promised(path), hasher.finish())?;
        body.sync_all().await.map_err(write)
    }

    /// Straight through, for one reader.
    async fn pass_on(&self, path: &str) -> Result<Answer, FetchError> {
        let response = self.ask(path, None).await?;
        if response.status() != StatusCode::OK {
            return Ok(Answer::Other(response.status()));
        }
        Ok(Answer::Coming {
            length: response.content_length(),
            body: response.bytes_stream().map_err(io::Error::other).boxed(),
        })
    }
}

fn check(
    url: impl Fn() -> String,
    length: u64,
    came: u64,
    digest: Option<Sha256>,
    found: Sha256,
) -> Result<(), FetchError> {
    if came != length {
        return Err(FetchError::Broken {
            url: url(),
            announced: format!("{length} bytes"),
            found: format!("{came} bytes"),
        });
    }
    match digest {
        Some(digest) if digest != found => Err(FetchError::Broken {
            url: url(),
            announced: format!("the digest {digest}"),
            found: format!("the digest {found}"),
        }),
        _ => Ok(()),
    }
}

/// The bytes of a file that is being written, as far as they are there.
fn follow(file: File, stages: watch::Receiver<Stage>) -> impl Stream<Item = io::Result<Bytes>> {
    stream::try_unfold((file, stages, 0), |(mut file, mut stages, at)| async move {
        let further = stages.wait_for(|stage| match stage {
            Stage::Coming { written, whole, .. } => *whole || *written > at,
            _ => true,
        });
        let (there, whole) = match further.await.as_deref() {
            Ok(Stage::Coming { written, whole, .. }) => (*written, *whole),
            Ok(Stage::Failed(words)) => return Err(io::Error::other(words.clone())),
            _ => return Err(io::ErrorKind::UnexpectedEof.into()),
        };
        if at == there && whole {
            return Ok(None);
        }
        let length = usize::try_from(there - at).unwrap_or(PIECE).min(PIECE);
        let mut piece = vec![0; length];
        file.read_exact(&mut piece).await?;
        Ok(Some((Bytes::from(piece), (file, stages, at + length as u64))))
    })
}
