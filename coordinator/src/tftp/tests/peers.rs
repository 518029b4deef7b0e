//! [`TftpService`] on the loopback interface against tftp-hpa, atftp and curl, and against clients that do not behave.

use crate::tftp::{TftpNames, TftpService, TftpSettings};
use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::process::Command;
use tokio_util::sync::{CancellationToken, DropGuard};

struct Shelf(BTreeMap<&'static str, Bytes>);

impl TftpNames for Shelf {
    fn open<'a>(&'a self, name: &'a str, _from: IpAddr) -> BoxFuture<'a, Option<Bytes>> {
        async move { self.0.get(name).cloned() }.boxed()
    }
}

fn content(length: usize) -> Bytes {
    (0..length)
        .map(|index| u8::try_from((index / 3 + index / 1000) % 253).unwrap())
        .collect()
}

/// A server on a free port that stops when the guard is dropped.
async fn serve(clients: &str) -> (SocketAddr, DropGuard) {
    let shelf = Shelf(BTreeMap::from([
        ("grub/core.0", content(153_376)),
        ("even", content(512 * 100)),
        ("empty", Bytes::new()),
        ("large", content(35_000_000)),
    ]));
    let settings = TftpSettings {
        address: Ipv4Addr::LOCALHOST.into(),
        port: 0,
        clients: vec![clients.parse().unwrap()],
        mtu: u16::MAX,
    };
    let service = TftpService::bind(settings).unwrap();
    let (address, stop) = (service.local_addr(), CancellationToken::new());
    tokio::spawn(service.run(Arc::new(shelf), stop.clone()));
    (address, stop.drop_guard())
}

fn program(name: &str, package: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("{name} is needed for this test: apt-get install {package}"))
}

/// Runs a client; it must end well within a minute.
async fn run(command: &mut Command) {
    let run = command.kill_on_drop(true).output();
    let output = tokio::time::timeout(Duration::from_secs(60), run)
        .await
        .expect("the client hangs")
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{:?}: {} {said}",
        command.as_std(),
        output.status
    );
}

async fn fetch(client: &str, server: SocketAddr, name: &str, to: &Path) {
    let (host, port) = (server.ip().to_string(), server.port().to_string());
    match client {
        "tftp-hpa" => {
            let mut command = Command::new(program("tftp", "tftp-hpa"));
            run(command
                .args(["-m", "octet", &host, &port, "-c", "get", name])
                .arg(to))
            .await;
        }
        "atftp" | "atftp windowsize 64" | "atftp blksize 65464" => {
            let mut command = Command::new(program("atftp", "atftp"));
            if let Some((_, option)) = client.split_once(' ') {
                command.args(["--option", option]);
            }
            run(command
                .args(["--get", "--remote-file", name, "--local-file"])
                .arg(to)
                .args([&host, &port]))
            .await;
        }
        "curl" | "curl --tftp-blksize 1400" => {
            let mut command = Command::new(program("curl", "curl"));
            let url = format!("tftp://{host}:{port}/{name}");
            command.args(client.split(' ').skip(1));
            run(command
                .args(["--silent", "--show-error", "--output"])
                .arg(to)
                .arg(url))
            .await;
        }
        unknown => unreachable!("{unknown}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn real_clients_get_every_byte() {
    let (server, _guard) = serve("127.0.0.0/8").await;
    let folder = tempfile::tempdir().unwrap();
    for client in [
        "tftp-hpa",
        "atftp",
        "atftp windowsize 64",
        "atftp blksize 65464",
        "curl",
        "curl --tftp-blksize 1400",
    ] {
        for (name, length) in [("grub/core.0", 153_376), ("even", 51_200), ("empty", 0)] {
            // curl 7.88 takes the end of an empty file for a broken connection (its error 71).
            if client.starts_with("curl") && length == 0 {
                continue;
            }
            let to = folder.path().join("got");
            fetch(client, server, name, &to).await;
            assert!(
                std::fs::read(&to).unwrap() == content(length),
                "{client}: {name} differs"
            );
            std::fs::remove_file(&to).unwrap();
        }
    }
}

/// 35 MB in blocks of 512 bytes are 68,360 blocks: their numbers wrap around.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_more_than_65535_blocks_arrives() {
    let (server, _guard) = serve("127.0.0.0/8").await;
    let folder = tempfile::tempdir().unwrap();
    for client in ["atftp windowsize 64", "tftp-hpa"] {
        let to = folder.path().join("large");
        fetch(client, server, "large", &to).await;
        assert!(std::fs::read(&to).unwrap() == content(35_000_000), "{client}");
    }
}

async fn ask(socket: &UdpSocket, server: SocketAddr, packet: &[u8]) -> Option<(Vec<u8>, SocketAddr)> {
    let mut buffer = vec![0; 2048];
    socket.send_to(packet, server).await.unwrap();
    let received = tokio::time::timeout(Duration::from_millis(500), socket.recv_from(&mut buffer)).await;
    received.ok().map(|received| {
        let (length, from) = received.unwrap();
        (buffer[..length].to_vec(), from)
    })
}

async fn socket() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").await.unwrap()
}

fn error_code(answer: Option<(Vec<u8>, SocketAddr)>) -> Option<u8> {
    answer.map(|(packet, _)| {
        assert_eq!(packet[..2], [0, 5], "{packet:?}");
        packet[3]
    })
}

#[tokio::test]
async fn what_is_not_served_is_refused_with_the_right_number() {
    let (server, _guard) = serve("127.0.0.0/8").await;
    for (packet, code) in [
        (&b"\0\x01nothing\0octet\0"[..], 1),
        (b"\0\x01../../../../etc/passwd\0octet\0", 1),
        (b"\0\x01//even\0octet\0", 1),
        (b"\0\x01grub\0octet\0", 1),
        (b"\0\x02even\0octet\0", 2),
        (b"\0\x01even\0netascii\0", 4),
        (b"\0\x01even\0mail\0", 4),
    ] {
        assert_eq!(
            error_code(ask(&socket().await, server, packet).await),
            Some(code),
            "{packet:?}"
        );
    }
    let (data, _) = ask(&socket().await, server, b"\0\x01/even\0OCTET\0")
        .await
        .unwrap();
    assert_eq!((&data[..4], data.len()), (&[0, 3, 0, 1][..], 516));
    for noise in [
        &b""[..],
        b"\0",
        b"\0\x01",
        b"\0\x01even",
        b"\0\x04\0\0",
        b"\0\x05\0\0x\0",
        b"\0\x07xx",
    ] {
        assert!(ask(&socket().await, server, noise).await.is_none(), "{noise:?}");
    }
}

#[tokio::test]
async fn strangers_from_another_network_are_not_answered() {
    let (server, _guard) = serve("10.10.0.0/24").await;
    assert!(
        ask(&socket().await, server, b"\0\x01even\0octet\0")
            .await
            .is_none()
    );
}

#[tokio::test]
async fn a_repeated_request_starts_no_second_transfer_and_a_probe_frees_its_port() {
    let (server, _guard) = serve("127.0.0.0/8").await;
    let client = socket().await;
    let probe = b"\0\x01even\0octet\0tsize\x000\0";
    let (oack, transfer) = ask(&client, server, probe).await.unwrap();
    assert_eq!(oack, b"\0\x06tsize\x0051200\0");
    assert!(ask(&client, server, probe).await.is_none());
    client.send_to(b"\0\x05\0\x08done\0", transfer).await.unwrap();
    // The answer to the next request from the same port comes at once, from another transfer.
    let (data, other) = ask(&client, server, b"\0\x01even\0octet\0").await.unwrap();
    assert_eq!(data[..4], [0, 3, 0, 1]);
    assert_ne!(transfer, other);
}

#[tokio::test]
async fn one_address_cannot_take_every_transfer() {
    let (server, _guard) = serve("127.0.0.0/8").await;
    let mut held = Vec::new();
    for _ in 0..8 {
        let client = socket().await;
        let (_, lane) = ask(&client, server, b"\0\x01even\0octet\0").await.unwrap();
        // From its first ACK on a transfer makes no room for others.
        assert!(ask(&client, lane, b"\0\x04\0\x01").await.is_some());
        held.push(client);
    }
    assert_eq!(
        error_code(ask(&socket().await, server, b"\0\x01even\0octet\0").await),
        Some(3)
    );
    let elsewhere = UdpSocket::bind("127.0.0.2:0").await.unwrap();
    assert_eq!(
        ask(&elsewhere, server, b"\0\x01even\0octet\0").await.unwrap().0[..4],
        [0, 3, 0, 1]
    );
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let (server, _guard) = serve("127.0.0.0/8").await;
    let settings = TftpSettings {
        address: Ipv4Addr::LOCALHOST.into(),
        port: server.port(),
        clients: vec!["127.0.0.0/8".parse().unwrap()],
        mtu: 1500,
    };
    let error = TftpService::bind(settings).unwrap_err().to_string();
    assert!(error.contains(&server.to_string()), "{error}");
}
