//! The chain: kickstart, sealed values, kernel and initrd, each checked against the enterprise's word, put together and loaded.

use super::tunnelled::Tunnelled;
use super::welcome::Welcomed;
use crate::blob::{self, Verified};
use crate::clock;
use crate::errors::AnyError;
use crate::gateway::Gateway;
use crate::kexec;
use crate::report::{Fault, StepFailed, Steps};
use crate::staging;
use leaseboot_protocol::agent::InstallTask;
use leaseboot_protocol::archive::Archive;
use leaseboot_protocol::digest::Sha256;
use leaseboot_protocol::handover::{Handover, StagedDisk};
use leaseboot_protocol::ids::LeaseId;
use leaseboot_protocol::installer::{Installer, SEED_FOLDER};
use leaseboot_protocol::lease::Step;
use leaseboot_protocol::marks;
use leaseboot_protocol::network::{MacAddress, TunnelSettings};
use leaseboot_protocol::secret::Secret;
use leaseboot_protocol::settings::{Blob, BootImage};
use leaseboot_protocol::stage2::Stage2Facts;
use leaseboot_protocol::{STAGE2_FACTS_PATH, WRAPPER_PATH};

const REQUEST_ATTEMPTS: u32 = 30;
pub(super) const FETCH_ATTEMPTS: u32 = 3;
const DEFAULT_INIT: &str = "/init";
/// Seconds until a kernel that panicked restarts the server, unless the image says otherwise.
const PANIC: &str = "panic=30";

/// What came from the lender is not what the enterprise agreed to.
#[derive(Debug, thiserror::Error)]
#[error(
    "the merged text is not the one that the enterprise agreed to: its digest is {found}, agreed was {agreed}; it was not used"
)]
struct ForeignKickstart {
    agreed: Sha256,
    found: Sha256,
}

/// What the chain ends with.
pub(super) enum Chain {
    /// The second kernel is loaded.
    Loaded,
    /// It lies on the server's disk, and the LM orders a start.
    Staged,
}

/// Everything that the second kernel needs, verified.
struct Gathered {
    kernel: Verified,
    initrd: Verified,
    kickstart: Secret,
    command_line: String,
}

impl Tunnelled {
    /// Gathers everything and loads the second kernel, or stages it where kexec is known to hang.
    pub(super) async fn chain(
        &self,
        install: &InstallTask,
        image: &BootImage,
        welcomed: &Welcomed,
    ) -> Result<Chain, StepFailed> {
        let steps = &welcomed.steps;
        let merged = self.kickstart(welcomed).await?;
        let kickstart = self.fill(steps, &merged).await?;
        let kernel = self.fetch(steps, Step::Kernel, &image.kernel).await?;
        let initrd = self.fetch(steps, Step::Initrd, &image.initrd).await?;
        let command_line = command_line(
            self.manifest.installer,
            install.address.mac,
            &image.command_line,
            &install.lender_command_line,
        );
        let gathered = Gathered {
            kernel,
            initrd,
            kickstart,
            command_line,
        };
        match install.handover {
            Handover::Disk => self.stage(install, image, welcomed, gathered).await,
            Handover::Kexec | Handover::Unknown => self.load(install, image, welcomed, gathered).await,
        }
    }

    async fn load(
        &self,
        install: &InstallTask,
        image: &BootImage,
        welcomed: &Welcomed,
        gathered: Gathered,
    ) -> Result<Chain, StepFailed> {
        let mut parts = Some(gathered);
        let failed = |error: AnyError| Fault::Final(error);
        welcomed
            .steps
            .run(Step::Kexec, 1, async |_| {
                let parts = parts.take().ok_or_else(|| failed("loaded twice".into()))?;
                let archive = self
                    .archive(install, image, welcomed, &parts.kickstart, None)
                    .map_err(failed)?;
                let ramdisk = parts
                    .initrd
                    .with_archive(&archive)
                    .map_err(|error| failed(error.into()))?;
                kexec::load(&parts.kernel, &ramdisk, &parts.command_line)
                    .map_err(|error| failed(error.into()))?;
                Ok(Chain::Loaded)
            })
            .await
    }

    async fn stage(
        &self,
        install: &InstallTask,
        image: &BootImage,
        welcomed: &Welcomed,
        gathered: Gathered,
    ) -> Result<Chain, StepFailed> {
        let mut parts = Some(gathered);
        let failed = |error: AnyError| Fault::Final(error);
        let staged = welcomed.steps.run(Step::Stage, 1, async |progress| {
            let parts = parts.take().ok_or_else(|| failed("staged twice".into()))?;
            let place = staging::Place::find(&install.disk, &parts.kernel, &parts.initrd)
                .map_err(|error| failed(error.into()))?;
            let archive = self
                .archive(install, image, welcomed, &parts.kickstart, Some(place.facts()))
                .map_err(failed)?;
            let ramdisk = parts
                .initrd
                .with_archive(&archive)
                .map_err(|error| failed(error.into()))?;
            place
                .write(&parts.kernel, &ramdisk, &parts.command_line, progress)
                .await
                .map_err(|error| failed(error.into()))
        });
        let staged = staged.await?;
        // In order: the LM takes what is staged once it has heard that it is.
        welcomed.delivery.flush().await;
        let told = welcomed.steps.run(Step::Kexec, REQUEST_ATTEMPTS, async |_| {
            let told = welcomed.session.staged(&staged).await;
            told.map_err(|error| Fault::sort(error.is_final(), error))
        });
        told.await?;
        Ok(Chain::Staged)
    }

    pub(super) async fn kickstart(&self, welcomed: &Welcomed) -> Result<String, StepFailed> {
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

    pub(super) async fn fill(&self, steps: &Steps, merged: &str) -> Result<Secret, StepFailed> {
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
        let mirrors = self.manifest.mirrors.iter().copied().map(Gateway::new);
        let sources: Vec<_> = std::iter::once(self.gateway).chain(mirrors).collect();
        steps
            .run(step, FETCH_ATTEMPTS, async |progress| {
                let fetched = blob::fetch(&sources, blob, progress).await;
                fetched.map_err(|error| Fault::sort(error.is_final(), error))
            })
            .await
    }

    /// The archive that follows the enterprise's initrd: the agent as wrapper, its facts, and the kickstart.
    fn archive(
        &self,
        install: &InstallTask,
        image: &BootImage,
        welcomed: &Welcomed,
        kickstart: &Secret,
        staged: Option<StagedDisk>,
    ) -> Result<Vec<u8>, AnyError> {
        let facts = Stage2Facts {
            lease: install.lease.clone(),
            lm_url: welcomed.facts.lm_url.clone(),
            lm_others: welcomed.facts.lm_others.clone(),
            lm_ca_pem: welcomed.facts.lm_ca_pem.clone(),
            session_token: welcomed.session.token().clone(),
            clock: clock::now(),
            init: image_init(&image.command_line),
            address: install.address.clone(),
            tunnel: TunnelSettings {
                mtu: self.mtu,
                ..install.tunnel.clone()
            },
            private_key: self.private_key.to_base64(),
            staged,
        };
        let mut archive = Archive::new();
        archive.file(WRAPPER_PATH, 0o755, std::fs::read("/proc/self/exe")?)?;
        archive.file(STAGE2_FACTS_PATH, 0o600, serde_json::to_vec(&facts)?)?;
        let installer = self.manifest.installer;
        archive.file(installer.text_path(), 0o600, kickstart.expose().as_bytes())?;
        if matches!(installer, Installer::Autoinstall {}) {
            archive.file(
                &format!("{SEED_FOLDER}/meta-data"),
                0o600,
                meta_data(&install.lease).as_bytes(),
            )?;
        }
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

/// cloud-init takes user data for new when the instance has a new name.
fn meta_data(lease: &LeaseId) -> String {
    format!("instance-id: leaseboot-{lease}\n")
}

/// The image's own words, the lender's, and ours; of repeated words the kernel takes the last. Where the installer keeps what
/// stands after `---` for the installed system, the lender's words go there: they are about its console.
fn command_line(installer: Installer, card: MacAddress, image: &str, lender: &str) -> String {
    let image = image
        .split_whitespace()
        .filter(|word| !word.starts_with("rdinit="));
    let (before, after): (Vec<_>, Vec<_>) = match image.clone().position(|word| word == "---") {
        Some(at) => (image.clone().take(at).collect(), image.skip(at + 1).collect()),
        None => (image.collect(), Vec::new()),
    };
    // A kernel that panics must not stand still: the restart is its report.
    let said = before.iter().chain(&after).copied();
    let restarts = said
        .chain(lender.split_whitespace())
        .any(|word| word.starts_with("panic="));
    let panic = (!restarts).then_some(PANIC);
    let rdinit = format!("rdinit={WRAPPER_PATH}");
    let bootif = format!("BOOTIF=01-{}", card.to_string().replace(':', "-"));
    let ours = [rdinit.as_str()]
        .into_iter()
        .chain(installer.kernel_arguments().iter().copied())
        // debian-installer's netcfg/choose_interface knows cards by name only, or by this word; dracut, which FAI starts from, would
        // ask for an address on every interface, the tunnel's included.
        .chain(matches!(installer, Installer::Preseed {} | Installer::Fai {}).then_some(bootif.as_str()));
    let lender = lender.split_whitespace();
    let words: Vec<_> = if installer.keeps_words_after_dashes() {
        let kept = ["---"].into_iter().chain(after).chain(lender);
        panic.into_iter().chain(before).chain(ours).chain(kept).collect()
    } else {
        panic
            .into_iter()
            .chain(before)
            .chain(after)
            .chain(lender)
            .chain(ours)
            .collect()
    };
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const CARD: MacAddress = MacAddress([0x52, 0x54, 0, 0x4c, 0x42, 1]);

    #[test]
    fn the_images_own_init_is_kept_for_the_wrapper() {
        assert_eq!(image_init("quiet rdinit=/sbin/first rdinit=/linuxrc"), "/linuxrc");
        assert_eq!(image_init("quiet"), "/init");
        assert_eq!(
            command_line(
                Installer::default(),
                CARD,
                "inst.text rdinit=/linuxrc",
                "console=ttyS0,115200"
            ),
            "panic=30 inst.text console=ttyS0,115200 rdinit=/leaseboot/init inst.ks=file:/leaseboot/ks.cfg"
        );
    }

    #[test]
    fn each_installer_is_told_where_its_text_is() {
        assert_eq!(
            command_line(
                Installer::Preseed {},
                CARD,
                "theme=dark --- quiet",
                "console=ttyS0"
            ),
            "panic=30 theme=dark rdinit=/leaseboot/init auto=true priority=critical preseed/file=/leaseboot/preseed.cfg BOOTIF=01-52-54-00-4c-42-01 --- quiet console=ttyS0"
        );
        assert_eq!(
            command_line(
                Installer::Autoinstall {},
                CARD,
                "ip=dhcp panic=5",
                "console=ttyS0"
            ),
            "ip=dhcp panic=5 rdinit=/leaseboot/init autoinstall ds=nocloud;s=file:///run/leaseboot/seed/ --- console=ttyS0"
        );
        assert_eq!(
            command_line(
                Installer::Fai {},
                CARD,
                "ip=dhcp FAI_ACTION=install",
                "console=ttyS0"
            ),
            "panic=30 ip=dhcp FAI_ACTION=install console=ttyS0 rdinit=/leaseboot/init BOOTIF=01-52-54-00-4c-42-01"
        );
    }
}
