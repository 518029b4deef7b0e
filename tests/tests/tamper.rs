//! Whatever is changed after the enterprise has agreed to it is refused before it is used, and the lender sees why.

use anyhow::Result;
use leaseboot_protocol::lease::Step;
use leaseboot_tests::assets::flip_a_byte;
use leaseboot_tests::events::Tenant;
use leaseboot_tests::lab::{CHAIN, Lab, Plan};
use leaseboot_tests::machine::Power;
use leaseboot_tests::tiny_image::{SEEN, TINY};
use std::time::Duration;

const ORDERED: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_changed_kernel_is_refused() -> Result<()> {
    tampered("tamper-kernel", Step::Kernel, async |lab| {
        flip_a_byte(&lab.po.image(TINY).join("vmlinuz"))
    })
    .await
}

#[tokio::test]
async fn a_changed_initrd_is_refused() -> Result<()> {
    tampered("tamper-initrd", Step::Initrd, async |lab| {
        flip_a_byte(&lab.po.image(TINY).join("initrd.img"))
    })
    .await
}

#[tokio::test]
async fn a_changed_kickstart_is_refused() -> Result<()> {
    tampered("tamper-kickstart", Step::Kickstart, async |lab| {
        let store = lab.lm.folder().join("lm.sqlite").display().to_string();
        let change = "UPDATE kickstarts SET merged = replace(merged, 'timezone UTC', 'timezone CET');
            SELECT count(*) FROM kickstarts WHERE merged LIKE '%timezone CET%'";
        let arguments = ["-cmd", ".timeout 10000", &store, change];
        let changed = lab.network.lender.run("sqlite3", &arguments).await?;
        assert_eq!(changed.trim(), "1", "there was no kickstart to change");
        Ok(())
    })
    .await
}

/// Borrows a server, tampers when the power goes on, and sees the refusal of `step` and nothing of the second kernel.
async fn tampered(name: &str, step: Step, tamper: impl AsyncFn(&Lab) -> Result<()>) -> Result<()> {
    let plan = Plan::named(name).tiny().one_attempt();
    plan.run(async |lab| {
        let mut borrowing = lab.borrow(TINY)?;
        borrowing
            .during(lab.machine().wait_for_power(Power::On, ORDERED))
            .await?;
        let mut history = Tenant::of(lab).follow(ORDERED).await?;
        tamper(lab).await?;
        let refusal = history.wait_for_failure(step, CHAIN).await?;
        assert!(refusal.contains("not used"), "{refusal}");
        borrowing.fails(CHAIN).await?;
        let status = lab.lm.status(&[]).await?;
        assert!(
            status.contains("not used"),
            "the lender sees no reason:\n{status}"
        );
        let serial = lab.machine().serial();
        assert!(!serial.tail(usize::MAX).contains(SEEN));
        assert!(!serial.tail(usize::MAX).contains("stage 2"));
        Ok(())
    })
    .await
}
