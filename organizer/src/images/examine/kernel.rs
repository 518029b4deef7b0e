//! What a kernel's first bytes say of it. Nothing is unpacked: kexec and firmware decide by these bytes, so we do too.
//!
//! Sources: the kernel's "The Linux/x86 Boot Protocol", "Booting AArch64 Linux", and `bzImage64_probe` in
//! arch/x86/kernel/kexec-bzimage64.c, which is what the agent's kexec asks of a kernel.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The version's text stands within the first 0x200 + 0xffff bytes, and is short.
pub const PREFIX: usize = 68 << 10;
const LONGEST_VERSION: usize = 512;

const BOOT_FLAG: usize = 0x1fe;
const HDRS: usize = 0x202;
const PROTOCOL: usize = 0x206;
const VERSION_POINTER: usize = 0x20e;
const LOAD_FLAGS: usize = 0x211;
const EXTENDED_LOAD_FLAGS: usize = 0x236;
const COMMAND_LINE_SIZE: usize = 0x238;
const LOADED_HIGH: u8 = 1;
const KERNEL_64: u16 = 1;
const ABOVE_4G: u16 = 2;
/// `COMMAND_LINE_SIZE` of arm64; its header does not tell it.
const ARM64_COMMAND_LINE: u32 = 2048;
/// From this one on, a kernel says by which ways it can be loaded.
const OLDEST_PROTOCOL: u16 = 0x020c;

/// How a kernel is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// bzImage of x86.
    BzImage,
    /// Uncompressed image of arm64.
    Arm64Image,
    /// An EFI program that unpacks a kernel (`CONFIG_EFI_ZBOOT`).
    EfiZboot,
    /// A format that this version does not know.
    #[serde(other)]
    Unknown,
}

/// What a kernel says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kernel {
    /// How it is packed.
    pub format: Format,
    /// The machine that it is for, as uname(2) names it.
    pub architecture: Option<String>,
    /// Its version, as uname -r shows it, such as `6.1.0-37-amd64`.
    pub release: Option<String>,
    /// Major and minor number of the x86 boot protocol.
    pub protocol: Option<(u8, u8)>,
    /// Whether firmware can start it as an EFI program.
    pub efi_stub: bool,
    /// The longest command line in bytes, when it says so.
    pub command_line_limit: Option<u32>,
    /// Why `kexec_file_load(2)` will not take it; absent when it will.
    pub kexec_obstacle: Option<String>,
}

/// These bytes do not begin a kernel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KernelError {
    /// Packed in a way that no boot loader starts.
    #[error(
        "it begins as {0} does; leaseboot starts kernels as distributions install them, such as vmlinuz: unpack it, or take that file"
    )]
    Packed(&'static str),
    /// Something else.
    #[error(
        "it is no kernel: it has neither the header of a bzImage nor that of an arm64 image; is it the right file?"
    )]
    Foreign,
}

/// Reads the first bytes of a kernel, [`PREFIX`] of them or as many as there are.
///
/// # Errors
/// [`KernelError`].
pub fn read(prefix: &[u8]) -> Result<Kernel, KernelError> {
    if bytes(prefix, HDRS) == Some(*b"HdrS") && word(prefix, BOOT_FLAG) == Some(0xaa55) {
        return Ok(bz_image(prefix));
    }
    let efi_stub = portable_executable(prefix);
    if efi_stub.is_some() && bytes(prefix, 4) == Some(*b"zimg") {
        let obstacle = "it is an EFI program that unpacks a kernel, which only firmware can start: unpack it";
        return Ok(Kernel {
            kexec_obstacle: Some(obstacle.to_owned()),
            ..other(Format::EfiZboot, efi_stub.and_then(machine), true)
        });
    }
    if bytes(prefix, 56) == Some(*b"ARM\x64") {
        // Debian's stage 1 has no kexec there, so that GRUB starts it from the disk.
        let obstacle = "it has no EFI stub (CONFIG_EFI_STUB), and GRUB starts no other kernel on 64-bit ARM";
        return Ok(Kernel {
            command_line_limit: Some(ARM64_COMMAND_LINE),
            kexec_obstacle: efi_stub.is_none().then(|| obstacle.to_owned()),
            ..other(Format::Arm64Image, Some("aarch64"), efi_stub.is_some())
        });
    }
    let packed = [
        (&[0x1f, 0x8b][..], "a gzip file"),
        (b"\xfd7zXZ\0", "an xz file"),
        (b"\x28\xb5\x2f\xfd", "a zstd file"),
        (b"\x7fELF", "an unstripped vmlinux (ELF)"),
    ];
    match packed.into_iter().find(|(magic, _)| prefix.starts_with(magic)) {
        Some((_, name)) => Err(KernelError::Packed(name)),
        None => Err(KernelError::Foreign),
    }
}

fn other(format: Format, architecture: Option<&str>, efi_stub: bool) -> Kernel {
    Kernel {
        format,
        architecture: architecture.map(str::to_owned),
        release: None,
        protocol: None,
        efi_stub,
        command_line_limit: None,
        kexec_obstacle: None,
    }
}

fn bz_image(prefix: &[u8]) -> Kernel {
    let protocol = word(prefix, PROTOCOL).unwrap_or(0);
    let extended = match protocol >= OLDEST_PROTOCOL {
        true => word(prefix, EXTENDED_LOAD_FLAGS).unwrap_or(0),
        false => 0,
    };
    let is_64 = extended & KERNEL_64 != 0;
    let loaded_high = prefix
        .get(LOAD_FLAGS)
        .is_some_and(|flags| flags & LOADED_HIGH != 0);
    let obstacle = if protocol < OLDEST_PROTOCOL {
        Some("its boot protocol is older than 2.12 (Linux 3.8)")
    } else if !loaded_high {
        Some("it is a zImage, which must be loaded low")
    } else if !is_64 {
        Some("it is a 32-bit kernel")
    } else if extended & ABOVE_4G == 0 {
        Some("it cannot be loaded above 4 GiB")
    } else {
        None
    };
    let [minor, major] = protocol.to_le_bytes();
    Kernel {
        format: Format::BzImage,
        architecture: Some(if is_64 { "x86_64" } else { "i686" }.to_owned()),
        release: release(prefix),
        protocol: Some((major, minor)),
        efi_stub: portable_executable(prefix).is_some(),
        command_line_limit: (protocol >= 0x0206)
            .then(|| bytes(prefix, COMMAND_LINE_SIZE).map(u32::from_le_bytes))
            .flatten(),
        kexec_obstacle: obstacle.map(str::to_owned),
    }
}

/// The first word of the version's text. Terminals will show it, so nothing but what a release is made of is let through.
fn release(prefix: &[u8]) -> Option<String> {
    let at = usize::from(word(prefix, VERSION_POINTER)?);
    let text = prefix.get(at.checked_add(0x200)?..).filter(|_| at != 0)?;
    let word = text[..text.len().min(LONGEST_VERSION)]
        .split(|byte| matches!(byte, 0 | b' '))
        .next()?;
    is_release(word).then(|| String::from_utf8_lossy(word).into_owned())
}

/// Whether these bytes can be a kernel's release: it names a folder below /lib/modules, and has 64 bytes at most (uname(2)).
pub(super) fn is_release(word: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'+' | b'~');
    (1..=64).contains(&word.len()) && word[0].is_ascii_digit() && word.iter().all(plain)
}

/// The machine field of a PE header (Microsoft's PE format, COFF file header), when there is one.
fn portable_executable(prefix: &[u8]) -> Option<u16> {
    if !prefix.starts_with(b"MZ") {
        return None;
    }
    let at = usize::try_from(u32::from_le_bytes(bytes(prefix, 0x3c)?)).ok()?;
    (bytes(prefix, at)? == *b"PE\0\0")
        .then(|| word(prefix, at.checked_add(4)?))
        .flatten()
}

fn machine(field: u16) -> Option<&'static str> {
    match field {
        0x8664 => Some("x86_64"),
        0xaa64 => Some("aarch64"),
        _ => None,
    }
}

fn bytes<const N: usize>(prefix: &[u8], at: usize) -> Option<[u8; N]> {
    prefix.get(at..at.checked_add(N)?)?.try_into().ok()
}

fn word(prefix: &[u8], at: usize) -> Option<u16> {
    bytes(prefix, at).map(u16::from_le_bytes)
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.format {
            Format::BzImage => "bzImage",
            Format::Arm64Image => "arm64 image",
            Format::EfiZboot => "EFI zboot",
            Format::Unknown => "unknown format",
        })?;
        if let Some(architecture) = &self.architecture {
            write!(f, ", {architecture}")?;
        }
        match &self.release {
            Some(release) => write!(f, ", Linux {release}")?,
            None => f.write_str(", version not told")?,
        }
        if let Some((major, minor)) = self.protocol {
            write!(f, ", boot protocol {major}.{minor}")?;
        }
        f.write_str(if self.efi_stub {
            ", EFI stub"
        } else {
            ", no EFI stub"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header() -> Vec<u8> {
        let mut bytes = vec![0; 0x1000];
        let mut put = |at: usize, what: &[u8]| bytes[at..at + what.len()].copy_from_slice(what);
        put(0, b"MZ");
        put(0x3c, &0x80u32.to_le_bytes());
        put(0x80, b"PE\0\0\x64\x86");
        put(BOOT_FLAG, &[0x55, 0xaa]);
        put(HDRS, b"HdrS\x0f\x02");
        put(VERSION_POINTER, &0x600u16.to_le_bytes());
        put(LOAD_FLAGS, &[1]);
        put(EXTENDED_LOAD_FLAGS, &[0x3f, 0]);
        put(COMMAND_LINE_SIZE, &2047u32.to_le_bytes());
        put(0x800, b"6.1.0-37-amd64 (debian-kernel@lists.debian.org) #1 SMP\0");
        bytes
    }

    #[test]
    fn a_bz_image_tells_version_protocol_and_machine() {
        let kernel = read(&header()).unwrap();
        assert_eq!(
            kernel.to_string(),
            "bzImage, x86_64, Linux 6.1.0-37-amd64, boot protocol 2.15, EFI stub"
        );
        assert_eq!(
            (kernel.command_line_limit, kernel.kexec_obstacle),
            (Some(2047), None)
        );
    }

    #[test]
    fn what_kexec_refuses_is_told() {
        for (at, value, word) in [
            (HDRS + 4, 0x06, "older than 2.12"),
            (LOAD_FLAGS, 0, "zImage"),
            (EXTENDED_LOAD_FLAGS, 0x3e, "32-bit"),
            (EXTENDED_LOAD_FLAGS, 0x3d, "above 4 GiB"),
        ] {
            let mut bytes = header();
            bytes[at] = value;
            let obstacle = read(&bytes).unwrap().kexec_obstacle.unwrap();
            assert!(obstacle.contains(word), "{obstacle}");
        }
    }

    #[test]
    fn other_kernels_are_known_and_other_files_refused() {
        let mut arm = vec![0; 128];
        arm[56..60].copy_from_slice(b"ARM\x64");
        let obstacle = read(&arm).unwrap().kexec_obstacle;
        assert!(obstacle.is_some_and(|obstacle| obstacle.contains("EFI stub")));
        arm[..2].copy_from_slice(b"MZ");
        arm[0x3c] = 0x40;
        arm[0x40..0x46].copy_from_slice(b"PE\0\0\x64\xaa");
        let known = read(&arm).unwrap();
        assert_eq!(known.architecture.as_deref(), Some("aarch64"));
        assert_eq!(
            (known.command_line_limit, known.kexec_obstacle),
            (Some(2048), None)
        );
        assert_eq!(read(b"\x1f\x8b\x08"), Err(KernelError::Packed("a gzip file")));
        assert_eq!(read(b"#!/bin/sh"), Err(KernelError::Foreign));
    }

    #[test]
    fn no_escape_sequence_comes_through_as_a_version() {
        let mut bytes = header();
        bytes[0x802] = 0x1b;
        assert_eq!(read(&bytes).unwrap().release, None);
    }

    proptest! {
        #[test]
        fn any_change_to_a_header_is_survived(changes in prop::collection::vec((0usize..0x1000, any::<u8>()), 0..20), end in 0usize..0x1000) {
            let mut bytes = header();
            for (at, value) in changes {
                bytes[at] = value;
            }
            let _ = read(&bytes).map(|kernel| kernel.to_string());
            let _ = read(&bytes[..end]).map(|kernel| kernel.to_string());
        }
    }
}
