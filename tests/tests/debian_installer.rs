//! debian-installer as Debian ships it, from power-on to its first downloads out of the enterprise's mirror. Its kernel has no TUN device, so it
//! is the proxy that carries them. It ends there: the installer's further components cannot be had in this laboratory.

use anyhow::{Context as _, Result};
use leaseboot_tests::capture::Packets;
use leaseboot_tests::debian_installer::{self, INSTALLER};
use leaseboot_tests::lab::{CHAIN, Plan, ROOT_PASSWORD_HASH};
use std::time::Duration;

const STEP: Duration = Duration::from_secs(3 * 60);

#[tokio::test]
async fn the_real_installer_follows_the_merged_preseed_to_its_first_downloads_through_the_tunnel()
-> Result<()> {
    Plan::named("debian-installer")
        .without_installer()
        .captured()
        .run(async |lab| {
            let mirror = debian_installer::add(lab).await?;
            let _borrowing = lab.borrow(INSTALLER)?;
            let serial = lab.machine().serial();
            serial.wait_for("stage 2: handing over to /init", CHAIN).await?;
            // Whoever asks is the installer: busybox's wget looks at the mirror, then net-retriever fetches what the Release names.
            for (asked, agent) in [
                ("GET /debian/dists/bookworm/Release 200", "Wget"),
                ("GET /debian/dists/bookworm/main/binary-amd64/Release 200", "Wget"),
                (
                    "GET /debian/dists/bookworm/main/debian-installer/binary-amd64/Packages 200",
                    "debian-installer",
                ),
            ] {
                let line = mirror.requests().wait_for(asked, STEP).await?;
                assert!(line.contains(agent), "{line}");
            }
            let capture = lab.capture.take().context("the plan asked for a capture")?;
            nothing_in_clear(&capture.stop().await?);
            Ok(())
        })
        .await
}

/// No word of the preseed, of its sealed value or of the downloads was on the lender's wire.
fn nothing_in_clear(packets: &Packets) {
    // The search can find something: what the lender itself sends in clear.
    assert!(
        !packets.find(b"#!ipxe").is_empty(),
        "the capture of {} bytes is not one of a boot",
        packets.size()
    );
    for secret in [
        ROOT_PASSWORD_HASH,
        "sealed:",
        "partman-auto",
        "GET /debian",
        "dists/bookworm",
        "Codename: bookworm",
        "172.20.0.2",
        "GET /v1/image",
    ] {
        assert_eq!(
            packets.find(secret.as_bytes()),
            Vec::<String>::new(),
            "{secret} crossed the lender's wire in clear"
        );
    }
}
