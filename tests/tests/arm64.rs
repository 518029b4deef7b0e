//! Servers with 64-bit ARM: from their firmware to the agent, and from the agent into the enterprise's kernel.
//!
//! Everything that runs on such a server is of its own kind: firmware, GRUB, kernel, agent, and the enterprise's image. Debian's kernels for it have no
//! kexec_file_load(2), so the way into the second kernel is the second one, by the server's own disk. `cargo xtask test` prepares what these scenarios need.

use anyhow::{Result, ensure};
use leaseboot_protocol::lease::{EventKind, LeaseEvent, Step};
use leaseboot_tests::arm64;
use leaseboot_tests::events::Tenant;
use leaseboot_tests::folders::Folders;
use leaseboot_tests::lab::{CHAIN, Plan};
use leaseboot_tests::machine::Firmware;
use leaseboot_tests::servers::{Server, VIRTIO_FUNCTIONS};
use leaseboot_tests::tiny_image::{SEEN, TINY};
use leaseboot_tests::ways::Way;
use std::time::Duration;

const ORDERED: Duration = Duration::from_secs(60);
/// Emulated firmware for ARM takes more time for everything than its sister for x86.
const SLOW: Duration = Duration::from_secs(240);

fn server() -> Server {
    let mut server = Server::numbered(1);
    server.hardware.firmware = Firmware::UefiArm64;
    server
}

fn finished(step: Step) -> impl Fn(&LeaseEvent) -> bool {
    move |event| matches!(event.what, EventKind::StepFinished { step: done, .. } if done == step)
}

#[tokio::test]
async fn arm64_loads_grub_by_pxe_and_is_on_record_as_what_it_is() -> Result<()> {
    arm64::boot_files(&Folders::find()?)?;
    let way = Way::Arm64PxeGrub;
    way.plan()
        .run(async |lab| {
            let arrival = way.arrive(lab).await?;
            println!("{}: {:.1} s", way.name(), arrival.took.as_secs_f64());
            let record = lab.lm.record("lab0001").await?;
            let text = record.to_string();
            ensure!(
                text.contains(r#""architecture":"aarch64""#),
                "the record is {text}"
            );
            ensure!(text.contains("virtio_net"), "the record has no card: {text}");
            Ok(())
        })
        .await
}

#[tokio::test]
async fn arm64_loads_grub_by_http() -> Result<()> {
    arm64::boot_files(&Folders::find()?)?;
    Way::Arm64HttpGrub.reach().await
}

/// The whole way of a lease: stage 1 with the drivers of the hardware on record, tunnel, the enterprise's kernel and initrd through it, and on by way of the disk, without a try of kexec.
#[tokio::test]
async fn arm64_enters_the_enterprises_kernel_by_way_of_its_disk() -> Result<()> {
    let mut server = server();
    server.functions = VIRTIO_FUNCTIONS.into();
    let plan = Plan::named("arm64-lease")
        .servers(vec![server])
        .without_installer();
    plan.run(async |lab| {
        arm64::add_tiny(&lab.po).await?;
        let mut borrowing = lab.borrow(TINY)?;
        let mut history = borrowing.during(Tenant::of(lab).follow(ORDERED)).await?;
        for (what, step) in [("a tunnel", Step::Tunnel), ("a staged image", Step::Stage)] {
            borrowing
                .during(history.wait_for(what, SLOW, finished(step)))
                .await?;
        }
        let serial = lab.machine().serial();
        borrowing.during(serial.wait_for(SEEN, SLOW)).await?;
        history
            .wait_for("a sign of stage 2", CHAIN, finished(Step::Wrapper))
            .await?;
        ensure!(
            lab.machine().starts() == 2,
            "one start for stage 1, one for the disk"
        );
        Ok(())
    })
    .await
}

/// A lender without an image for such servers says so, and they are sent nothing that they cannot run.
#[tokio::test]
async fn arm64_gets_no_loader_where_there_is_no_image_for_it() -> Result<()> {
    let folders = Folders::find()?;
    let only_x86 = tempfile::tempdir()?;
    for entry in std::fs::read_dir(folders.image())? {
        let entry = entry?;
        if entry.file_name() != "aarch64" {
            std::os::unix::fs::symlink(entry.path(), only_x86.path().join(entry.file_name()))?;
        }
    }
    let plan = Plan::named("arm64-none")
        .servers(vec![server().unknown_hardware()])
        .without_installer()
        .boot_files(only_x86.path().to_owned());
    plan.run(async |lab| {
        let said = lab.lm.said()?;
        let told = said
            .wait_for("the boot files lack the boot program", CHAIN)
            .await?;
        ensure!(told.contains("client=Pxe(Arm64)"), "{told}");
        ensure!(told.contains("--architecture aarch64"), "{told}");
        ensure!(!said.tail(usize::MAX).contains("tftp"), "it was sent something");
        Ok(())
    })
    .await
}
