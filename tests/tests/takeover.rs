//! Two Lease Managers on one PostgreSQL database, of which the one that a server was booted by dies.

use anyhow::Result;
use leaseboot_tests::download::{assert_in_mid_download, goes_on, in_mid_download};
use leaseboot_tests::lab::{CHAIN, Plan};
use leaseboot_tests::standby::Standby;

/// The agent's own `[api] others` lead it to the second; nobody gives it another address, and nobody cycles its power.
#[tokio::test]
async fn an_agent_whose_lm_dies_goes_on_with_another() -> Result<()> {
    let plan = Plan::named("takeover").without_installer();
    plan.run(async |lab| {
        let standby = Standby::beside(lab).await?;
        let (borrowing, mut history) = in_mid_download(lab).await?;
        lab.lm.crash().await?;
        standby.take_tenants(lab).await?;
        assert_in_mid_download(lab);
        goes_on(lab, &mut history, CHAIN).await?;
        // It followed the transfer all along, through the change of managers.
        drop(borrowing);
        let told = standby.lm.said()?.tail(usize::MAX);
        assert!(
            told.contains("installing"),
            "the second does not tell of the transfer:\n{told}"
        );
        Ok(())
    })
    .await
}
