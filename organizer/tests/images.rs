//! `leaseboot-po image`: what is added, what is refused, and what is left behind.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use leaseboot_protocol::archive::Archive;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use support::Enterprise;

const RELEASE: &str = "6.1.0-37-amd64";

/// A folder with `po.toml`, and a kernel and an initrd that somebody downloaded.
struct Site(tempfile::TempDir);

fn corpus(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/fuzz/corpus")
        .join(name)
}

fn modules_archive(files: &[(&str, &str)]) -> Vec<u8> {
    let mut archive = Archive::new();
    for (name, content) in files {
        let path = format!("/lib/modules/{RELEASE}/{name}");
        archive.file(&path, 0o644, content.as_bytes().to_vec()).unwrap();
    }
    archive.to_bytes()
}

impl Site {
    fn new() -> Self {
        let site = Self(tempfile::tempdir().unwrap());
        fs::write(site.path("po.toml"), support::PO_TOML).unwrap();
        fs::copy(corpus("kernel/bzimage"), site.path("linux")).unwrap();
        fs::copy(corpus("initrd/microcode-and-gzip"), site.path("initrd.gz")).unwrap();
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn po(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_leaseboot-po"));
        command.current_dir(self.0.path()).arg("image").args(arguments);
        command.args(["--config", "po.toml"]).output().unwrap()
    }

    fn add(&self, more: &[&str]) -> Output {
        let all = [
            "add",
            "debian",
            "--kernel",
            "linux",
            "--initrd",
            "initrd.gz",
            "--command-line",
            "quiet",
        ];
        self.po(&[&all[..], more].concat())
    }

    /// Everything below `images/`, hidden folders too.
    fn left(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path("images")).into_iter().flatten();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.retain(|name| name != ".lock");
        names.sort();
        names
    }
}

fn out(output: &Output) -> String {
    assert!(output.status.success(), "{}", err(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    err(output)
}

#[test]
fn what_was_found_is_told_and_listed() {
    let site = Site::new();
    let told = out(&site.add(&[]));
    for words in [
        "kernel: bzImage, x86_64, Linux 6.1.0-37-amd64, boot protocol 2.15, EFI stub\n",
        "initrd: not compressed (early microcode) + gzip; busybox;",
        "data plane kernel will be used (the image could use: kernel, tun, proxy)",
    ] {
        assert!(told.contains(words), "{told}");
    }
    let listed = out(&site.po(&["list"]));
    assert_eq!(
        listed,
        "debian: busybox; Linux 6.1.0-37-amd64; data plane kernel; 768 MiB of memory; not signed\n"
    );
    let json: serde_json::Value = serde_json::from_str(&out(&site.po(&["list", "--json"]))).unwrap();
    assert_eq!(
        json[0]["record"]["found_initrd"]["modules"][RELEASE]["tun"],
        "module"
    );
    let image = leaseboot_po::config::Image::load(&site.path("images/debian")).unwrap();
    assert_eq!(
        (image.command_line().unwrap(), image.architecture.as_deref()),
        ("quiet", Some("x86_64"))
    );
    image.measure().unwrap();
    assert!(refused(&site.add(&[])).contains("already"));
}

#[test]
fn an_image_that_changed_is_found_and_not_lent_a_server_for() {
    let site = Site::new();
    out(&site.add(&[]));
    assert_eq!(
        out(&site.po(&["verify"])),
        "debian: as it was added; not signed\n"
    );
    fs::write(site.path("images/debian/initrd.img"), "another").unwrap();
    assert!(refused(&site.po(&["verify", "debian"])).contains("initrd.img is not what was added"));
    let image = leaseboot_po::config::Image::load(&site.path("images/debian")).unwrap();
    assert!(
        image
            .measure()
            .unwrap_err()
            .to_string()
            .contains("is not what was added")
    );
}

#[test]
fn what_is_refused_leaves_nothing() {
    let site = Site::new();
    let bare = Archive::new().to_bytes();
    for (name, content) in [
        ("bare.img", bare.as_slice()),
        ("squashfs", b"hsqs"),
        ("script", b"#!/bin/sh"),
    ] {
        fs::write(site.path(name), content).unwrap();
    }
    let dev = "/dev/zero";
    for (option, file, word) in [
        ("--initrd", "bare.img", "(--anyway adds it)"),
        ("--initrd", "squashfs", "neither a cpio archive"),
        ("--kernel", "script", "it is no kernel"),
        ("--kernel", dev, "no ordinary file"),
        ("--modules", dev, "no ordinary file"),
        ("--initrd", "absent", "cannot open absent"),
    ] {
        let mut arguments = vec!["add", "x", "--command-line", "quiet", option, file];
        for (other, file) in [("--kernel", "linux"), ("--initrd", "initrd.gz")] {
            if other != option {
                arguments.extend([other, file]);
            }
        }
        let told = refused(&site.po(&arguments));
        assert!(told.contains(word), "{option} {file}: {told}");
        assert_eq!(site.left(), [""; 0]);
    }
    let told = out(&site.po(&[
        "add",
        "x",
        "--anyway",
        "--command-line",
        "",
        "--kernel",
        "linux",
        "--initrd",
        "bare.img",
    ]));
    assert!(told.contains("not supported: the initrd has no /init"), "{told}");
}

#[test]
fn further_modules_go_behind_the_initrd_and_the_signature_covers_what_is_before() {
    let site = Site::new();
    // No lists and no tun: not usable by itself.
    let mut archive = Archive::new();
    archive.file("/init", 0o755, *b"#!/bin/sh").unwrap();
    fs::write(site.path("initrd.gz"), archive.to_bytes()).unwrap();
    assert!(refused(&site.add(&[])).contains("--modules ARCHIVE"));
    let modules = modules_archive(&[
        ("tun.ko", "elf"),
        ("modules.dep", "tun.ko:\n"),
        ("modules.alias", ""),
    ]);
    fs::write(site.path("modules.img"), &modules).unwrap();
    let key = |arguments: &[&str]| {
        let done = Command::new("openssl")
            .current_dir(site.0.path())
            .args(arguments)
            .output()
            .unwrap();
        assert!(done.status.success(), "{done:?}");
    };
    key(&["genpkey", "-algorithm", "ed25519", "-out", "key.pem"]);
    key(&["pkey", "-in", "key.pem", "-pubout", "-out", "maker.pub"]);
    for (file, signature) in [("linux", "linux.sig"), ("initrd.gz", "initrd.sig")] {
        key(&[
            "pkeyutl", "-sign", "-inkey", "key.pem", "-rawin", "-in", file, "-out", signature,
        ]);
    }
    let signed = [
        "--modules",
        "modules.img",
        "--kernel-signature",
        "linux.sig",
        "--public-key",
        "maker.pub",
        "--initrd-signature",
    ];
    let crossed = refused(&site.add(&[&signed[..], &["linux.sig"]].concat()));
    assert!(
        crossed.contains("not what the owner of the key signed"),
        "{crossed}"
    );
    assert_eq!(site.left(), [""; 0]);
    let told = out(&site.add(&[&signed[..], &["initrd.sig"]].concat()));
    assert!(
        told.contains("signature: good (ed25519)") && told.contains("data plane tun"),
        "{told}"
    );
    let whole = fs::read(site.path("images/debian/initrd.img")).unwrap();
    assert!(whole.ends_with(&modules) && (whole.len() - modules.len()).is_multiple_of(4));
    assert_eq!(
        out(&site.po(&["verify"])),
        "debian: as it was added; signature good (ed25519)\n"
    );
    key(&["genpkey", "-algorithm", "ed25519", "-out", "other.pem"]);
    key(&["pkey", "-in", "other.pem", "-pubout", "-out", "other.pub"]);
    assert!(refused(&site.po(&["verify", "--public-key", "other.pub"])).contains("the owner of the key"));
}

#[test]
fn what_a_killed_program_left_is_swept() {
    let site = Site::new();
    fs::create_dir_all(site.path("images/.debian.new/x")).unwrap();
    fs::create_dir_all(site.path("images/.other.old")).unwrap();
    out(&site.add(&[]));
    assert_eq!(site.left(), ["debian"]);
    assert!(refused(&site.po(&["remove", "../images"])).contains("there are: debian"));
    out(&site.po(&["remove", "debian"]));
    assert_eq!(site.left(), [""; 0]);
}

#[tokio::test]
async fn an_image_is_not_removed_while_a_borrowing_needs_it() {
    let enterprise = Enterprise::new().await;
    let folder = enterprise.folder.path();
    fs::write(folder.join("po.toml"), support::PO_TOML).unwrap();
    let remove = async || {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_leaseboot-po"));
        command
            .current_dir(folder)
            .args(["image", "remove", "--config", "po.toml", "debian"]);
        command.output().await.unwrap()
    };
    let po = enterprise.serve().await;
    let socket = leaseboot_console::socket::bind(folder.join("po.sock"))
        .await
        .unwrap();
    let stop = tokio_util::sync::CancellationToken::new();
    let served =
        leaseboot_po::control::server::run(socket, std::sync::Arc::clone(&po.organizer), stop.clone());
    let served = tokio::spawn(served);
    let view = po.organizer.borrow_server("web", None).await.unwrap();
    assert_eq!(view.image.as_deref(), Some("debian"));
    let told = refused(&remove().await);
    assert!(told.contains("used by web-1"), "by the daemon: {told}");
    stop.cancel();
    served.await.unwrap().unwrap();
    let told = refused(&remove().await);
    assert!(told.contains("used by web-1"), "by the store: {told}");
    assert!(folder.join("images/debian").is_dir());
}
