//! Firmware other than the transfers': UEFI's own PXE client, which gets GRUB, up to the enterprise's kernel, and the NVRAM that such a server comes back with.

use anyhow::Result;
use leaseboot_tests::lab::{CHAIN, Plan};
use leaseboot_tests::machine::Firmware;
use leaseboot_tests::servers::Server;
use leaseboot_tests::tiny_image::{BOOT_ENTRY, SEEN, TINY};

const HOSTNAME: &str = "tiny-1";

#[tokio::test]
async fn uefi_reaches_the_enterprises_kernel_and_its_boot_entry_goes_with_the_lease() -> Result<()> {
    let mut server = Server::numbered(1);
    server.hardware.firmware = Firmware::Uefi;
    let plan = Plan::named("firmware-uefi").servers(vec![server]).tiny();
    plan.run(async |lab| {
        let mut borrowing = lab.borrow(TINY)?;
        let serial = lab.machine().serial();
        borrowing
            .during(serial.wait_for("left a boot entry", CHAIN))
            .await?;
        borrowing.during(serial.wait_for(SEEN, CHAIN)).await?;
        drop(borrowing);
        lab.po.release(HOSTNAME).await?;
        let record = lab.po.erasure(HOSTNAME).await?;
        let words = lab.lm.verify_erasure(&record).await?;
        assert!(
            words.contains(&format!("boot entry removed: {BOOT_ENTRY}")),
            "the tenant's boot entry was not removed:\n{words}"
        );
        Ok(())
    })
    .await
}
