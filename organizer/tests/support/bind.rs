//! BIND as an enterprise has it: one zone forward, one backward, both open for updates with a key. It runs on a port of the loopback
//! interface, from a folder of its own.

use super::debian::unpacked;
use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RData, RecordType};
use leaseboot_po::config::DnsConfig;
use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// In base64; what `tsig-keygen` would print.
pub const SECRET: &str = "bm90LWEtc2VjcmV0LWJ1dC1sb25nLWVub3VnaC0wMDA=";
pub const ZONE: &str = "borrowed.example";
/// With what it needs beside the system's C library and OpenSSL.
const PACKAGES: [&str; 12] = [
    "bind9",
    "bind9-libs",
    "libuv1",
    "libfstrm0",
    "libjemalloc2",
    "liblmdb0",
    "libmaxminddb0",
    "libprotobuf-c1",
    "libnghttp2-14",
    "libjson-c5",
    "libxml2",
    "libcap2",
];

/// The server. Dropping it kills it.
pub struct Bind {
    folder: tempfile::TempDir,
    address: SocketAddr,
    child: Child,
}

impl Bind {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Free for TCP, so in all likelihood for UDP too: named says when it is not.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let zone = "$TTL 60\n@ SOA ns hostmaster 1 60 60 60 60\n@ NS ns\nns A 192.0.2.53\nshop A 192.0.2.1\n";
        fs::write(folder.path().join("forward.db"), zone).unwrap();
        fs::write(
            folder.path().join("backward.db"),
            zone.replace("ns A 192.0.2.53\nshop A 192.0.2.1\n", "")
                .replace("SOA ns", "SOA ns.borrowed.example.")
                .replace("NS ns", "NS ns.borrowed.example."),
        )
        .unwrap();
        fs::write(
            folder.path().join("named.conf"),
            config(folder.path(), address.port()),
        )
        .unwrap();
        let child = serve(folder.path());
        Self {
            folder,
            address,
            child,
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Serves again after [`Bind::kill`], from its journal.
    pub fn start_again(&mut self) {
        self.child = serve(self.folder.path());
    }

    /// How a PO is told of it; the key is written into `folder`.
    pub fn config(&self, folder: &Path) -> DnsConfig {
        let key = folder.join("dns.key");
        fs::write(&key, SECRET).unwrap();
        fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
        DnsConfig {
            server: self.address,
            zone: format!("{ZONE}."),
            reverse: Some("0.0.127.in-addr.arpa.".to_owned()),
            key_name: "leaseboot.".to_owned(),
            key,
            ttl_s: 5,
        }
    }

    /// The same for `po.toml`.
    pub fn toml(&self, folder: &Path) -> String {
        let config = self.config(folder);
        format!(
            "[announce.dns]\nserver = \"{}\"\nzone = \"{ZONE}\"\nreverse = \"0.0.127.in-addr.arpa\"\nttl_s = 5\n",
            config.server
        )
    }

    /// What a name stands for, sorted.
    pub fn look_up(&self, name: &str, kind: RecordType) -> Vec<String> {
        let mut message = Message::query();
        let mut query = Query::new();
        query
            .set_name(Name::from_ascii(name).unwrap())
            .set_query_type(kind);
        message.add_query(query);
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket.connect(self.address).unwrap();
        socket.send(&message.to_vec().unwrap()).unwrap();
        let mut answer = [0; 4096];
        let length = socket.recv(&mut answer).unwrap();
        let answer = Message::from_vec(&answer[..length]).unwrap();
        let text = |data: &RData| match data {
            RData::A(address) => address.0.to_string(),
            RData::PTR(name) => name.0.to_string(),
            other => panic!("{other:?} was not asked for"),
        };
        let mut found: Vec<_> = answer.answers.iter().map(|record| text(&record.data)).collect();
        found.sort();
        found
    }

    /// Waits until a name stands for just this.
    pub async fn becomes(&self, name: &str, kind: RecordType, expected: &[&str]) {
        let end = Instant::now() + super::PATIENCE;
        loop {
            let found = self.look_up(name, kind);
            if found == expected {
                return;
            }
            assert!(
                Instant::now() < end,
                "{name} {kind} is {found:?} and not {expected:?}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Bind {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn config(folder: &Path, port: u16) -> String {
    let folder = folder.display();
    let zone = |name: &str, file: &str, kinds: &str| {
        format!(
            "zone \"{name}\" {{ type primary; file \"{file}\"; update-policy {{ grant leaseboot zonesub {kinds}; }}; }};\n"
        )
    };
    format!(
        "options {{ directory \"{folder}\"; pid-file \"{folder}/named.pid\"; session-keyfile \"{folder}/session.key\";\n\
         listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; recursion no; dnssec-validation no; notify no; }};\n\
         controls {{ }};\n\
         key leaseboot {{ algorithm hmac-sha256; secret \"{SECRET}\"; }};\n{}{}",
        zone(ZONE, "forward.db", "A AAAA"),
        zone("0.0.127.in-addr.arpa", "backward.db", "PTR"),
    )
}

fn serve(folder: &Path) -> Child {
    let files = unpacked("bind9", &PACKAGES);
    let libraries = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    let mut child = Command::new(files.join("usr/sbin/named"))
        .args(["-g", "-n", "1", "-c"])
        .arg(folder.join("named.conf"))
        .env("LD_LIBRARY_PATH", files.join(libraries.trim_start_matches('/')))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut heard = Vec::new();
    let runs = said.by_ref().map_while(Result::ok).any(|line| {
        let runs = line.ends_with(" running");
        heard.push(line);
        runs
    });
    assert!(runs, "named does not run: {heard:#?}");
    // It must not stop for a pipe that nobody empties.
    std::thread::spawn(move || said.for_each(drop));
    child
}
