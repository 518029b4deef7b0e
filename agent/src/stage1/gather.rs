//! The chain: kickstart, sealed values, kernel and initrd, each checked against the enterprise's word, put together and loaded.

use super::tunnelled::Tunnelled;
use super::welcome::Welcomed;
use crate::blob::{self, Verified};
use crate::clock;
use crate::kexec;
use crate::report::{Fault, StepFailed, Steps};
use leaseboot_protocol::agent::InstallTask;
use leaseboot_protocol::archive::Archive;
use leaseboot_protocol::digest::Sha256;
use leaseboot_protocol::lease::Step;
use leaseboot_protocol::marks;
use leaseboot_protocol::secret::Secret;
use leaseboot_protocol::settings::Blob;
use leaseboot_protocol::stage2::Stage2Facts;
use leaseboot_protocol::{KICKSTART_PATH, STAGE2_FACTS_PATH, WRAPPER_PATH};

const REQUEST_ATTEMPTS: u32 = 30;
const FETCH_ATTEMPTS: u32 = 3;
const DEFAULT_INIT: &str = "/init";

/// What came from the lender is not what the enterprise agreed to.
#[derive(Debug, thiserror::Error)]
#[error(
    "the merged kickstart is not the one that the enterprise agreed to: its digest is {found}, agreed was {agreed}; it was not used"
)]
struct ForeignKickstart {
    agreed: Sha256,
    found: Sha256,
}

impl Tunnelled {
    /// Gathers everything and loads the second kernel.
    pub(super) async fn chain(&self, install: &InstallTask, welcomed: &Welcomed) -> Result<(), StepFailed> {
        let steps = &welcomed.steps;
        let merged = self.kickstart(welcomed).await?;
        let kickstart = self.fill(steps, &merged).await?;
        let kernel = self
            .fetch(steps, Step::Kernel, &self.manifest.image.kernel)
            .await?;
        let initrd = self
            .fetch(steps, Step::Initrd, &self.manifest.image.initrd)
            .await?;
        let mut parts = Some((kernel, initrd));
        steps
            .run(Step::Kexec, 1, async |_| {
                let failed = |error: crate::errors::AnyError| Fault::Final(error);
                let Some((kernel, initrd)) = parts.take() else {
                    return Err(failed("loaded twice".into()));
                };
                let archive = self.archive(install, welcomed, &kickstart).map_err(failed)?;
                let ramdisk = initrd
                    .with_archive(&archive)
                    .map_err(|error| failed(error.into()))?;
                let command_line =
                    command_line(&self.manifest.image.command_line, &install.lender_command_line);
                kexec::load(&kernel, &ramdisk, &command_line).map_err(|error| failed(error.into()))
            })
            .await
    }

    async fn kickstart(&self, welcomed: &Welcomed) -> Result<String, StepFailed> {
        let agreed = self.manifest.kickstart_sha256;
        welcomed
            .steps
            .run(Step::Kickstart, REQUEST_ATTEMPTS, async |progress| {
                let bytes = welcomed.session.kickstart().await;
                let bytes = bytes.map_err(|error| Fault::sort(error.is_final(), error))?;
                progress.bytes(bytes.len() as u64, None);
                let found = Sha256::of(&bytes);
                if found != agreed {
                    return Err(Fault::Final(ForeignKickstart { agreed, found }.into()));
                }
                String::from_utf8(bytes.into()).map_err(|error| Fault::Final(error.into()))
            })
            .await
    }

    async fn fill(&self, steps: &Steps, merged: &str) -> Result<Secret, StepFailed> {
        steps
            .run(Step::Sealed, REQUEST_ATTEMPTS, async |_| {
                let sealed = self
                    .gateway
                    .sealed()
                    .await
                    .map_err(|error| Fault::Again(error.into()))?;
                marks::fill(merged, &sealed.values).map_err(|error| Fault::Final(error.into()))
            })
            .await
    }

    async fn fetch(&self, steps: &Steps, step: Step, blob: &Blob) -> Result<Verified, StepFailed> {
        steps
            .run(step, FETCH_ATTEMPTS, async |progress| {
                let fetched = blob::fetch(self.gateway, blob, progress).await;
                fetched.map_err(|error| Fault::sort(error.is_final(), error))
            })
            .await
    }

    /// The archive that follows the enterprise's initrd: the agent as wrapper, its facts, and the kickstart.
    fn archive(
        &self,
        install: &InstallTask,
        welcomed: &Welcomed,
        kickstart: &Secret,
    ) -> Result<Vec<u8>, crate::errors::AnyError> {
        let facts = Stage2Facts {
            lease: install.lease.clone(),
            lm_url: welcomed.facts.lm_url.clone(),
            lm_ca_pem: welcomed.facts.lm_ca_pem.clone(),
            session_token: welcomed.session.token().clone(),
            clock: clock::now(),
            init: image_init(&self.manifest.image.command_line),
            address: install.address.clone(),
            tunnel: install.tunnel.clone(),
            private_key: self.private_key.to_base64(),
        };
        let mut archive = Archive::new();
        archive.file(WRAPPER_PATH, 0o755, std::fs::read("/proc/self/exe")?)?;
        archive.file(STAGE2_FACTS_PATH, 0o600, serde_json::to_vec(&facts)?)?;
        archive.file(KICKSTART_PATH, 0o600, kickstart.expose().as_bytes())?;
        Ok(archive.to_bytes())
    }
}

/// The program that the image itself names by `rdinit=`.
fn image_init(command_line: &str) -> String {
    let named = command_line
        .split_whitespace()
        .filter_map(|word| word.strip_prefix("rdinit="))
        .next_back();
    named.unwrap_or(DEFAULT_INIT).to_owned()
}

/// The image's own words, the lender's, and ours; of repeated words the kernel takes the last.
fn command_line(image: &str, lender: &str) -> String {
    let image = image
        .split_whitespace()
        .filter(|word| !word.starts_with("rdinit="));
    let ours = [
        format!("rdinit={WRAPPER_PATH}"),
        format!("inst.ks=file:{KICKSTART_PATH}"),
    ];
    image
        .chain(lender.split_whitespace())
        .map(str::to_owned)
        .chain(ours)
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_images_own_init_is_kept_for_the_wrapper() {
        assert_eq!(image_init("quiet rdinit=/sbin/first rdinit=/linuxrc"), "/linuxrc");
        assert_eq!(image_init("quiet"), "/init");
        assert_eq!(
            command_line("inst.text rdinit=/linuxrc", "console=ttyS0,115200"),
            "inst.text console=ttyS0,115200 rdinit=/leaseboot/init inst.ks=file:/leaseboot/ks.cfg"
        );
    }
}
