//! A foreign installer that finishes: FAI, from Debian's packages, boots its live image over HTTP through the tunnel, installs by its own
//! classes, and leaves the member's tunnel by a class script.

use anyhow::Result;
use leaseboot_tests::fai::{self, FAI};
use leaseboot_tests::lab::{INSTALLATION, Plan};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(1);

#[tokio::test]
async fn fai_installs_through_the_tunnel_and_its_class_script_leaves_the_members() -> Result<()> {
    Plan::named("fai")
        .without_installer()
        .run(async |lab| {
            let mirror = fai::add(lab).await?;
            lab.borrow(FAI)?.in_service(INSTALLATION).await?;
            let page = lab.page("10.99.0.10").await?;
            assert!(page.contains("enterprise web server web-1"), "{page}");
            // Stage 1 by power, and everything after it without: FAI restarts the machine itself.
            assert_eq!(lab.machine().starts(), 1);
            // It was FAI, by FAI's means: dracut and FAI itself fetch by curl, Debian's packages come by apt.
            for (asked, agent) in [
                ("GET /fai/squash.img 200", "curl/"),
                ("GET /fai/config.tar.gz 200", "curl/"),
                ("GET /debian/dists/bookworm/Release 200", "APT-HTTP"),
            ] {
                let line = mirror.requests().wait_for(asked, SOON).await?;
                assert!(line.contains(agent), "{line}");
            }
            let serial = lab.machine().serial();
            for words in [
                "Calling task_install",
                "LENT/90-member       OK.",
                "FAI finished at",
            ] {
                serial.wait_for(words, SOON).await?;
            }
            Ok(())
        })
        .await
}
