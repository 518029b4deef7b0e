//! A kernel that panics does not stand still, and its last words reach the LM with the next boot.

use anyhow::Result;
use leaseboot_protocol::lease::{EventKind, LeaseEvent, Step};
use leaseboot_tests::events::Tenant;
use leaseboot_tests::folders::Folders;
use leaseboot_tests::lab::{CHAIN, Plan};
use leaseboot_tests::machine::Firmware;
use leaseboot_tests::servers::Server;
use leaseboot_tests::tiny_image::{self, Packing, SEEN};
use std::time::Duration;

const ORDERED: Duration = Duration::from_secs(60);
const PANICS: &str = "panics";
/// What the image's init does last: it has the kernel panic (kernel document admin-guide/sysrq).
/// The sender of the log looks every three seconds, so its first message is on its way by then.
const ENDING: &str = "echo \"scenario: all seen\"\n/bin/busybox sleep 8\necho c > /proc/sysrq-trigger\n";

#[tokio::test]
async fn the_last_words_of_the_enterprises_kernel_are_told_in_the_next_boot() -> Result<()> {
    let mut server = Server::numbered(1);
    server.hardware.firmware = Firmware::Uefi;
    let plan = Plan::named("panic").servers(vec![server]).without_installer();
    plan.run(async |lab| {
        let archive = tiny_image::archive_ending(&Folders::find()?, 0, ENDING).await?;
        tiny_image::add_profile(&lab.po, PANICS, &Packing::Zstd.pack(&archive).await?, &[])?;
        let mut borrowing = lab.borrow(PANICS)?;
        let mut history = borrowing.during(Tenant::of(lab).follow(ORDERED)).await?;
        let serial = lab.machine().serial();
        borrowing.during(serial.wait_for(SEEN, CHAIN)).await?;
        let told = |event: &LeaseEvent| {
            matches!(
                &event.what,
                EventKind::StepFailed { step: Step::EarlierBoot, error, kernel_log, .. }
                    if error.iter().any(|line| line.contains("sysrq triggered crash"))
                        && kernel_log.iter().any(|line| line.contains("Call Trace"))
            )
        };
        borrowing
            .during(history.wait_for("last words of the kernel", CHAIN, told))
            .await?;
        // Both sides have the console: the lender that of stage 1, the enterprise that of its own kernel.
        let lenders = lab.lm.boot_log(history.lease()).await?;
        assert!(lenders.contains("leaseboot: tunnel: done"), "{lenders}");
        assert!(
            lenders.contains("Linux version"),
            "the kernel's lines are missing:\n{lenders}"
        );
        let enterprises = lab.po.boot_log("panics-1").await?;
        assert!(enterprises.contains("leaseboot: stage 2: done"), "{enterprises}");
        // The restart was the kernel's own: nobody touched the power.
        assert_eq!(lab.machine().starts(), 1);
        Ok(())
    })
    .await
}
