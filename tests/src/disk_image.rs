//! The enterprise's disk image: made once by `tests/installer/build-disk-image` of Debian's packages, and what one sees of it on a server's disk from outside.

use crate::folders::Folders;
use crate::lab::Lab;
use crate::machine::{Bus, Disk};
use crate::namespace::checked;
use crate::servers::Server;
use anyhow::{Context as _, Result, ensure};
use leaseboot_protocol::gpt::{Gpt, Partition};
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use tokio::process::Command;

/// The name of image and profile.
pub const DISK: &str = "disk";
/// What its web server shows.
pub const PAGE: &str = "a disk image that was written";

const HEAD: usize = 1 << 20;

/// A server with a disk that is twice as large as the image, and no larger: it is filled before and erased afterwards.
pub fn server() -> Server {
    let mut server = Server::numbered(1);
    server.hardware.disks = vec![Disk::new(Bus::Virtio, "LAB0001", 1 << 10)];
    server
}

/// Makes the image, or finds it made, and takes it in as an operator would; the profile `disk` has no text at all.
pub async fn add(lab: &Lab) -> Result<()> {
    let raw = make(&Folders::find()?).await?;
    lab.po.add_disk_image(DISK, &raw).await?;
    let profile = lab.po.folder().join("profiles").join(DISK);
    fs::create_dir_all(&profile).with_context(|| format!("cannot make {}", profile.display()))?;
    let text = format!("image = \"{DISK}\"\nhostname = \"{DISK}-{{n}}\"\n");
    fs::write(profile.join("profile.toml"), text).context("cannot write the profile of the disk image")
}

async fn make(folders: &Folders) -> Result<PathBuf> {
    let assets = folders.assets();
    let place = assets.join("disk-image");
    let mut command = Command::new(folders.sources().join("installer/build-disk-image"));
    command.arg(assets.join("debian")).arg(&place);
    checked(&mut command)
        .await
        .context("cannot make the disk image")?;
    Ok(place.join("disk.raw"))
}

/// The partition table at the beginning of a server's disk.
pub fn table(disk: &Path) -> Result<Gpt> {
    let failed = || format!("cannot read {}", disk.display());
    let file = File::open(disk).with_context(failed)?;
    let mut head = vec![0; HEAD];
    file.read_exact_at(&mut head, 0).with_context(failed)?;
    Ok(Gpt::read(&head, file.metadata().with_context(failed)?.len())?)
}

/// Whether nothing at the beginning of a disk could boot: the first MiB is zeros.
pub fn does_not_boot(disk: &Path) -> Result<bool> {
    let mut head = vec![1; HEAD];
    let file = File::open(disk).with_context(|| format!("cannot open {}", disk.display()))?;
    file.read_exact_at(&mut head, 0)?;
    Ok(head.iter().all(|byte| *byte == 0))
}

/// How many bytes an ext4 on this partition says that it has (`s_blocks_count_lo`, `s_log_block_size`; kernel document filesystems/ext4).
pub fn ext4_bytes(disk: &Path, partition: &Partition) -> Result<u64> {
    let mut superblock = [0; 64];
    let file = File::open(disk).with_context(|| format!("cannot open {}", disk.display()))?;
    file.read_exact_at(&mut superblock, partition.bytes().start + 1024)?;
    ensure!(
        superblock[56..58] == [0x53, 0xef],
        "there is no ext4 on {partition:?}"
    );
    let field = |at: usize| superblock[at..at + 4].try_into().map(u32::from_le_bytes);
    Ok(u64::from(field(4)?) << (10 + field(24)?))
}

/// What another program says of the disk's tables (gdisk's `--verify`): both headers, both checksums, every partition.
pub async fn verify_table(disk: &Path) -> Result<String> {
    let mut command = Command::new("sgdisk");
    command.arg("--verify").arg(disk);
    let output = command
        .output()
        .await
        .context("cannot run sgdisk (package gdisk)")?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr))
}
