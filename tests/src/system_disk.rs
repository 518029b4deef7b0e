//! A disk with a system that boots and tells so, in place of an installation: what counts is who reaches it, not what it does.
//!
//! ```text
//! sector 0          a boot sector that writes one line to the serial port (BIOS), and a partition table
//! 1 MiB … 65 MiB    an EFI system partition with an EFI program
//! ```
//!
//! With [`Loader::Entry`] the program is a Linux kernel, where only the installer's own boot entry finds it, which also gives it its console. With
//! [`Loader::Fallback`] it is a GRUB, where firmware looks that has no entry for the disk (UEFI 2.10, 3.5.1.1).

use crate::namespace::checked;
use anyhow::{Context as _, Result};
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use tokio::process::Command;

/// What the boot sector says.
pub const BIOS_SAYS: &str = "scenario: the boot sector runs";
/// What the kernel says that [`boot_entry`] starts.
pub const ENTRY_SAYS: &str = "scenario=started-by-the-installers-entry";
/// What the GRUB says that lies where firmware looks without an entry: a kernel without a command line would be silent.
pub const GRUB_SAYS: &str = "Welcome to GRUB!";
/// The variable in which an installer keeps its entry.
pub const ENTRY_NAME: &str = "Boot0043-8be4df61-93ca-11d2-aa0d-00e098032b8c";

const SIGNATURE: [u8; 4] = *b"LB05";
const SECTOR: u32 = 512;
const FIRST: u32 = 2048;
const SECTORS: u32 = 131_072;
const PATH: &str = "\\EFI\\TENANT\\SYSTEM.EFI";

/// Where the system's EFI program lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loader {
    /// Where [`boot_entry`] says.
    Entry,
    /// Where firmware looks by itself.
    Fallback,
}

impl Loader {
    fn folder_and_file(self) -> (&'static str, &'static str) {
        match self {
            Self::Entry => ("::/EFI/TENANT", "::/EFI/TENANT/SYSTEM.EFI"),
            Self::Fallback => ("::/EFI/BOOT", "::/EFI/BOOT/BOOTX64.EFI"),
        }
    }
}

/// Writes the system to the disk behind `file`.
pub async fn prepare(file: &Path, program: &Path, loader: Loader) -> Result<()> {
    let disk = OpenOptions::new()
        .write(true)
        .open(file)
        .with_context(|| format!("cannot open {}", file.display()))?;
    disk.write_all_at(&boot_sector(), 0)
        .with_context(|| format!("cannot write to {}", file.display()))?;
    let partition = format!("{}@@{}", file.display(), u64::from(FIRST * SECTOR));
    let (folder, place) = loader.folder_and_file();
    let sectors = SECTORS.to_string();
    let program = program.display().to_string();
    let steps = [
        vec![
            "mformat", "-i", &partition, "-T", &sectors, "-h", "64", "-s", "32", "::",
        ],
        vec!["mmd", "-i", &partition, "::/EFI", folder],
        vec!["mcopy", "-i", &partition, &program, place],
    ];
    for step in steps {
        let mut command = Command::new(step[0]);
        command.args(&step[1..]);
        checked(&mut command).await.with_context(|| {
            format!(
                "cannot make the disk's EFI partition with {} (package mtools)",
                step[0]
            )
        })?;
    }
    Ok(())
}

/// Real-mode code that sends the line to the first serial port and stops, then the table of one partition.
fn boot_sector() -> [u8; SECTOR as usize] {
    const CODE: [u8; 21] = [
        0x31, 0xc0, // xor ax, ax
        0x8e, 0xd8, // mov ds, ax
        0xbe, 0x15, 0x7c, // mov si, 0x7c15: behind this code
        0xba, 0xf8, 0x03, // mov dx, 0x3f8
        0xac, // next: lodsb
        0x84, 0xc0, // test al, al
        0x74, 0x03, // jz stop
        0xee, // out dx, al
        0xeb, 0xf8, // jmp next
        0xf4, // stop: hlt
        0xeb, 0xfd, // jmp stop
    ];
    let mut sector = [0; SECTOR as usize];
    let line = format!("\r\n{BIOS_SAYS}\r\n\0");
    sector[..CODE.len()].copy_from_slice(&CODE);
    sector[CODE.len()..][..line.len()].copy_from_slice(line.as_bytes());
    sector[440..444].copy_from_slice(&SIGNATURE);
    // Bootable, an EFI system partition, without addresses by cylinder.
    sector[446..454].copy_from_slice(&[0x80, 0xfe, 0xff, 0xff, 0xef, 0xfe, 0xff, 0xff]);
    sector[454..458].copy_from_slice(&FIRST.to_le_bytes());
    sector[458..462].copy_from_slice(&SECTORS.to_le_bytes());
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}

/// The entry that an installer leaves for [`Loader::Entry`], as efivarfs takes it: attributes, then an `EFI_LOAD_OPTION` (UEFI 2.10, 3.1.3), whose optional
/// data is the kernel's command line.
pub fn boot_entry() -> Vec<u8> {
    let wide = |text: &str| -> Vec<u8> {
        let units = text.encode_utf16().chain([0]);
        units.flat_map(u16::to_le_bytes).collect()
    };
    let node = |head: [u8; 2], data: &[u8]| {
        let length = u16::try_from(data.len() + 4).unwrap_or(4).to_le_bytes();
        [&head[..], &length, data].concat()
    };
    let mut signature = [0; 16];
    signature[..4].copy_from_slice(&SIGNATURE);
    let partition = [
        &1_u32.to_le_bytes()[..],
        &u64::from(FIRST).to_le_bytes(),
        &u64::from(SECTORS).to_le_bytes(),
        &signature,
        &[1, 1],
    ]
    .concat();
    let path = [
        node([4, 1], &partition),
        node([4, 4], &wide(PATH)),
        node([0x7f, 0xff], &[]),
    ]
    .concat();
    let length = u16::try_from(path.len()).unwrap_or(0).to_le_bytes();
    let options = wide(&format!("console=ttyS0,115200 {ENTRY_SAYS}"));
    [
        &[7, 0, 0, 0, 1, 0, 0, 0][..],
        &length,
        &wide("the tenant's system"),
        &path,
        &options,
    ]
    .concat()
}
