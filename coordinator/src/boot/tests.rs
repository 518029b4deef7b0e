//! The boot files as boot loaders fetch them: bytes on a TCP connection.

use super::*;
use crate::dhcp::Card;
use crate::tftp::TftpNames;
use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use leaseboot_protocol::agent::BootFacts;
use leaseboot_protocol::architecture::Architecture;
use leaseboot_protocol::digest::Sha256;
use leaseboot_protocol::network::MacAddress;
use leaseboot_protocol::secret::Secret;
use leaseboot_protocol::timestamp::Timestamp;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::{CancellationToken, DropGuard};

const AGENT: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
const DISK: MacAddress = MacAddress([2, 0, 0, 0, 0, 2]);
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Knows one server for stage 1 and one for its disk; each archive is given once.
#[derive(Default)]
struct Directory {
    archives: Mutex<BTreeSet<SiteArchiveId>>,
}

#[derive(Debug, thiserror::Error)]
#[error("the database is on fire")]
struct Fire;

impl BootDirectory for Directory {
    fn plan(&self, mac: MacAddress, _from: IpAddr) -> BoxFuture<'_, Result<BootPlan, BootError>> {
        let plan = match mac {
            AGENT => {
                let site = SiteArchiveId::random().unwrap();
                self.archives.lock().unwrap().insert(site.clone());
                Ok(BootPlan::Agent(Box::new(AgentBoot {
                    site,
                    drivers: Drivers::All,
                    console: None,
                    kernel_words: Vec::new(),
                })))
            }
            DISK => Ok(BootPlan::LocalDisk),
            _ => Err(BootError {
                attempted: format!("find the boot plan of {mac}"),
                source: Box::new(Fire),
            }),
        };
        async { plan }.boxed()
    }

    fn site_facts(
        &self,
        id: &SiteArchiveId,
        _from: IpAddr,
    ) -> BoxFuture<'_, Result<Option<BootFacts>, BootError>> {
        let facts = self.archives.lock().unwrap().remove(id).then(|| BootFacts {
            lm_url: "https://10.10.0.1:8443".to_owned(),
            lm_others: Vec::new(),
            lm_ca_pem: "PEM".to_owned(),
            mac: AGENT,
            address: None,
            address6: None,
            own_drivers: false,
            clock: Timestamp(7),
            boot_token: Secret::new("a boot token"),
        });
        async { Ok(facts) }.boxed()
    }

    fn card(&self, _mac: MacAddress) -> BoxFuture<'_, Result<Option<Card>, BootError>> {
        async { Ok(None) }.boxed()
    }
}

fn kernel() -> Bytes {
    (0..100_000u32)
        .map(|index| u8::try_from(index % 251).unwrap())
        .collect()
}

fn kernel_of(architecture: Architecture) -> Bytes {
    match architecture {
        Architecture::X86_64 => kernel(),
        Architecture::Aarch64 => kernel().slice(1..),
    }
}

struct Site {
    service: Arc<BootService>,
    address: SocketAddr,
    _stop: DropGuard,
}

async fn site() -> Site {
    site_for(&[Architecture::X86_64]).await
}

async fn site_for(architectures: &[Architecture]) -> Site {
    let of = |architecture: &Architecture| {
        let names = [
            (KERNEL, kernel_of(*architecture)),
            (STAGE1, Bytes::from_static(b"imag")),
            (loader(*architecture), Bytes::from_static(b"core")),
        ];
        names.map(|(name, content)| (*architecture, name.to_owned(), content))
    };
    let files = BootFiles::from_memory(architectures.iter().flat_map(of)).unwrap();
    let http = BootHttp::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let (address, stop) = (http.local_addr(), CancellationToken::new());
    let service = BootService::new(files, Arc::new(Directory::default()), address, None).unwrap();
    tokio::spawn(http.run(service.clone(), stop.clone()));
    Site {
        service,
        address,
        _stop: stop.drop_guard(),
    }
}

fn loader(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::X86_64 => "grub/core.0",
        Architecture::Aarch64 => "grub/core-arm64.efi",
    }
}

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The value of a header whose name is written exactly so.
    fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

impl Site {
    async fn request(&self, method: &str, path: &str, headers: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("{method} {path} HTTP/1.1\r\nHost: lm\r\nConnection: close\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer {
            status,
            head,
            body: bytes[end + 4..].to_vec(),
        }
    }

    async fn get(&self, path: &str) -> Answer {
        self.request("GET", path, "").await
    }
}

#[tokio::test]
async fn files_are_served_under_their_digest_whole_and_in_part() {
    let site = site().await;
    let path = site.service.files().path(Architecture::X86_64, KERNEL).unwrap();
    assert_eq!(path, format!("/boot/files/{}/vmlinuz", Sha256::of(&kernel())));
    let whole = site.get(&path).await;
    assert!(whole.status == 200 && whole.body == kernel());
    // GRUB 2.06 knows the header in this spelling only.
    assert_eq!(whole.header("Content-Length"), Some("100000"));
    assert_eq!(
        whole.header("Cache-Control"),
        Some("public, max-age=31536000, immutable")
    );
    let etag = whole.header("Etag").unwrap();

    let part = site.request("GET", &path, "Range: bytes=99990-\r\n").await;
    assert!(part.status == 206 && part.body == kernel()[99_990..]);
    assert_eq!(part.header("Content-Range"), Some("bytes 99990-99999/100000"));
    let of_another = site
        .request("GET", &path, "Range: bytes=5-9\r\nIf-Range: \"other\"\r\n")
        .await;
    assert_eq!((of_another.status, of_another.body.len()), (200, 100_000));
    let beyond = site.request("GET", &path, "Range: bytes=100000-\r\n").await;
    assert_eq!(
        (beyond.status, beyond.header("Content-Range")),
        (416, Some("bytes */100000"))
    );
    let known = site
        .request("GET", &path, &format!("If-None-Match: {etag}\r\n"))
        .await;
    assert_eq!((known.status, known.body.len()), (304, 0));
    let head = site.request("HEAD", &path, "").await;
    assert_eq!(
        (head.status, head.header("Content-Length"), head.body.len()),
        (200, Some("100000"), 0)
    );
}

#[tokio::test]
async fn each_architecture_is_sent_its_own_kernel_and_a_stranger_none() {
    let arm = Architecture::Aarch64;
    let path = "/boot/grub/aarch64/02:00:00:00:00:01.cfg";
    let both = site_for(&Architecture::ALL).await;
    let script = both.get(path).await;
    let kernel = both.service.files().path(arm, KERNEL).unwrap();
    assert!(script.text().contains(&kernel), "{}", script.text());
    assert_eq!(both.get(&kernel).await.body, kernel_of(arm));
    let x86 = both.get("/boot/grub/02:00:00:00:00:01.cfg").await;
    assert!(!x86.text().contains(&kernel), "{}", x86.text());
    assert!(both.service.loaders().contains(loader(arm)));

    let without = site().await;
    let script = without.get(path).await;
    assert!(script.text().contains("no boot plan"), "{}", script.text());
    assert!(!script.text().contains("/boot/files/"), "{}", script.text());
    assert!(!without.service.loaders().contains(loader(arm)));
}

#[tokio::test]
async fn first_loaders_are_served_under_their_names_too() {
    let site = site().await;
    let loader = site.get("/grub/core.0").await;
    assert!(loader.status == 200 && loader.body == b"core");
    assert_eq!(loader.header("Cache-Control"), Some("public, no-cache"));
    let etag = loader.header("Etag").unwrap();
    let known = site
        .request("GET", "/grub/core.0", &format!("If-None-Match: {etag}\r\n"))
        .await;
    assert_eq!(known.status, 304);
    // Kernel and image are only found by who knows what they are to be.
    assert_eq!(site.get(&format!("/{KERNEL}")).await.status, 404);
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let site = site().await;
    let digest = Sha256::of(&kernel());
    for path in [
        "/".to_owned(),
        "/boot/files/".to_owned(),
        format!("/boot/files/{digest}/other"),
        format!("/boot/files/{}/vmlinuz", Sha256::of(b"other")),
        "/boot/files/%2e%2e/vmlinuz".to_owned(),
        "/boot/ipxe/52:54:00.ipxe".to_owned(),
        "/boot/ipxe/02:00:00:00:00:01".to_owned(),
        "/boot/grub/02:00:00:00:00:01.ipxe".to_owned(),
        format!("/boot/site/{}.img", "0".repeat(32)),
        "/boot/site/../../etc/passwd".to_owned(),
    ] {
        assert_eq!(site.get(&path).await.status, 404, "{path}");
    }
    assert_eq!(
        site.request(
            "POST",
            "/boot/ipxe/02:00:00:00:00:01.ipxe",
            "Content-Length: 0\r\n"
        )
        .await
        .status,
        405
    );
}

/// The path of the site archive that a script names.
fn archive_path(script: &str) -> String {
    let at = script.find("/boot/site/").unwrap();
    script[at..].split([' ', ';', '\n']).next().unwrap().to_owned()
}

#[tokio::test]
async fn every_script_leads_to_an_archive_of_its_own() {
    let site = site().await;
    let first = archive_path(site.get("/boot/ipxe/02:00:00:00:00:01.ipxe").await.text());
    let second = archive_path(site.get("/boot/grub/02-00-00-00-00-01.cfg").await.text());
    assert_ne!(first, second);
    for path in [&first, &second] {
        let archive = site.get(path).await;
        assert_eq!((archive.status, archive.body.len() % 512), (200, 0));
        assert_eq!(archive.header("Cache-Control"), Some("no-store"));
        let mut reader = std::io::Cursor::new(archive.body);
        let facts = loop {
            let mut entry = cpio::newc::Reader::new(reader).unwrap();
            assert!(!entry.entry().is_trailer(), "the archive has no facts");
            if entry.entry().name() == "leaseboot/boot.json" {
                assert_eq!(entry.entry().mode() & 0o777, 0o600);
                break serde_json::from_reader::<_, BootFacts>(&mut entry).unwrap();
            }
            reader = entry.finish().unwrap();
        };
        assert!(facts.boot_token.matches("a boot token"));
    }
}

#[tokio::test]
async fn an_archive_can_be_fetched_again_by_its_server_and_by_nobody_else() {
    let site = site().await;
    let path = archive_path(site.get("/boot/ipxe/02:00:00:00:00:01.ipxe").await.text());
    let first = site.get(&path).await;
    let again = site.request("GET", &path, "").await;
    assert!(first.body == again.body);
    let id: SiteArchiveId = path[11..43].parse().unwrap();
    let other = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
    assert!(site.service.site_archive(&id, other).await.unwrap().is_none());
    assert!(site.service.site_archive(&id, HERE).await.unwrap().is_some());
}

#[tokio::test]
async fn a_server_is_told_its_disk_or_that_the_lease_manager_is_in_trouble() {
    let site = site().await;
    let disk = site.get("/boot/grub/02:00:00:00:00:02.cfg").await;
    assert!(disk.text().contains("chainloader (hd0)+1"));
    let trouble = site.get("/boot/ipxe/02:00:00:00:00:03.ipxe").await;
    assert_eq!(trouble.status, 200);
    assert!(trouble.text().contains("no boot plan") && !trouble.text().contains("fire"));
}

#[tokio::test]
async fn tftp_has_what_http_has_under_the_same_paths() {
    let site = site().await;
    let open = async |name: &str| TftpNames::open(site.service.as_ref(), name, HERE).await;
    assert_eq!(open("grub/core.0").await.unwrap(), "core");
    let path = site.service.files().path(Architecture::X86_64, KERNEL).unwrap();
    let (first, second) = tokio::join!(open(&path[1..]), open(&path[1..]));
    let (first, second) = (first.unwrap(), second.unwrap());
    assert!(first == kernel() && second == kernel());
    assert_eq!(first.as_ptr(), second.as_ptr(), "one copy for both");
    let script = open("boot/grub/02:00:00:00:00:01.cfg").await.unwrap();
    let script = String::from_utf8_lossy(&script);
    assert!(script.contains("for way in http tftp"), "{script}");
    let archive = archive_path(&script);
    assert_eq!(open(&archive[1..]).await.unwrap(), site.get(&archive).await.body);
    let ipxe = open("boot/ipxe/02:00:00:00:00:01.ipxe").await.unwrap();
    assert!(ipxe.starts_with(b"#!ipxe\n"));
    for name in [
        KERNEL,
        STAGE1,
        "core.0",
        "grub",
        "manifest.json",
        "boot/grub/x.cfg",
        &format!("boot/files/{}/vmlinuz", Sha256::of(b"other")),
        &format!("boot/site/{}.img", "0".repeat(32)),
    ] {
        assert!(open(name).await.is_none(), "{name}");
    }
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let site = site().await;
    let error = BootHttp::bind(site.address).await.unwrap_err().to_string();
    assert!(error.contains(&site.address.to_string()), "{error}");
}

/// Everything that comes after these bytes have been sent.
async fn after(site: &Site, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(site.address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(
        std::time::Duration::from_secs(10),
        stream.read_to_end(&mut answer),
    );
    // A connection that was closed with unread bytes is reset.
    let _ = read.await.expect("the connection stays open");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn what_is_no_request_is_refused_and_closed() {
    let site = site().await;
    assert!(
        after(&site, b"\x16\x03\x01\x02\0\x01\0\xfc")
            .await
            .starts_with("HTTP/1.1 400 ")
    );
    let long = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(9000));
    let answer = after(&site, long.as_bytes()).await;
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 431 "),
        "{answer}"
    );
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(100));
    assert!(after(&site, many.as_bytes()).await.starts_with("HTTP/1.1 400 "));
}

#[tokio::test]
async fn requests_in_a_row_are_answered_in_their_order() {
    let site = site().await;
    let path = site.service.files().path(Architecture::X86_64, KERNEL).unwrap();
    let ask =
        |range, close| format!("GET {path} HTTP/1.1\r\nHost: lm\r\nRange: bytes={range}\r\n{close}\r\n");
    let both = ask("0-9", "") + &ask("10-19", "Connection: close\r\n");
    let answer = after(&site, both.as_bytes()).await;
    assert!(
        answer.contains("bytes 0-9/100000") && answer.contains("bytes 10-19/100000"),
        "{answer}"
    );
    assert!(answer.as_bytes().ends_with(&kernel()[10..20]));
}

#[tokio::test]
async fn beyond_an_addresss_share_a_silent_connection_makes_room() {
    let site = site().await;
    let mut open = Vec::new();
    for _ in 0..64 {
        open.push(TcpStream::connect(site.address).await.unwrap());
    }
    // The last one has been taken when it is answered.
    let mut last = open.pop().unwrap();
    last.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    assert!(last.read_u8().await.is_ok());
    let mut one_more = TcpStream::connect(site.address).await.unwrap();
    one_more.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    assert!(one_more.read_u8().await.is_ok());
    assert!(open[0].read_u8().await.is_err(), "the first is closed");
    last.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    assert!(last.read_u8().await.is_ok());
}
