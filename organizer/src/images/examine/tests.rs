//! Initrds as distributions make them: the archives of the protocol's own writer, packed by the programs that distributions use, joined as the kernel allows.

use super::archive::{ArchiveError, Budget};
use super::compression::Compression;
use super::initrd::{Driver, Initrd, InitrdError, InstallerKind, read};
use leaseboot_protocol::archive::Archive;
use std::io::{Read, Write};
use std::process::{Command, Stdio};

const RELEASE: &str = "6.1.0-37-amd64";

fn cpio(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = Archive::new();
    for (path, content) in files {
        archive.file(path, 0o644, content.to_vec()).unwrap();
    }
    archive.to_bytes()
}

fn module(path: &str) -> String {
    format!("/usr/lib/modules/{RELEASE}/{path}")
}

fn debian() -> Vec<u8> {
    let [tun, wireguard] = [
        "kernel/drivers/net/tun.ko",
        "kernel/drivers/net/wireguard/wireguard.ko",
    ]
    .map(module);
    let [dep, alias, builtin] = ["modules.dep", "modules.alias", "modules.builtin"].map(module);
    cpio(&[
        ("/init", b"#!/bin/sh"),
        ("/bin/busybox", b"x"),
        ("/lib/debian-installer-startup.d/S01x", b"x"),
        (&tun, b"elf"),
        (&wireguard, b"elf"),
        (
            &dep,
            b"kernel/drivers/net/tun.ko:\nkernel/drivers/net/wireguard/wireguard.ko: kernel/x.ko\n",
        ),
        (&alias, b""),
        (&builtin, b"kernel/fs/ext4/ext4.ko\n"),
    ])
}

fn microcode() -> Vec<u8> {
    cpio(&[("/kernel/x86/microcode/GenuineIntel.bin", &[1; 999])])
}

/// `bytes` through one of the host's programs.
fn packed(program: &[&str], bytes: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program[0])
        .args(&program[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let bytes = bytes.to_vec();
    let writer = std::thread::spawn(move || input.write_all(&bytes));
    let mut out = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut out).unwrap();
    writer.join().unwrap().unwrap();
    assert!(child.wait().unwrap().success());
    out
}

fn found(bytes: &[u8]) -> Initrd {
    read(bytes, "/init", Budget::default()).unwrap()
}

fn refused(bytes: &[u8]) -> InitrdError {
    read(bytes, "/init", Budget::default()).unwrap_err()
}

#[test]
fn every_compression_of_distributions_is_read_to_its_end_and_no_further() {
    for (program, compression) in [
        (&["gzip", "-n"][..], Compression::Gzip),
        (&["xz", "--check=crc32"], Compression::Xz),
        (&["zstd", "-q", "-19"], Compression::Zstd),
    ] {
        let mut joined = microcode();
        joined.extend(packed(program, &debian()));
        joined.resize(joined.len().next_multiple_of(512), 0);
        joined.extend(cpio(&[("/leaseboot/init", b"x")]));
        let initrd = found(&joined);
        let parts: Vec<_> = initrd
            .parts
            .iter()
            .map(|part| (part.compression, part.microcode))
            .collect();
        assert_eq!(
            parts,
            [
                (Compression::None, true),
                (compression, false),
                (Compression::None, false)
            ]
        );
        assert_eq!(initrd.kind, InstallerKind::DebianInstaller);
        assert!(initrd.has_init);
        let modules = &initrd.modules[RELEASE];
        assert!(modules.lists && modules.files == 2, "{modules:?}");
        assert_eq!((modules.tun, modules.wireguard), (Driver::Module, Driver::Module));
    }
}

#[test]
fn the_kernels_lz4_is_read() {
    let plain = debian();
    // A block of literals only: its token, the rest of its length in bytes of 255, and the bytes (lz4's block format).
    let mut block = vec![0xf0];
    let rest = plain.len() - 15;
    block.extend(vec![255; rest / 255]);
    block.push(u8::try_from(rest % 255).unwrap());
    block.extend(&plain);
    let mut joined = 0x184c_2102_u32.to_le_bytes().to_vec();
    joined.extend(u32::try_from(block.len()).unwrap().to_le_bytes());
    joined.extend(&block);
    joined.resize(joined.len().next_multiple_of(4) + 8, 0);
    joined.extend(microcode());
    let initrd = found(&joined);
    assert_eq!(
        (initrd.parts.len(), initrd.parts[0].compression),
        (2, Compression::Lz4)
    );
    assert_eq!(initrd.modules[RELEASE].tun, Driver::Module);
}

#[test]
fn a_module_counts_only_when_it_is_listed_and_a_built_in_one_always() {
    let [tun, dep, alias, builtin] =
        ["x/tun.ko.xz", "modules.dep", "modules.alias", "modules.builtin"].map(module);
    let unlisted = cpio(&[(&tun, b"x"), (&dep, b""), (&alias, b"")]);
    assert_eq!(found(&unlisted).modules[RELEASE].tun, Driver::Absent);
    let mut joined = unlisted.clone();
    joined.extend(cpio(&[(&dep, b"x/tun.ko.xz:\n")]));
    assert_eq!(found(&joined).modules[RELEASE].tun, Driver::CompressedModule);
    let mut joined = unlisted;
    joined.extend(cpio(&[(&builtin, b"kernel/drivers/net/tun.ko\n")]));
    assert_eq!(found(&joined).modules[RELEASE].tun, Driver::BuiltIn);
}

#[test]
fn every_maker_is_known_by_its_files() {
    for (file, kind) in [
        ("/usr/sbin/parse-kickstart", InstallerKind::Anaconda),
        ("/scripts/casper", InstallerKind::Casper),
        ("/scripts/live", InstallerKind::LiveBoot),
        ("/usr/lib/dracut/hooks/x", InstallerKind::Dracut),
        ("/conf/initramfs.conf", InstallerKind::InitramfsTools),
        ("/usr/bin/busybox", InstallerKind::Busybox),
        ("/x", InstallerKind::Other),
    ] {
        assert_eq!(
            found(&cpio(&[(file, b"x"), ("/usr/bin/busybox2", b"")])).kind,
            kind,
            "{file}"
        );
    }
}

#[test]
fn the_first_program_is_the_one_that_the_command_line_names() {
    let bytes = cpio(&[("/sbin/first", b"x")]);
    let has = |line: &str| {
        read(&*bytes, super::init_of(line), Budget::default())
            .unwrap()
            .has_init
    };
    assert!(has("quiet rdinit=/x rdinit=/sbin/first") && !has("quiet") && !has("rdinit=/sbin"));
}

#[test]
fn what_the_kernel_would_not_take_is_refused_with_its_place() {
    let mut off = cpio(&[("/init", b"x")]);
    off.push(0);
    off.extend(microcode());
    assert!(matches!(refused(&off), InitrdError::Boundary { at } if at % 4 == 1));
    assert!(matches!(
        refused(b"hsqs-squashfs"),
        InitrdError::Foreign { at: 0 }
    ));
    assert!(matches!(refused(b""), InitrdError::Foreign { at: 0 }));
    assert!(matches!(
        refused(b"BZh91AY&SY"),
        InitrdError::Compression {
            compression: Compression::Bzip2,
            ..
        }
    ));
    let gzip = packed(&["gzip"], &debian());
    assert!(matches!(
        refused(&gzip[..gzip.len() / 2]),
        InitrdError::Archive { .. }
    ));
    let junk = packed(&["gzip"], b"no archive, but as long as one header at least: -------------------------------------------------------------------------");
    assert!(matches!(
        refused(&junk),
        InitrdError::Archive {
            source: ArchiveError::Header { .. },
            ..
        }
    ));
}

#[test]
fn a_bomb_costs_no_more_than_its_bound() {
    let budget = Budget {
        entries: 1000,
        bytes: 64 << 20,
    };
    // Behind a whole archive 100 MiB of zeros, which no reader asks for but who looks for the next archive.
    let mut plain = debian();
    plain.resize(plain.len() + (100 << 20), 0);
    let bomb = packed(&["zstd", "-q"], &plain);
    assert!(bomb.len() < 64 << 10);
    let error = read(&*bomb, "/init", budget).unwrap_err();
    assert!(
        matches!(
            error,
            InitrdError::Archive {
                source: ArchiveError::TooLarge,
                ..
            }
        ),
        "{error}"
    );
    // A window of 2 GiB in the frame's header (RFC 8878, 3.1.1.1.2): refused before it is allocated.
    let window = b"\x28\xb5\x2f\xfd\x00\xa8\x01\x00\x00";
    assert!(matches!(
        refused(window),
        InitrdError::Archive {
            source: ArchiveError::Stream(_),
            ..
        }
    ));
    // An xz dictionary of 1.5 GiB.
    let dictionary = packed(
        &["xz", "--lzma2=dict=1536MiB,mode=fast,mf=hc3,nice=10"],
        &debian(),
    );
    assert!(matches!(
        refused(&dictionary),
        InitrdError::Archive {
            source: ArchiveError::Stream(_),
            ..
        }
    ));
}
