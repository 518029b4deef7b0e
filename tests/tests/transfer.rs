//! The whole path: from an empty machine to a page inside the enterprise, twice by different boot loaders. The first run is
//! captured, so that what crossed the lender's wire can be searched for the enterprise's secrets. The second goes all the way back: the
//! server is released, and its disk is searched from outside for what the installation left.

use anyhow::{Context as _, Result};
use leaseboot_tests::capture::Packets;
use leaseboot_tests::folders::Folders;
use leaseboot_tests::lab::{INSTALLATION, Lab, Plan, ROOT_PASSWORD_HASH};
use leaseboot_tests::residue;
use memchr::memmem;

const MEMBER: &str = "10.99.0.10";
const HOSTNAME: &str = "web-1";
const PAGE: &[u8] = b"enterprise web server web-1";

#[tokio::test]
async fn by_ipxe_script_and_nothing_of_the_enterprise_crosses_the_wire_in_clear() -> Result<()> {
    Plan::named("transfer-ipxe")
        .captured()
        .run(async |lab| {
            transfer(lab).await?;
            let capture = lab.capture.take().context("the plan asked for a capture")?;
            secrecy(&capture.stop().await?, lab)
        })
        .await
}

#[tokio::test]
async fn by_ipxe_that_loads_grub_over_tftp_and_back_with_nothing_left_on_the_disk() -> Result<()> {
    Plan::named("transfer-grub")
        .by_grub()
        .run(async |lab| {
            transfer(lab).await?;
            give_back(lab).await
        })
        .await
}

async fn transfer(lab: &mut Lab) -> Result<()> {
    lab.borrow("web")?.in_service(INSTALLATION).await?;
    let page = lab.page(MEMBER).await?;
    assert!(page.contains("enterprise web server web-1"), "{page}");
    // Power-on for stage 1; everything after it, the reboot from disk included, without the power being touched.
    assert_eq!(lab.machine().starts(), 1);
    Ok(())
}

/// Releases the server; its disk held the page and is empty afterwards, and the lender signs for it.
async fn give_back(lab: &Lab) -> Result<()> {
    let disk = &lab.machine().disk_files()[0];
    assert!(
        residue::holds(disk, PAGE)?,
        "the installation left no page on the disk"
    );
    lab.po.release(HOSTNAME).await?;
    assert_eq!(
        residue::first_byte_left(disk)?,
        None,
        "a byte is left on the disk"
    );
    let record = lab.po.erasure(HOSTNAME).await?;
    let words = lab.lm.verify_erasure(&record).await?;
    assert!(words.contains("LAB0001"), "{words}");
    let (custody, reason) = lab.lm.custody("lab0001").await?;
    assert_eq!(custody, "free", "{reason}");
    Ok(())
}

/// No byte of the root password's hash, of the packages or of the boot image is in the capture.
fn secrecy(packets: &Packets, lab: &Lab) -> Result<()> {
    // The search can find something: what the lender itself sends in clear.
    for own in [&b"#!ipxe"[..], b"stage1.img"] {
        assert!(
            !packets.find(own).is_empty(),
            "the capture of {} bytes is not one of a boot",
            packets.size()
        );
    }
    let mut secrets: Vec<(String, Vec<u8>)> = [
        ROOT_PASSWORD_HASH,
        "sealed:",
        "rootpw",
        "nginx-light",
        "linux-image-cloud",
        "Packages.xz",
        "Filename: pool/",
        "enterprise web server",
        "GET /debian",
        "GET /v1/image",
        "172.20.0.2",
    ]
    .map(|text| (text.to_owned(), text.as_bytes().to_vec()))
    .into();
    secrets.extend(pieces_of_the_image(lab)?);
    for (name, secret) in secrets {
        assert_eq!(
            packets.find(&secret),
            Vec::<String>::new(),
            "{name} crossed the lender's wire in clear"
        );
    }
    Ok(())
}

/// Pieces from all over the enterprise's kernel and initrd, without those that the lender's own boot files have as well: both
/// sides run Debian's stock kernel here.
fn pieces_of_the_image(lab: &Lab) -> Result<Vec<(String, Vec<u8>)>> {
    const LENGTH: usize = 48;
    const PIECES: usize = 40;
    let lender = Folders::find()?;
    let public = [
        std::fs::read(lender.image().join("vmlinuz"))?,
        std::fs::read(lender.image().join("stage1.img"))?,
    ];
    let mut pieces = Vec::new();
    for name in ["vmlinuz", "initrd.img"] {
        let bytes = std::fs::read(lab.po.image("installer").join(name))?;
        for number in 0..PIECES {
            let at = number * (bytes.len() - LENGTH) / (PIECES - 1);
            let piece = &bytes[at..at + LENGTH];
            let dull = piece.iter().all(|byte| *byte == piece[0]);
            if !dull && public.iter().all(|file| memmem::find(file, piece).is_none()) {
                pieces.push((format!("{name} at byte {at}"), piece.to_vec()));
            }
        }
    }
    assert!(
        pieces.len() >= PIECES - 2,
        "only {} pieces to look for",
        pieces.len()
    );
    Ok(pieces)
}
