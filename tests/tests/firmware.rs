//! Firmware other than the transfers': UEFI's own PXE client, which gets GRUB, up to the enterprise's kernel.

use anyhow::Result;
use leaseboot_tests::lab::{CHAIN, Plan};
use leaseboot_tests::machine::Firmware;
use leaseboot_tests::servers::Server;
use leaseboot_tests::tiny_image::{SEEN, TINY};

#[tokio::test]
async fn uefi_reaches_the_enterprises_kernel() -> Result<()> {
    let mut server = Server::numbered(1);
    server.hardware.firmware = Firmware::Uefi;
    let plan = Plan::named("firmware-uefi").servers(vec![server]).tiny();
    plan.run(async |lab| {
        let mut borrowing = lab.borrow(TINY)?;
        borrowing
            .during(lab.machine().serial().wait_for(SEEN, CHAIN))
            .await?;
        Ok(())
    })
    .await
}
