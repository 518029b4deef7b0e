//! Servers that go back: what a tenant left is on no disk afterwards, and the enterprise holds the lender's signed word for it.

use anyhow::Result;
use leaseboot_tests::lab::{CHAIN, Lab, Plan};
use leaseboot_tests::machine::{Bus, Disk};
use leaseboot_tests::residue;
use leaseboot_tests::servers::Server;
use leaseboot_tests::tiny_image::{SEEN, TINY};

const HOSTNAME: &str = "tiny-1";
/// As small as the profile's partitions allow.
const SMALL_MIB: u64 = 2048;

#[tokio::test]
async fn disks_of_every_kind_come_back_empty() -> Result<()> {
    let mut server = Server::numbered(1);
    server.hardware.disks = vec![
        Disk::new(Bus::Virtio, "LABVIRTIO", SMALL_MIB),
        Disk::new(Bus::Sata, "LABSATA", 64),
        Disk::new(Bus::Nvme, "LABNVME", 64),
        Disk::new(Bus::Plain, "LABPLAIN", 64),
    ];
    let plan = Plan::named("give-back-disks").servers(vec![server]).tiny();
    plan.run(async |lab| {
        leave_a_pattern(lab)?;
        boot_tiny(lab).await?;
        release_over_a_crash(lab).await?;
        for disk in lab.machine().disk_files() {
            assert_eq!(residue::first_byte_left(&disk)?, None, "{}", disk.display());
        }
        let record = lab.po.erasure(HOSTNAME).await?;
        let words = lab.lm.verify_erasure(&record).await?;
        for serial in ["LABVIRTIO", "LABSATA", "LABNVME"] {
            assert!(words.contains(serial), "{words}");
        }
        assert!(
            words.contains("NVMe format") && words.contains("discard"),
            "{words}"
        );
        assert_eq!(lab.lm.custody("lab0001").await?.0, "free");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_disk_that_cannot_be_erased_keeps_the_server_in_quarantine() -> Result<()> {
    let mut server = Server::numbered(1);
    let mut worn_out = Disk::new(Bus::Virtio, "LABWORN", 64);
    worn_out.worn_out = true;
    server.hardware.disks = vec![Disk::new(Bus::Virtio, "LABGOOD", SMALL_MIB), worn_out];
    let plan = Plan::named("give-back-worn").servers(vec![server]).tiny();
    plan.run(async |lab| {
        leave_a_pattern(lab)?;
        boot_tiny(lab).await?;
        let told = lab.po.release(HOSTNAME).await;
        assert!(
            told.as_ref()
                .is_err_and(|error| format!("{error:#}").contains("LABWORN")),
            "the release goes as if nothing had been left: {told:?}"
        );
        let told = lab.po.erasure(HOSTNAME).await;
        assert!(
            told.is_err(),
            "the enterprise is not told that a disk is left: {told:?}"
        );
        let [good, worn] = &lab.machine().disk_files()[..] else {
            panic!("two disks")
        };
        assert_eq!(
            residue::first_byte_left(good)?,
            None,
            "the other disk is erased all the same"
        );
        assert_eq!(residue::first_byte_left(worn)?, Some(0));
        let (custody, reason) = lab.lm.custody("lab0001").await?;
        assert_eq!(custody, "quarantined", "{reason}");
        assert!(reason.contains("LABWORN"), "{reason}");
        Ok(())
    })
    .await
}

/// The LM is killed in the middle of the erasure, which costs nobody anything.
async fn release_over_a_crash(lab: &mut Lab) -> Result<()> {
    let Lab { lm, po, machines, .. } = lab;
    let crash = async {
        machines[0].serial().wait_for("erase: started", CHAIN).await?;
        lm.crash_and_restart().await
    };
    let (released, crashed) = tokio::join!(po.release(HOSTNAME), crash);
    crashed.and(released.map(drop))
}

fn leave_a_pattern(lab: &Lab) -> Result<()> {
    lab.machine()
        .disk_files()
        .iter()
        .try_for_each(|disk| residue::fill(disk))
}

/// As far as the enterprise's own kernel: from there on a server may hold a tenant's data.
async fn boot_tiny(lab: &mut Lab) -> Result<()> {
    let mut borrowing = lab.borrow(TINY)?;
    borrowing
        .during(lab.machine().serial().wait_for(SEEN, CHAIN))
        .await?;
    Ok(())
}
