//! The stream's pieces, as they come through the tunnel. Nothing is looked into here, and of what was handed on nothing is fetched again.

use super::ImageError;
use crate::backoff::Backoff;
use crate::gateway::{Gateway, GatewayError};
use crate::http::{self, HttpError};
use crate::report::Progress;
use hyper::{StatusCode, header};
use leaseboot_protocol::disk_image::{CHUNK, DiskImage};
use std::time::Duration;
use tokio::sync::mpsc;

/// Attempts in a row that bring not one byte.
const FRUITLESS_ATTEMPTS: u32 = 12;

/// Fetches the stream from its beginning to its end, in pieces of [`CHUNK`] bytes. Ends early, and well, when nobody takes them any more.
pub(super) async fn run(
    gateway: Gateway,
    image: &DiskImage,
    pieces: mpsc::Sender<Vec<u8>>,
    progress: &Progress,
) -> Result<(), ImageError> {
    let size = image.stream.size;
    let mut stream = Stream {
        path: &image.stream.path,
        size,
        at: 0,
        piece: Vec::with_capacity(CHUNK),
        pieces,
    };
    let new_backoff = || Backoff::new(Duration::from_millis(500), Duration::from_secs(8));
    let (mut backoff, mut fruitless) = (new_backoff(), 0);
    while stream.at < size {
        let before = stream.at;
        let source = match stream.go_on(gateway, progress).await {
            Ok(()) => continue,
            Err(Interrupted::NobodyListens) => return Ok(()),
            Err(Interrupted::TooLong) => {
                let found = stream.at + 1;
                return Err(ImageError::Length {
                    promised: size,
                    found,
                });
            }
            Err(Interrupted::Connection(source)) => Box::new(source),
        };
        if stream.at > before {
            (backoff, fruitless) = (new_backoff(), 0);
        }
        fruitless += 1;
        if fruitless > FRUITLESS_ATTEMPTS {
            let at = stream.at;
            return Err(ImageError::Stuck { at, size, source });
        }
        backoff.wait().await;
    }
    Ok(())
}

enum Interrupted {
    Connection(GatewayError),
    TooLong,
    NobodyListens,
}

struct Stream<'a> {
    path: &'a str,
    size: u64,
    /// Bytes so far, those of the present piece among them.
    at: u64,
    piece: Vec<u8>,
    pieces: mpsc::Sender<Vec<u8>>,
}

impl Stream<'_> {
    async fn go_on(&mut self, gateway: Gateway, progress: &Progress) -> Result<(), Interrupted> {
        let opened = gateway.open(self.path, self.at).await;
        let response = opened.map_err(Interrupted::Connection)?;
        let broken = |path: &str, source| {
            let (what, service) = (format!("fetch {path}"), gateway.service());
            Interrupted::Connection(GatewayError::Exchange {
                what,
                service,
                source,
            })
        };
        let ended_early = || HttpError::Status {
            status: StatusCode::PARTIAL_CONTENT,
            message: "the stream ended early, or does not go on where it broke".to_owned(),
        };
        if !continues_at(&response, self.at) {
            return Err(broken(self.path, ended_early()));
        }
        let mut body = response.into_body();
        while let Some(bytes) = http::piece(&mut body)
            .await
            .map_err(|source| broken(self.path, source))?
        {
            self.take(&bytes).await?;
            progress.bytes(self.at, Some(self.size));
        }
        match self.at < self.size {
            true => Err(broken(self.path, ended_early())),
            false => Ok(()),
        }
    }

    async fn take(&mut self, mut bytes: &[u8]) -> Result<(), Interrupted> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(CHUNK - self.piece.len()));
            self.piece.extend_from_slice(now);
            self.at += now.len() as u64;
            bytes = later;
            if self.at > self.size {
                return Err(Interrupted::TooLong);
            }
            if self.piece.len() == CHUNK || self.at == self.size {
                let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(CHUNK));
                let sent = self.pieces.send(piece).await;
                sent.map_err(|_| Interrupted::NobodyListens)?;
            }
        }
        Ok(())
    }
}

fn continues_at(response: &hyper::Response<hyper::body::Incoming>, at: u64) -> bool {
    let range = response.headers().get(header::CONTENT_RANGE);
    let range = range.and_then(|value| value.to_str().ok());
    at == 0 || range.is_some_and(|range| range.starts_with(&format!("bytes {at}-")))
}
