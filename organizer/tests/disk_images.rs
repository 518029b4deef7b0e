//! `leaseboot-po image add --disk`: what is taken in, what is refused, and what a profile makes of it.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use leaseboot_po::config::{Image, Profile};
use leaseboot_protocol::digest::Sha256;
use leaseboot_protocol::disk_image::{CHUNK, ChunkList};
use leaseboot_protocol::installer::Installer;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const SIZE: u64 = 8 << 20;

/// A folder with `po.toml`, and an image that sgdisk has partitioned, as it is and behind zstd.
struct Site(tempfile::TempDir);

impl Site {
    fn new() -> Self {
        let site = Self(tempfile::tempdir().unwrap());
        fs::write(site.path("po.toml"), support::PO_TOML).unwrap();
        let packed = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/disks/sgdisk-8mib.raw.zst");
        fs::copy(&packed, site.path("disk.zst")).unwrap();
        let raw = zstd::decode_all(fs::File::open(&packed).unwrap()).unwrap();
        assert_eq!(raw.len() as u64, SIZE);
        fs::write(site.path("disk.raw"), raw).unwrap();
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

    fn profile(&self, text: &str) {
        let folder = self.path("profiles/web");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("profile.toml"), text).unwrap();
    }
}

fn out(output: &Output) -> String {
    assert!(output.status.success(), "{}", err(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn raw_or_behind_zstd_every_piece_is_pinned() {
    let site = Site::new();
    for (name, file) in [("raw", "disk.raw"), ("packed", "disk.zst")] {
        let told = out(&site.po(&["add", name, "--disk", file, "--architecture", "x86_64"]));
        assert!(
            told.contains("disk: 8 MiB") && told.contains("2 partitions"),
            "{told}"
        );
        let image = Image::load(&site.path("images").join(name)).unwrap();
        assert_eq!(image.architecture.as_deref(), Some("x86_64"));
        let measured = image.measure().unwrap();
        let disk = measured.disk().unwrap();
        assert_eq!(disk.size, SIZE);
        let stream = fs::read(site.path(&format!("images/{name}/disk.raw.zst"))).unwrap();
        assert_eq!(
            (disk.stream.size, disk.stream.sha256),
            (stream.len() as u64, Sha256::of(&stream))
        );
        let list = fs::read(site.path(&format!("images/{name}/disk.chunks"))).unwrap();
        let list = ChunkList::read(&list, stream.len() as u64).unwrap();
        assert!(
            stream
                .chunks(CHUNK)
                .enumerate()
                .all(|(number, chunk)| list.agrees(number, chunk))
        );
        assert_eq!(
            zstd::decode_all(&stream[..]).unwrap(),
            fs::read(site.path("disk.raw")).unwrap()
        );
    }
    let listed = out(&site.po(&["list"]));
    assert!(
        listed.starts_with("packed: disk image; 8 MiB, 0 MiB through the tunnel; 2 partitions; not signed\n"),
        "{listed}"
    );
    assert_eq!(
        out(&site.po(&["verify", "raw"])),
        "raw: as it was added; not signed\n"
    );
    fs::write(site.path("images/raw/disk.raw.zst"), "another").unwrap();
    assert!(err(&site.po(&["verify", "raw"])).contains("disk.raw.zst is not what was added"));
    assert!(Image::load(&site.path("images/raw")).unwrap().measure().is_err());
}

#[test]
fn other_formats_and_disks_without_a_sound_table_are_refused_and_leave_nothing() {
    let site = Site::new();
    let raw = fs::read(site.path("disk.raw")).unwrap();
    let mut damaged = raw.clone();
    damaged[600] ^= 1;
    let qcow2 = [b"QFI\xfb", &raw[..]].concat();
    let mut cut = fs::read(site.path("disk.zst")).unwrap();
    cut.truncate(cut.len() / 2);
    for (content, words) in [
        (&qcow2[..], "qcow2"),
        (&damaged, "partition table is not sound"),
        (&raw[..raw.len() / 2], "partition table is not sound"),
        (&vec![0; SIZE as usize], "no GUID partition table"),
        (&raw[..SIZE as usize - 1], "no GUID partition table"),
        (b"", "no GUID partition table"),
        (&cut, "cannot be decompressed"),
    ] {
        fs::write(site.path("wrong"), content).unwrap();
        let refused = site.po(&["add", "wrong", "--disk", "wrong"]);
        assert_eq!(refused.status.code(), Some(1));
        assert!(err(&refused).contains(words), "{words}: {}", err(&refused));
        assert!(!site.path("images/wrong").exists() && !site.path("images/.wrong.new").exists());
    }
}

#[test]
fn a_signature_covers_what_is_kept() {
    let site = Site::new();
    let openssl = |arguments: &[&str]| {
        let done = Command::new("openssl")
            .current_dir(site.0.path())
            .args(arguments)
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", err(&done));
    };
    openssl(&["genpkey", "-algorithm", "ed25519", "-out", "key"]);
    openssl(&["pkey", "-in", "key", "-pubout", "-out", "maker.pub"]);
    openssl(&[
        "pkeyutl", "-sign", "-rawin", "-inkey", "key", "-in", "disk.zst", "-out", "disk.sig",
    ]);
    let signed = ["--disk-signature", "disk.sig", "--public-key", "maker.pub"];
    let add = |name: &str, file: &str| site.po(&[&["add", name, "--disk", file], &signed[..]].concat());
    assert!(out(&add("signed", "disk.zst")).contains("signed (ed25519)"));
    assert_eq!(
        out(&site.po(&["verify"])),
        "signed: as it was added; signature good (ed25519)\n"
    );
    assert!(err(&add("raw", "disk.raw")).contains("compress the raw image"));
    let other = zstd::encode_all(fs::File::open(site.path("disk.raw")).unwrap(), 1).unwrap();
    fs::write(site.path("other.zst"), other).unwrap();
    assert!(err(&add("other", "other.zst")).contains("not what the owner of the key signed"));
}

#[test]
fn a_profile_needs_neither_installer_nor_text_and_may_have_user_data() {
    let site = Site::new();
    out(&site.po(&["add", "disk", "--disk", "disk.zst"]));
    site.profile("image = \"disk\"\nhostname = \"web-{n}\"\n");
    let profile = Profile::load(site.0.path(), "web").unwrap();
    assert_eq!(
        (profile.installer, profile.kickstart.as_str()),
        (Installer::DiskImage {}, "")
    );
    site.profile("image = \"disk\"\nhostname = \"web-{n}\"\nuser_data = \"user-data\"\n");
    fs::write(
        site.path("profiles/web/user-data"),
        "#cloud-config\npackages: [nginx]\n",
    )
    .unwrap();
    assert!(
        Profile::load(site.0.path(), "web")
            .unwrap()
            .kickstart
            .contains("nginx")
    );
    fs::write(
        site.path("profiles/web/user-data"),
        "#cloud-config\npackages: [nginx\n",
    )
    .unwrap();
    assert!(Profile::load(site.0.path(), "web").is_err());
    site.profile("image = \"disk\"\nhostname = \"web-{n}\"\ninstaller = { kind = \"kickstart\" }\n");
    let refused = Profile::load(site.0.path(), "web").unwrap_err();
    assert!(refused.to_string().contains("do not go together"), "{refused}");
}
