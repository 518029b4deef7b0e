//! Rescue mode: the agent stays, and lets in whom the lease lets in.

use anyhow::Result;
use leaseboot_protocol::lease::{EventKind, LeaseEvent, Step};
use leaseboot_tests::events::Tenant;
use leaseboot_tests::lab::{CHAIN, Plan};
use leaseboot_tests::tiny_image::{SEEN, TINY};
use leaseboot_tests::typing::{Said, type_into};
use std::time::{Duration, Instant};
use tokio::process::Command;

const ORDERED: Duration = Duration::from_secs(60);
/// What is typed, and what only a shell on a server makes of it.
const TYPED: &str = "echo rescued $((6*7)) by $(cat /leaseboot/shell.sha256 | head -c 4); exit\n";
const SHOWN: &str = "rescued 42 by ";

fn begins(event: &LeaseEvent) -> bool {
    matches!(event.what, EventKind::StepStarted { step: Step::Rescue })
}

fn ends(event: &LeaseEvent) -> bool {
    matches!(
        event.what,
        EventKind::StepFinished {
            step: Step::Rescue,
            ..
        }
    )
}

/// Types into a console, again until there is one.
async fn console(command: impl Fn() -> Command) -> Result<Said> {
    let begun = Instant::now();
    loop {
        let said = type_into(command(), TYPED, ORDERED).await?;
        if said.well || begun.elapsed() > CHAIN {
            return Ok(said);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test]
async fn the_tenant_has_its_console_and_the_lender_only_with_consent() -> Result<()> {
    let plan = Plan::named("rescue").tiny();
    plan.run(async |lab| {
        let mut borrowing = lab.borrow(TINY)?;
        let mut history = borrowing.during(Tenant::of(lab).follow(ORDERED)).await?;
        let lease = history.lease().to_string();
        let server = lab.machine().hardware().name.clone();
        lab.po.order(&["rescue", &lease]).await?;
        lab.lm.order(&["servers", "rescue", &server]).await?;
        borrowing
            .during(history.wait_for("rescue mode", CHAIN, begins))
            .await?;

        let refused = type_into(lab.lm.command(&["console", &server]), TYPED, ORDERED).await?;
        assert!(
            !refused.well && refused.text.contains("has not agreed"),
            "{refused:?}"
        );
        let tenants = console(|| lab.po.command(&["console", &lease])).await?;
        assert!(tenants.text.contains(SHOWN), "{tenants:?}");

        lab.po.order(&["rescue", &lease, "--lender-console"]).await?;
        let lenders = console(|| lab.lm.command(&["console", &server])).await?;
        assert!(lenders.text.contains(SHOWN), "{lenders:?}");
        lab.po.order(&["rescue", &lease, "--off"]).await?;
        let refused = type_into(lab.lm.command(&["console", &server]), TYPED, ORDERED).await?;
        assert!(
            !refused.well && refused.text.contains("has not agreed"),
            "consent was withdrawn: {refused:?}"
        );

        lab.lm.order(&["servers", "rescue", &server, "--off"]).await?;
        borrowing
            .during(history.wait_for("end of rescue mode", CHAIN, ends))
            .await?;
        borrowing
            .during(lab.machine().serial().wait_for(SEEN, CHAIN))
            .await?;
        assert_eq!(lab.machine().starts(), 1, "it went on from where it was");

        let audit = lab.lm.order(&["audit"]).await?;
        for deed in [
            "order rescue mode",
            "agree to a console",
            "open a console",
            "close a console",
        ] {
            assert!(
                audit.contains(deed),
                "the audit log does not tell of {deed:?}:\n{audit}"
            );
        }
        let consoles = lab.po.order(&["console", "--list", &lease]).await?;
        assert!(consoles.contains("bytes shown"), "{consoles}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_lender_looks_at_a_server_that_nobody_has() -> Result<()> {
    let plan = Plan::named("rescue-free").without_installer();
    plan.run(async |lab| {
        let server = lab.machine().hardware().name.clone();
        let early = type_into(lab.lm.command(&["console", &server]), TYPED, ORDERED).await?;
        assert!(
            !early.well && early.text.contains("not in rescue mode"),
            "{early:?}"
        );
        lab.lm.order(&["servers", "rescue", &server]).await?;
        let said = console(|| lab.lm.command(&["console", &server])).await?;
        assert!(said.text.contains(SHOWN), "{said:?}");
        lab.lm.order(&["servers", "rescue", &server, "--off"]).await?;
        lab.machine().serial().wait_for("powering off", CHAIN).await?;
        Ok(())
    })
    .await
}
