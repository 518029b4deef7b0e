//! Boards that hang in kexec: the LM finds out by its deadline, and the server enters the enterprise's kernel by way of its own disk.
//!
//! A board hangs here when the laboratory stops its processors at the moment at which stage 1 enters the second kernel, so the agent and its kernel have done
//! all that they can, and nothing of it helps.

use anyhow::{Context as _, Result};
use leaseboot_protocol::lease::{EventKind, Step};
use leaseboot_tests::events::{History, Tenant};
use leaseboot_tests::lab::{CHAIN, INSTALLATION, Lab, Plan};
use leaseboot_tests::machine::{Firmware, PowerOrder};
use leaseboot_tests::managers::Borrowing;
use leaseboot_tests::residue;
use leaseboot_tests::servers::Server;
use leaseboot_tests::tiny_image::{SEEN, TINY};
use memchr::memmem;
use std::time::Duration;

const ORDERED: Duration = Duration::from_secs(60);
/// What stage 1's kernel says last; the LM has every report by then.
const LEAVING: &str = "Starting new kernel";
/// What the wrapper says when it has removed what was staged.
const REMOVED: &str = "bytes of the disk virtio-LAB0001 are zeros again";
/// What the script says when the digests that it pins are not those of the files.
const REFUSED: &str = "what was staged could not be entered";
/// What GRUB's `hashsum` says of a file with another digest; its last letter may come later on this line, since two consoles share it.
const MISMATCH: &str = "ramdisk: HASH MISMATC";

/// Lets the first boot hang, and waits until the second has staged everything.
async fn hang_once(lab: &Lab, borrowing: &mut Borrowing) -> Result<History> {
    let mut history = borrowing.during(Tenant::of(lab).follow(ORDERED)).await?;
    let serial = lab.machine().serial();
    borrowing.during(serial.wait_for(LEAVING, CHAIN)).await?;
    lab.machine().order(PowerOrder::Hang).await?;
    let staged = |event: &leaseboot_protocol::lease::LeaseEvent| {
        matches!(
            event.what,
            EventKind::StepFinished {
                step: Step::Stage,
                ..
            }
        )
    };
    borrowing
        .during(history.wait_for("staged image", CHAIN * 2, staged))
        .await?;
    Ok(history)
}

/// The whole way, and the next lease of the same model takes it at once. What lay on the disk meanwhile is no more, and no byte of the image
/// crossed the lender's wire.
#[tokio::test]
async fn a_board_that_hangs_enters_the_image_from_its_disk_and_is_remembered() -> Result<()> {
    let plan = Plan::named("second-way")
        .captured()
        .tiny()
        .deadline("chained", 45);
    plan.run(async |lab| {
        let mut borrowing = lab.borrow(TINY)?;
        let mut history = hang_once(lab, &mut borrowing).await?;
        let serial = lab.machine().serial();
        borrowing.during(serial.wait_for(REMOVED, CHAIN)).await?;
        borrowing.during(serial.wait_for(SEEN, CHAIN)).await?;
        let entered = |event: &leaseboot_protocol::lease::LeaseEvent| {
            matches!(
                event.what,
                EventKind::StepFinished {
                    step: Step::Wrapper,
                    ..
                }
            )
        };
        history.wait_for("sign of stage 2", CHAIN, entered).await?;
        assert_eq!(lab.machine().starts(), 3, "kexec, stage 1 again, the disk");
        let disk = &lab.machine().disk_files()[0];
        assert_eq!(residue::first_byte_left(disk)?, None, "something is still staged");
        let kernel = std::fs::read(lab.po.image(TINY).join("initrd.img"))?;
        let piece = &kernel[kernel.len() / 2..][..48];
        let packets = lab
            .capture
            .take()
            .context("the plan asked for a capture")?
            .stop()
            .await?;
        assert_eq!(
            packets.find(piece),
            Vec::<String>::new(),
            "the image crossed the wire in clear"
        );
        assert!(
            memmem::find(&kernel, piece).is_some() && !packets.find(b"/boot/sums/").is_empty(),
            "the capture is one of this boot"
        );
        // The tiny image powers the server off: it restarts by itself as far as the LM can tell, and stage 1 runs again, by the way that worked.
        lab.machine().order(PowerOrder::On).await?;
        let again = history.events().len();
        let staged = |event: &leaseboot_protocol::lease::LeaseEvent| {
            usize::try_from(event.sequence).is_ok_and(|sequence| sequence > again)
                && matches!(event.what, EventKind::StepStarted { step: Step::Stage })
        };
        borrowing
            .during(history.wait_for("second staging", CHAIN, staged))
            .await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn uefi_enters_the_image_from_its_disk_too() -> Result<()> {
    let mut server = Server::numbered(1);
    server.hardware.firmware = Firmware::Uefi;
    let plan = Plan::named("second-way-uefi").servers(vec![server]);
    plan.tiny()
        .deadline("chained", 45)
        .run(async |lab| {
            let mut borrowing = lab.borrow(TINY)?;
            hang_once(lab, &mut borrowing).await?;
            borrowing
                .during(lab.machine().serial().wait_for(SEEN, CHAIN))
                .await?;
            Ok(())
        })
        .await
}

/// Somebody reaches the disk between the staging and the start. What he left is not run, and by the deadline of its state (five minutes, for which nobody waits here) the
/// lease goes on by kexec.
#[tokio::test]
async fn what_was_changed_on_the_disk_is_not_entered() -> Result<()> {
    let plan = Plan::named("second-way-changed").tiny().deadline("chained", 45);
    plan.run(async |lab| {
        let mut borrowing = lab.borrow(TINY)?;
        hang_once(lab, &mut borrowing).await?;
        let initrd = std::fs::read(lab.po.image(TINY).join("initrd.img"))?;
        residue::change(&lab.machine().disk_files()[0], &initrd[initrd.len() / 2..][..48])?;
        let serial = lab.machine().serial();
        borrowing.during(serial.wait_for(MISMATCH, CHAIN)).await?;
        borrowing.during(serial.wait_for(REFUSED, CHAIN)).await?;
        assert!(
            !serial.tail(usize::MAX).contains(SEEN),
            "the changed image was entered"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_whole_installation_by_way_of_the_disk_comes_into_service() -> Result<()> {
    Plan::named("second-way-installation")
        .deadline("chained", 45)
        .run(async |lab| {
            let mut borrowing = lab.borrow("web")?;
            hang_once(lab, &mut borrowing).await?;
            borrowing.in_service(INSTALLATION).await?;
            let page = lab.page("10.99.0.10").await?;
            assert!(page.contains("enterprise web server web-1"), "{page}");
            Ok(())
        })
        .await
}
