//! Debian's own apt through the cache: it takes what it gets there for what the upstream has, and gets it when the upstream is gone.

use super::{OneServer, PATIENCE, Site, order, transferring};
use leaseboot_protocol::digest::Sha256;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::{Arc, Mutex};
use tokio::process::Command;

const NAME: &str = "leaseboot-hello";
/// Where the package lies at the upstream.
const POOL: &str = "pool/main/l/leaseboot-hello/leaseboot-hello_1.0-1_all.deb";
const RELEASE: &str = "dists/stable/Release";
const INDEX: &str = "main/binary-amd64/Packages";

/// A package that holds one file, and what an index says of it.
async fn package(folder: &Path) -> (Vec<u8>, String) {
    let control = format!(
        "Package: {NAME}\nVersion: 1.0-1\nArchitecture: all\nMaintainer: nobody <nobody@localhost>\nDescription: says hello\n"
    );
    let tree = folder.join("tree");
    std::fs::create_dir_all(tree.join("DEBIAN")).unwrap();
    std::fs::write(tree.join("DEBIAN/control"), &control).unwrap();
    std::fs::write(tree.join("hello"), "hello\n".repeat(10_000)).unwrap();
    let deb = folder.join("hello.deb");
    let mut build = Command::new("dpkg-deb");
    build.args(["--root-owner-group", "--build"]).args([&tree, &deb]);
    succeeded(&build.output().await.unwrap());
    let bytes = std::fs::read(deb).unwrap();
    let record = format!(
        "{control}Filename: {POOL}\nSize: {}\nSHA256: {}\n\n",
        bytes.len(),
        Sha256::of(&bytes)
    );
    (bytes, record)
}

/// The archive's three files: release, index (also by its digest), package.
async fn archive(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let (deb, record) = package(folder).await;
    let digest = Sha256::of(record.as_bytes());
    let release = format!(
        "Suite: stable\nCodename: stable\nComponents: main\nArchitectures: amd64 all\nAcquire-By-Hash: yes\n\
         Date: Thu, 26 Nov 2026 10:00:00 UTC\nSHA256:\n {digest} {} {INDEX}\n",
        record.len()
    );
    vec![
        (RELEASE.to_owned(), release.into()),
        (
            format!("dists/stable/main/binary-amd64/by-hash/SHA256/{digest}"),
            record.into(),
        ),
        (POOL.to_owned(), deb),
    ]
}

fn succeeded(output: &Output) {
    let said = [&output.stdout[..], &output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
}

/// A server's apt, with files of its own.
struct Apt(PathBuf);

impl Apt {
    /// `url` is the cache's, as a line of sources.list has it.
    fn new(folder: &Path, url: &str) -> Self {
        for part in ["lists/partial", "cache/archives/partial", "here"] {
            std::fs::create_dir_all(folder.join(part)).unwrap();
        }
        std::fs::write(folder.join("status"), "").unwrap();
        std::fs::write(
            folder.join("sources.list"),
            format!("deb [trusted=yes arch=amd64] {url} stable main\n"),
        )
        .unwrap();
        let place = folder.display();
        let configuration = format!(
            "Dir::State::status \"{place}/status\";\nDir::State::lists \"{place}/lists\";\nDir::Cache \"{place}/cache\";\n\
             Dir::Etc::sourcelist \"{place}/sources.list\";\nDir::Etc::sourceparts \"{place}/none\";\nDir::Etc::parts \"{place}/none\";\n\
             APT::Architecture \"amd64\";\nAPT::Sandbox::User \"root\";\nAcquire::Languages \"none\";\nAcquire::http::Proxy \"DIRECT\";\n\
             Acquire::Retries \"0\";\n"
        );
        std::fs::write(folder.join("apt.conf"), configuration).unwrap();
        Self(folder.to_owned())
    }

    async fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("apt-get");
        command
            .arg("--quiet")
            .args(arguments)
            .env("APT_CONFIG", self.0.join("apt.conf"))
            .current_dir(self.0.join("here"))
            .kill_on_drop(true);
        let ended = tokio::time::timeout(PATIENCE, command.output()).await;
        ended.expect("apt ends").expect("apt-get is Debian's")
    }

    fn downloaded(&self) -> Vec<u8> {
        let files = std::fs::read_dir(self.0.join("here")).unwrap();
        let [deb] = &files.map(|file| file.unwrap().path()).collect::<Vec<_>>()[..] else {
            panic!("apt has not downloaded one file");
        };
        std::fs::read(deb).unwrap()
    }
}

#[tokio::test]
async fn apt_is_served_and_a_second_one_without_the_upstream() {
    let folder = tempfile::tempdir().unwrap();
    let archive = archive(folder.path()).await;
    let mut site = Site::new(&[]).await;
    for (path, body) in &archive {
        site.put(path, body);
    }
    // apt binds to no address, so it comes from the first one of this host.
    let mut order = order();
    order.settings.tunnel.address = "127.0.0.1/24".parse().unwrap();
    site.identities = Arc::new(OneServer {
        order: Arc::new(order),
        state: Mutex::new(transferring("installing")),
    });
    let cache = site.open(64 << 20);
    let url = format!("{}/debian", cache.url);

    let first = Apt::new(&folder.path().join("first"), &url);
    succeeded(&first.run(&["update"]).await);
    succeeded(&first.run(&["download", NAME]).await);
    assert!(
        first.downloaded() == archive[2].1,
        "the package is the upstream's"
    );
    let fetched = |path: &str, asked: &[String]| {
        let line = format!("200 /debian/{path}");
        asked.iter().filter(|asked| **asked == line).count()
    };
    let asked = site.asked();
    for (path, _) in &archive {
        assert_eq!(fetched(path, &asked), 1, "{path} of {asked:?}");
    }

    let second = Apt::new(&folder.path().join("second"), &url);
    succeeded(&second.run(&["update"]).await);
    let asked = site.asked();
    let bodies = asked.iter().filter(|asked| asked.starts_with("200")).count();
    assert_eq!(bodies, 0, "what did not change is not fetched again: {asked:?}");
    assert!(
        asked.contains(&format!("304 /debian/{RELEASE}")),
        "but asked about: {asked:?}"
    );
    site.packages.bodies.lock().unwrap().clear();
    succeeded(&second.run(&["download", NAME]).await);
    assert!(second.downloaded() == archive[2].1, "the upstream has it no more");
    assert_eq!(site.asked(), [""; 0], "and was not asked");

    // An old list for a new one would be worse than none.
    assert!(!second.run(&["update"]).await.status.success());
}
