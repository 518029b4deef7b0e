//! A disk image in place of an installer: written through the tunnel, grown, a member, in service; and never booted when one byte of it is another.

use anyhow::{Context as _, Result};
use leaseboot_protocol::lease::{EventKind, Step};
use leaseboot_tests::assets::flip_a_byte;
use leaseboot_tests::disk_image::{self, DISK, PAGE};
use leaseboot_tests::events::Tenant;
use leaseboot_tests::lab::{CHAIN, INSTALLATION, Lab, Plan};
use leaseboot_tests::machine::Power;
use leaseboot_tests::residue;
use std::time::{Duration, Instant};

const MEMBER: &str = "10.99.0.10";
const ORDERED: Duration = Duration::from_secs(60);

#[tokio::test]
async fn is_in_service_from_a_grown_disk() -> Result<()> {
    Plan::named("image-write")
        .without_installer()
        .servers(vec![disk_image::server()])
        .run(async |lab| {
            disk_image::add(lab).await?;
            // What was on the disk before must not show through where the image has zeros.
            residue::fill(&lab.machine().disk_files()[0])?;
            let mut borrowing = lab.borrow(DISK)?;
            borrowing
                .during(lab.machine().wait_for_power(Power::On, ORDERED))
                .await?;
            let on = Instant::now();
            borrowing.in_service(INSTALLATION).await?;
            let seconds = on.elapsed().as_secs_f64();
            let page = lab.page(MEMBER).await?;
            assert!(page.contains(PAGE), "{page}");
            // One start for everything: the reboot into the written disk is the agent's own.
            assert_eq!(lab.machine().starts(), 1);
            tell(lab, seconds).await?;
            grown(lab).await
        })
        .await
}

/// The last partition and its file system have taken the disk, and a program that nobody here wrote finds both tables sound.
async fn grown(lab: &Lab) -> Result<()> {
    let disk = &lab.machine().disk_files()[0];
    let size = std::fs::metadata(disk)?.len();
    let partitions = disk_image::table(disk)?.partitions();
    let root = partitions.last().context("the disk has no partitions")?.bytes();
    assert!(
        size - root.end < 2 << 20,
        "the root ends at {} of {size}",
        root.end
    );
    let file_system = disk_image::ext4_bytes(disk, partitions.last().context("no root")?)?;
    assert!(
        root.end - root.start - file_system < 1 << 20,
        "the file system has {file_system} bytes of {root:?}"
    );
    let said = disk_image::verify_table(disk).await?;
    assert!(said.contains("No problems found"), "{said}");
    Ok(())
}

/// The numbers that this way is chosen for.
async fn tell(lab: &Lab, seconds: f64) -> Result<()> {
    let mut history = Tenant::of(lab).follow(ORDERED).await?;
    let written = history
        .wait_for("written image", ORDERED, |event| {
            matches!(
                event.what,
                EventKind::StepFinished {
                    step: Step::Image,
                    ..
                }
            )
        })
        .await?;
    println!(
        "image write: power-on to in service {seconds:.1} s; {:?}",
        written.what
    );
    let serial = lab.machine().serial().tail(usize::MAX);
    for line in serial.lines().filter(|line| line.contains("MiB/s")) {
        println!("image write: {}", line.trim());
    }
    Ok(())
}

#[tokio::test]
async fn one_flipped_byte_is_refused_and_the_disk_does_not_boot() -> Result<()> {
    Plan::named("image-write-tampered")
        .without_installer()
        .servers(vec![disk_image::server()])
        .one_attempt()
        .run(async |lab| {
            disk_image::add(lab).await?;
            let disk = lab.machine().disk_files()[0].clone();
            residue::fill(&disk)?;
            let mut borrowing = lab.borrow(DISK)?;
            borrowing
                .during(lab.machine().wait_for_power(Power::On, ORDERED))
                .await?;
            let mut history = Tenant::of(lab).follow(ORDERED).await?;
            flip_a_byte(&lab.po.image(DISK).join("disk.raw.zst"))?;
            let refusal = history.wait_for_failure(Step::Image, CHAIN).await?;
            assert!(refusal.contains("not used"), "{refusal}");
            // Half of the image is on the disk by now, and not the half that boots.
            assert!(disk_image::does_not_boot(&disk)?, "the disk has a boot sector");
            borrowing.fails(CHAIN).await?;
            let status = lab.lm.status(&[]).await?;
            assert!(
                status.contains("not used"),
                "the lender sees no reason:\n{status}"
            );
            let serial = lab.machine().serial().tail(usize::MAX);
            assert!(
                !serial.contains("rebooting") && !serial.contains("member: started"),
                "{serial}"
            );
            Ok(())
        })
        .await
}
