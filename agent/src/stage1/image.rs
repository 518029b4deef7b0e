//! A disk image in place of an installer: it is written to the disk from stage 1, and there is no stage 2.
//!
//! ```text
//! Tunnelled ─text, sealed values─► image on the disk, agreed ─► member left in it ─► bootable ─► key registered ─► the LM knows ─► reboot
//! ```
//!
//! The key is registered last, because the PO takes it as the sign that the installation is complete. The reboot waits for the lender's word that it knows too:
//! the firmware asks the LM what to boot, and must be sent to the disk by then.

use super::gather::FETCH_ATTEMPTS;
use super::tunnelled::Tunnelled;
use super::welcome::Welcomed;
use crate::console::say;
use crate::disk_image::{self, Written};
use crate::errors::AnyError;
use crate::lm::Session;
use crate::member::install::register;
use crate::member::plant::{Plant, plant};
use crate::report::{Fault, StepFailed};
use leaseboot_protocol::agent::{Directive, InstallTask, Reports};
use leaseboot_protocol::disk_image::DiskImage;
use leaseboot_protocol::gateway::MemberSettings;
use leaseboot_protocol::lease::Step;
use leaseboot_protocol::network::WireguardPublicKey;
use leaseboot_protocol::secret::Secret;
use leaseboot_protocol::stage2::MemberFacts;
use leaseboot_tunnel::PrivateKey;
use std::time::{Duration, Instant};

/// How long the PO may take to tell the LM that the member's key is registered.
const LM_KNOWS_DEADLINE: Duration = Duration::from_secs(60);
const LM_POLL: Duration = Duration::from_millis(500);

impl Tunnelled {
    /// Writes the image and leaves the member in it.
    pub(super) async fn write_image(
        &self,
        install: &InstallTask,
        image: &DiskImage,
        welcomed: &Welcomed,
    ) -> Result<(), StepFailed> {
        let steps = &welcomed.steps;
        let merged = self.kickstart(welcomed).await?;
        let mut text = Some(self.fill(steps, &merged).await?);
        let begun = Instant::now();
        let written = steps
            .run(Step::Image, FETCH_ATTEMPTS, async |progress| {
                let written = disk_image::write(self.gateway, image, &install.disk, progress).await;
                written.map_err(|error| Fault::sort(error.is_final(), error))
            })
            .await?;
        tell_speed(image, begun.elapsed());
        let mut written = Some(written);
        let key = PrivateKey::generate();
        steps
            .run(Step::Member, 1, async |_| {
                let (Some(written), Some(text)) = (written.take(), text.take()) else {
                    return Err(Fault::Final("the member was left twice".into()));
                };
                let member = self
                    .leave_member(install, written, &key, text)
                    .map_err(Fault::Final)?;
                self.announce_key(install, key.public(), &member)
                    .await
                    .map_err(Fault::Final)
            })
            .await?;
        until_lm_knows(&welcomed.session).await;
        Ok(())
    }

    /// Everything that is done to the disk after the image agreed; blocks for the seconds that it takes.
    fn leave_member(
        &self,
        install: &InstallTask,
        written: Written,
        key: &PrivateKey,
        user_data: Secret,
    ) -> Result<MemberSettings, AnyError> {
        let member = self.manifest.member.clone();
        let member = member.ok_or("the enterprise did not say what the member will be; its procurement organizer is older than disk images")?;
        let grown = written.grow()?;
        let root = grown.mount_root()?;
        let what = Plant {
            lease: install.lease.clone(),
            hostname: member.hostname.clone(),
            address: install.address.clone(),
            facts: MemberFacts {
                address: Some(install.address.clone()),
                joins_the_wire: true,
                tunnel: member.tunnel.clone(),
                private_key: key.to_base64(),
            },
            user_data,
        };
        plant(root.path(), what)?;
        root.unmount()?;
        let _bootable = grown.make_bootable()?;
        Ok(member)
    }

    async fn announce_key(
        &self,
        install: &InstallTask,
        key: WireguardPublicKey,
        told: &MemberSettings,
    ) -> Result<(), AnyError> {
        let registered = register(&install.tunnel, key).await?;
        match registered == *told {
            true => Ok(()),
            false => {
                Err("the enterprise changed the member's settings while its disk image was written".into())
            }
        }
    }
}

fn tell_speed(image: &DiskImage, took: Duration) {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20) / took.as_secs_f64().max(0.001);
    say!(
        "disk image: {:.1} MiB/s of the disk, {:.1} MiB/s of the tunnel",
        mib(image.size),
        mib(image.stream.size)
    );
}

/// Once the LM counts the server among the installed, the session of this boot is over; that is its word.
async fn until_lm_knows(session: &Session) {
    let knows = async {
        loop {
            match session.report(&Reports::default()).await {
                Ok(Directive::PowerOff) => return,
                Err(error) if error.is_final() => return,
                _ => tokio::time::sleep(LM_POLL).await,
            }
        }
    };
    if tokio::time::timeout(LM_KNOWS_DEADLINE, knows).await.is_err() {
        say!(
            "the lease manager does not know yet that the disk is written; it may send the server to stage 1 once more"
        );
    }
}
