//! An HTTP client that fetches one file again and again and looks at its length; what it costs us does not matter here.

use super::wire::client_address;
use anyhow::{Context as _, Result, bail, ensure};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;

const PORT: u16 = 80;
const PATIENCE: Duration = Duration::from_secs(30);

/// Fetches `path` `times` times over one connection; gives the bytes of content that came.
pub(super) fn fetch(server: Ipv4Addr, path: &str, length: u64, times: u32) -> Result<u64> {
    let address = SocketAddr::from((server, PORT));
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).context("cannot connect")?;
    stream
        .set_read_timeout(Some(PATIENCE))
        .context("cannot set a socket")?;
    let mut buffer = vec![0; 1 << 20];
    let mut total = 0;
    for _ in 0..times {
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {server}\r\n\r\n").context("cannot ask for a file")?;
        let mut arrived = head(&mut stream, &mut buffer, length)?;
        while arrived < length {
            let count = stream.read(&mut buffer).context("cannot read a file")?;
            ensure!(count > 0, "{path} ends after {arrived} of {length} bytes");
            arrived += count as u64;
        }
        ensure!(arrived == length, "{path} is longer than {length} bytes");
        total += arrived;
    }
    Ok(total)
}

/// So many clients fetch `length` bytes from the beginning of `path` at one moment, each from its own address and over its own connection.
pub(super) async fn storm(server: Ipv4Addr, path: &str, length: usize, clients: usize) -> Result<Duration> {
    let begun = Instant::now();
    let mut fetching = JoinSet::new();
    for client in 0..clients {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {server}\r\nRange: bytes=0-{}\r\nConnection: close\r\n\r\n",
            length - 1
        );
        fetching.spawn(async move {
            let socket = tokio::net::TcpSocket::new_v4()?;
            socket.bind((client_address(client), 0).into())?;
            let mut stream = socket.connect((server, PORT).into()).await?;
            stream.write_all(request.as_bytes()).await?;
            let (mut buffer, mut total) = (vec![0; 64 << 10], 0);
            loop {
                match stream.read(&mut buffer).await? {
                    0 => return std::io::Result::Ok(total),
                    count => total += count,
                }
            }
        });
    }
    while let Some(fetched) = fetching.join_next().await {
        let total = fetched.context("a client panicked")?.context("a client failed")?;
        // The rest is the head.
        ensure!(
            (length..length + 1024).contains(&total),
            "a client got {total} instead of {length} bytes"
        );
    }
    Ok(begun.elapsed())
}

/// Reads the head of an answer; gives the bytes of content that came with it.
fn head(stream: &mut TcpStream, buffer: &mut [u8], length: u64) -> Result<u64> {
    let mut filled = 0;
    loop {
        let count = stream
            .read(&mut buffer[filled..])
            .context("cannot read an answer")?;
        ensure!(count > 0, "the connection ends within a head");
        filled += count;
        if let Some(end) = buffer[..filled].windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            let text = String::from_utf8_lossy(&buffer[..end]).to_ascii_lowercase();
            if !text.starts_with("http/1.1 200") || !text.contains(&format!("content-length: {length}")) {
                bail!("not the file of {length} bytes: {text}");
            }
            return Ok((filled - end - 4) as u64);
        }
    }
}
