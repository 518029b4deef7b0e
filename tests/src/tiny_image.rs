//! A boot image that is no installer: a few modules, busybox, and an init that tells on the serial line what the wrapper left it.
//!
//! Scenarios that end at the second kernel use it, because it is small, and because its init can say what no installer would. On a UEFI
//! server it leaves a boot entry in NVRAM, as installers do.

use crate::assets::compress;
use crate::folders::Folders;
use crate::lab::{BUSY_HOST, web_profile};
use crate::managers::{Organizer, Profile};
use crate::namespace::checked;
use anyhow::{Context as _, Result, ensure};
use leaseboot_protocol::archive::Archive;
use std::path::Path;
use tokio::process::Command;

/// The customary name of image and profile.
pub const TINY: &str = "tiny";
/// The last line of the image's init.
pub const SEEN: &str = "scenario: all seen";

const INIT: &str = r#"#!/bin/busybox sh
bb=/bin/busybox
$bb mkdir -p /proc
$bb mount -t proc proc /proc
echo "scenario: kickstart $($bb sha256sum < /leaseboot/ks.cfg | $bb cut -c 1-64)"
[ ! -e /leaseboot/stage2.json ] || echo "scenario: the wrapper left its facts"
$bb grep -l '^@leaseboot-tunnel' /proc/[0-9]*/cmdline > /dev/null && echo "scenario: the tunnel's process lives"
$bb wget -q -O - http://10.99.0.1/v1/session > /dev/null && echo "scenario: the gateway answers"
$bb mkdir -p /sys
$bb mount -t sysfs sysfs /sys
if [ -d /sys/firmware/efi ]; then
    variables=/sys/firmware/efi/efivars
    $bb insmod /lib/modules/*/kernel/fs/efivarfs/efivarfs.ko
    $bb mount -t efivarfs efivarfs $variables
    $bb cat /boot-entry > $variables/Boot0042-8be4df61-93ca-11d2-aa0d-00e098032b8c && echo "scenario: left a boot entry"
fi
"#;
/// What the init does last, unless it is to stay.
pub(crate) const POWER_OFF: &str = r#"echo "scenario: all seen"
exec /bin/busybox poweroff -f
"#;
/// What the boot entry that the image leaves calls itself.
pub const BOOT_ENTRY: &str = "left by a tenant";

/// What the wrapper needs of the image's kernel, the laboratory's cards and a TUN device, what the
/// wrapper needs to remove what was staged on its disk, what the init needs to reach NVRAM, and what keeps a
/// kernel's last words there.
const MODULES: [&str; 20] = [
    "virtio",
    "virtio_ring",
    "virtio_pci",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_net",
    "virtio_blk",
    "net_failover",
    "failover",
    "virtio_rng",
    "rng-core",
    "e1000",
    "tun",
    "8021q",
    "garp",
    "mrp",
    "stp",
    "llc",
    "efivarfs",
    "efi-pstore",
];

/// How an initrd is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// gzip(1).
    Gzip,
    /// xz(1), with the check that the kernel knows.
    Xz,
    /// zstd(1).
    Zstd,
    /// Not at all.
    Plain,
    /// gzip, and in front of it an archive with microcode, not compressed, as distributions do.
    EarlyMicrocode,
}

impl Packing {
    /// Every way.
    pub const ALL: [Self; 5] = [
        Self::Gzip,
        Self::Xz,
        Self::Zstd,
        Self::Plain,
        Self::EarlyMicrocode,
    ];

    /// A name for images, profiles and labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
            Self::Plain => "plain",
            Self::EarlyMicrocode => "early-microcode",
        }
    }

    /// Packs an archive.
    pub async fn pack(self, archive: &[u8]) -> Result<Vec<u8>> {
        match self {
            Self::Gzip => compress(&["gzip", "-n"], archive).await,
            Self::Xz => compress(&["xz", "--check=crc32"], archive).await,
            Self::Zstd => compress(&["zstd", "-q", "-c"], archive).await,
            Self::Plain => Ok(archive.to_vec()),
            Self::EarlyMicrocode => {
                let mut early = Archive::new();
                early.file("kernel/x86/microcode/GenuineIntel.bin", 0o644, vec![0; 2048])?;
                let mut all = early.to_bytes();
                all.extend(compress(&["gzip", "-n"], archive).await?);
                Ok(all)
            }
        }
    }
}

/// The uncompressed archive, with `padding` bytes that do not compress.
pub async fn archive(folders: &Folders, padding: usize) -> Result<Vec<u8>> {
    archive_ending(folders, padding, POWER_OFF).await
}

/// As [`archive`], but its init does this in the end: lines of a shell script.
pub async fn archive_ending(folders: &Folders, padding: usize, ending: &str) -> Result<Vec<u8>> {
    let busybox = std::fs::read("/usr/bin/busybox")
        .or_else(|_| std::fs::read("/bin/busybox"))
        .context("cannot read busybox (package busybox-static)")?;
    archive_of(busybox, folders.image(), padding, ending).await
}

/// As [`archive_ending`], of this busybox, and of the modules in these boot files.
pub(crate) async fn archive_of(
    busybox: Vec<u8>,
    boot_files: &Path,
    padding: usize,
    ending: &str,
) -> Result<Vec<u8>> {
    let mut archive = Archive::new();
    archive.file("bin/busybox", 0o755, busybox)?;
    archive.file("init", 0o755, format!("{INIT}{ending}"))?;
    archive.file("boot-entry", 0o600, boot_entry())?;
    if padding > 0 {
        archive.file("padding", 0o600, noise(padding))?;
    }
    add_modules(&mut archive, boot_files).await?;
    Ok(archive.to_bytes())
}

/// Puts the image in place as it usually is, and its profile, which fits every server.
pub async fn add(po: &Organizer) -> Result<()> {
    let archive = archive(&Folders::find()?, 0).await?;
    add_profile(po, TINY, &Packing::Zstd.pack(&archive).await?, &[])
}

/// As [`add`], but its init does this in the end (lines of a shell script), and its kernel is started with these words as well.
pub async fn add_ending(po: &Organizer, ending: &str, words: &str) -> Result<()> {
    let archive = archive_ending(&Folders::find()?, 0, ending).await?;
    add_profile_with_words(po, TINY, &Packing::Zstd.pack(&archive).await?, &[], words)
}

/// Puts an image with this initrd in place, and a profile of the same name that asks for servers with these labels.
pub fn add_profile(po: &Organizer, name: &str, initrd: &[u8], labels: &[(&str, &str)]) -> Result<()> {
    add_profile_with_words(po, name, initrd, labels, "")
}

/// As [`add_profile`], with these words on the kernel's command line as well.
pub fn add_profile_with_words(
    po: &Organizer,
    name: &str,
    initrd: &[u8],
    labels: &[(&str, &str)],
    words: &str,
) -> Result<()> {
    let kernel = Folders::find()?.image().join("vmlinuz");
    add_profile_of(po, name, &kernel, initrd, labels, words)
}

/// As [`add_profile_with_words`], of this kernel.
pub(crate) fn add_profile_of(
    po: &Organizer,
    name: &str,
    kernel: &Path,
    initrd: &[u8],
    labels: &[(&str, &str)],
    words: &str,
) -> Result<()> {
    let folders = Folders::find()?;
    let folder = tempfile::tempdir().context("cannot make a folder")?;
    let path = folder.path().join("initrd.img");
    std::fs::write(&path, initrd).context("cannot write the initrd")?;
    po.add_image(
        name,
        kernel,
        &path,
        &format!("console=tty0 panic=10 {BUSY_HOST} {words}"),
    )?;
    // A kickstart that the lender can merge; nobody carries it out.
    let web = web_profile(&folders.sources())?;
    po.add_profile(&Profile {
        name: name.to_owned(),
        image: name.to_owned(),
        kickstart: web.kickstart,
        hostname: format!("{name}-{{n}}"),
        labels: labels
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        sealed: web.sealed,
    })
}

/// Stage 1 runs the same stock kernel as the enterprise does here, so its modules fit.
async fn add_modules(archive: &mut Archive, image: &Path) -> Result<()> {
    let unpacked = tempfile::tempdir().context("cannot make a folder")?;
    let script =
        r#"zstd -q -d -c "$1/stage1.img" | cpio --quiet --extract --make-directories --directory "$2""#;
    let mut command = Command::new("sh");
    command
        .args(["-e", "-c", script, "sh"])
        .arg(image)
        .arg(unpacked.path());
    checked(&mut command).await.context("cannot unpack stage 1")?;
    let modules = ["usr/lib/modules", "lib/modules"].map(|place| unpacked.path().join(place));
    let modules = modules
        .iter()
        .find(|place| place.is_dir())
        .context("stage 1 has no modules")?;
    let mut added = 0;
    let mut folders = vec![modules.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let module = name.split_once(".ko").map(|(module, _)| module.to_owned());
            if path.is_dir() {
                folders.push(path);
            } else if module
                .as_ref()
                .is_none_or(|module| MODULES.contains(&module.as_str()))
            {
                let place = Path::new("lib/modules").join(path.strip_prefix(modules)?);
                archive.file(&place.display().to_string(), 0o644, std::fs::read(&path)?)?;
                added += usize::from(module.is_some());
            }
        }
    }
    ensure!(
        added > 3,
        "stage 1 has only {added} of the modules that the laboratory needs"
    );
    Ok(())
}

/// A variable `Boot####` as efivarfs takes it: attributes, then an `EFI_LOAD_OPTION` (UEFI 2.10, 3.1.3) for a file on a partition.
fn boot_entry() -> Vec<u8> {
    let node = |head: [u8; 2], data: &[u8]| {
        let length = u16::try_from(data.len() + 4).unwrap_or(4).to_le_bytes();
        [&head[..], &length, data].concat()
    };
    let path = [
        node([4, 1], &[0; 38]),
        node([4, 4], b"\\\0x\0\0\0"),
        node([0x7f, 0xff], &[]),
    ]
    .concat();
    let length = u16::try_from(path.len()).unwrap_or(0).to_le_bytes();
    let description: Vec<u8> = BOOT_ENTRY
        .encode_utf16()
        .chain([0])
        .flat_map(u16::to_le_bytes)
        .collect();
    [&[7, 0, 0, 0, 1, 0, 0, 0][..], &length, &description, &path].concat()
}

/// Bytes that no compressor shrinks, the same in each run (xorshift64).
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend(next());
    }
    bytes.truncate(length);
    bytes
}
