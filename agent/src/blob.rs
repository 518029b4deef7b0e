//! Files of the enterprise on their way into memory. A [`Verified`] can only come out of [`fetch`], after every byte was hashed
//! and the digest agreed: it is the proof that [`crate::kexec`] asks for.
//!
//! A broken connection is taken up where it broke, and where the enterprise named mirrors, at the next of them. Length and digest bound what is read; nothing is looked into.

use crate::backoff::Backoff;
use crate::errors::chain;
use crate::gateway::{Gateway, GatewayError};
use crate::http::{self, HttpError};
use crate::report::Progress;
use hyper::{StatusCode, header};
use leaseboot_protocol::digest::{Hasher, Sha256};
use leaseboot_protocol::settings::Blob;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsFd;
use std::time::Duration;

/// Attempts in a row that bring not one byte.
const FRUITLESS_ATTEMPTS: u32 = 12;
/// The same at one of several sources, before the next is asked.
const FRUITLESS_ATTEMPTS_OF_ONE: u32 = 3;

/// Why a file is not here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BlobError {
    /// The bytes are not those that were promised.
    #[error(
        "{path} is not what the enterprise promised: its digest is {found}, promised was {promised}; it was not used"
    )]
    Digest {
        /// Path on the gateway.
        path: String,
        /// What the PO told.
        promised: Sha256,
        /// What came.
        found: Sha256,
    },
    /// There is more than promised.
    #[error("{path} is longer than the {promised} bytes that the enterprise promised; it was not used")]
    TooLong {
        /// Path on the gateway.
        path: String,
        /// What the PO told.
        promised: u64,
    },
    /// The connection kept failing.
    #[error(
        "{path} stopped at byte {at} of {size}, and {FRUITLESS_ATTEMPTS} attempts to go on brought nothing"
    )]
    Stuck {
        /// Path on the gateway.
        path: String,
        /// Bytes so far.
        at: u64,
        /// Bytes in all.
        size: u64,
        /// The last attempt's error.
        #[source]
        source: Box<GatewayError>,
    },
    /// Memory.
    #[error("cannot keep {path} in memory")]
    Memory {
        /// Path on the gateway.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl BlobError {
    /// Whether another attempt is pointless.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self, BlobError::Digest { .. } | BlobError::TooLong { .. })
    }
}

/// A file in memory whose digest was checked.
pub(crate) struct Verified {
    file: File,
    size: u64,
}

/// A verified initrd with our archive behind it, sealed against any change.
pub(crate) struct Ramdisk {
    file: File,
}

impl Verified {
    /// The bytes, for the kernel to read.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// The bytes, for whoever reads them here.
    pub(crate) fn into_bytes(mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.file.rewind()?;
        self.file.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Its length in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Appends an archive on the 4-byte boundary that the kernel asks for (kernel document "initramfs buffer format").
    pub(crate) fn with_archive(mut self, archive: &[u8]) -> io::Result<Ramdisk> {
        let padding = self.size.next_multiple_of(4) - self.size;
        self.file
            .write_all(&[0; 3][..usize::try_from(padding).unwrap_or(0)])?;
        self.file.write_all(archive)?;
        seal(&self.file)?;
        Ok(Ramdisk { file: self.file })
    }
}

impl Ramdisk {
    /// The bytes, for the kernel to read.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }
}

fn seal(file: &File) -> io::Result<()> {
    let seals =
        SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_SEAL;
    fcntl(file.as_fd(), FcntlArg::F_ADD_SEALS(seals))
        .map(|_| ())
        .map_err(Into::into)
}

/// Fetches `blob` through the tunnel and checks it: from the first of `sources`, and from the next where one brings nothing or other bytes. What came from one is kept when
/// another goes on; when all of it together is not what was promised, it is fetched anew, beginning at the next.
///
/// # Errors
/// [`BlobError`], of the last source.
pub(crate) async fn fetch(
    sources: &[Gateway],
    blob: &Blob,
    progress: &Progress,
) -> Result<Verified, BlobError> {
    let memory = |source| BlobError::Memory {
        path: blob.path.clone(),
        source,
    };
    let name = memfd_create(c"leaseboot", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING);
    let mut download = Download {
        blob,
        file: File::from(name.map_err(|error| memory(error.into()))?),
        at: 0,
        hasher: Hasher::new(),
    };
    let mut rounds = 0;
    loop {
        let filled = download.fill(sources, rounds, progress).await;
        match filled.and_then(|()| download.verify()) {
            Ok(()) => {
                return Ok(Verified {
                    file: download.file,
                    size: blob.size,
                });
            }
            Err(error) if error.is_final() && rounds + 1 < sources.len() => {
                rounds += 1;
                let next = sources[rounds].service();
                progress.note(format!("{error}; once more, from {next}"));
                download.restart().map_err(memory)?;
            }
            Err(error) => return Err(error),
        }
    }
}

struct Download<'a> {
    blob: &'a Blob,
    file: File,
    at: u64,
    hasher: Hasher,
}

enum Interrupted {
    Connection(GatewayError),
    TooLong,
    Memory(io::Error),
}

impl Interrupted {
    fn into_blob_error(self, blob: &Blob) -> BlobError {
        let path = blob.path.clone();
        match self {
            Interrupted::Memory(source) => BlobError::Memory { path, source },
            Interrupted::TooLong | Interrupted::Connection(_) => BlobError::TooLong {
                path,
                promised: blob.size,
            },
        }
    }
}

impl Download<'_> {
    /// Brings all bytes, from the source of number `first` on.
    async fn fill(
        &mut self,
        sources: &[Gateway],
        first: usize,
        progress: &Progress,
    ) -> Result<(), BlobError> {
        let several = sources.len() > 1;
        let mut from = sources.iter().cycle().skip(first);
        let Some(mut gateway) = from.next().copied() else {
            return Ok(());
        };
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(8));
        let (mut fruitless, mut here) = (0, 0);
        while self.at < self.blob.size {
            let before = self.at;
            let Err(error) = self.go_on(gateway, progress).await else {
                continue;
            };
            let Interrupted::Connection(source) = error else {
                return Err(error.into_blob_error(self.blob));
            };
            if self.at > before {
                (fruitless, here) = (0, 0);
                backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(8));
            }
            fruitless += 1;
            here += 1;
            if fruitless > FRUITLESS_ATTEMPTS {
                return Err(BlobError::Stuck {
                    path: self.blob.path.clone(),
                    at: self.at,
                    size: self.blob.size,
                    source: Box::new(source),
                });
            }
            if several && here >= FRUITLESS_ATTEMPTS_OF_ONE {
                let failed = gateway.service();
                gateway = from.next().copied().unwrap_or(gateway);
                here = 0;
                let why = chain(&source).join(": ");
                let (at, next) = (self.at, gateway.service());
                progress.note(format!(
                    "{failed} brings nothing ({why}); on from byte {at} at {next}"
                ));
                continue;
            }
            backoff.wait().await;
        }
        Ok(())
    }

    async fn go_on(&mut self, gateway: Gateway, progress: &Progress) -> Result<(), Interrupted> {
        let response = gateway
            .open(&self.blob.path, self.at)
            .await
            .map_err(Interrupted::Connection)?;
        let broken = |source| {
            let what = format!("fetch {}", self.blob.path);
            Interrupted::Connection(GatewayError::Exchange {
                what,
                service: gateway.service(),
                source,
            })
        };
        if !continues_at(&response, self.at) {
            // A server without ranges sends the whole file again: begin anew, with an empty hash.
            self.restart().map_err(Interrupted::Memory)?;
        }
        let mut body = response.into_body();
        while let Some(piece) = http::piece(&mut body).await.map_err(&broken)? {
            if self.at + piece.len() as u64 > self.blob.size {
                return Err(Interrupted::TooLong);
            }
            self.hasher.update(&piece);
            self.file.write_all(&piece).map_err(Interrupted::Memory)?;
            self.at += piece.len() as u64;
            progress.bytes(self.at, Some(self.blob.size));
        }
        if self.at < self.blob.size {
            let message = "the file ended early".to_owned();
            return Err(broken(HttpError::Status {
                status: StatusCode::PARTIAL_CONTENT,
                message,
            }));
        }
        Ok(())
    }

    fn restart(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.hasher = Hasher::new();
        self.at = 0;
        Ok(())
    }

    fn verify(&self) -> Result<(), BlobError> {
        let found = self.hasher.clone().finish();
        let Blob { path, sha256, .. } = self.blob;
        if found != *sha256 {
            return Err(BlobError::Digest {
                path: path.clone(),
                promised: *sha256,
                found,
            });
        }
        Ok(())
    }
}

fn continues_at(response: &hyper::Response<hyper::body::Incoming>, at: u64) -> bool {
    let range = response
        .headers()
        .get(header::CONTENT_RANGE)
        .and_then(|value| value.to_str().ok());
    at == 0 || range.is_some_and(|range| range.starts_with(&format!("bytes {at}-")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// Serves `content` once per connection, cutting each answer after `cut` bytes; honours ranges.
    async fn serve(content: &'static [u8], cut: usize) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = vec![0; 2048];
                let length = stream.read(&mut request).await.unwrap();
                let text = String::from_utf8_lossy(&request[..length]).to_lowercase();
                let from = text
                    .split("range: bytes=")
                    .nth(1)
                    .and_then(|rest| rest.split('-').next()?.parse().ok())
                    .unwrap_or(0usize);
                let head = format!(
                    "HTTP/1.1 206 Partial Content\r\ncontent-range: bytes {from}-{}/{}\r\ncontent-length: {}\r\n\r\n",
                    content.len() - 1,
                    content.len(),
                    content.len() - from
                );
                let _ = stream.write_all(head.as_bytes()).await;
                let _ = stream
                    .write_all(&content[from..(from + cut).min(content.len())])
                    .await;
            }
        });
        address
    }

    fn blob(content: &[u8], size: u64) -> Blob {
        Blob {
            path: "/v1/image/kernel".into(),
            size,
            sha256: Sha256::of(content),
        }
    }

    #[tokio::test]
    async fn a_cut_connection_is_taken_up_where_it_broke() {
        let content = b"0123456789abcdef";
        let gateway = Gateway::new(serve(content, 7).await);
        let verified = fetch(&[gateway], &blob(content, 16), &Progress::silent())
            .await
            .unwrap();
        let mut ramdisk = verified.with_archive(b"ARCH").unwrap().file.try_clone().unwrap();
        let mut bytes = Vec::new();
        Seek::rewind(&mut ramdisk).unwrap();
        ramdisk.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, b"0123456789abcdefARCH");
        assert!(ramdisk.write_all(b"x").is_err(), "sealed");
    }

    #[tokio::test]
    async fn other_bytes_are_refused() {
        let gateway = Gateway::new(serve(b"tampered", 100).await);
        let refused = fetch(&[gateway], &blob(b"promised", 8), &Progress::silent()).await;
        assert!(matches!(refused, Err(BlobError::Digest { .. })));
    }

    #[tokio::test]
    async fn a_longer_file_is_refused() {
        let gateway = Gateway::new(serve(b"promised and more", 100).await);
        let refused = fetch(&[gateway], &blob(b"promised", 8), &Progress::silent()).await;
        assert!(matches!(refused, Err(BlobError::TooLong { .. })));
    }

    /// An address that nobody listens on.
    async fn nobody() -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    }

    #[tokio::test]
    async fn a_mirror_goes_on_where_the_one_before_brings_nothing() {
        let content = b"0123456789abcdef";
        let sources = [nobody().await, serve(content, 7).await].map(Gateway::new);
        let verified = fetch(&sources, &blob(content, 16), &Progress::silent())
            .await
            .unwrap();
        assert_eq!(verified.into_bytes().unwrap(), content);
    }

    #[tokio::test]
    async fn a_mirror_with_other_bytes_costs_another_round_and_not_the_boot() {
        let content = b"promised";
        let sources = [serve(b"tampered", 100).await, serve(content, 100).await].map(Gateway::new);
        let verified = fetch(&sources, &blob(content, 8), &Progress::silent())
            .await
            .unwrap();
        assert_eq!(verified.into_bytes().unwrap(), content);
        let both = [serve(b"tampered", 100).await, serve(b"forged!!", 100).await].map(Gateway::new);
        let refused = fetch(&both, &blob(content, 8), &Progress::silent()).await;
        assert!(matches!(refused, Err(BlobError::Digest { .. })));
    }
}
