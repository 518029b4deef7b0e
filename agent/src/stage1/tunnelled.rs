//! The tunnel: a fresh key in memory, its public half to the PO by way of the LM, and a request through the tunnel as its proof.

use super::welcome::Welcomed;
use crate::gateway::Gateway;
use crate::path_mtu;
use crate::plane::Plane;
use crate::report::{Fault, StepFailed};
use leaseboot_protocol::agent::InstallTask;
use leaseboot_protocol::gateway::SessionManifest;
use leaseboot_protocol::lease::Step;
use leaseboot_protocol::settings::{Blob, TenantImage};
use leaseboot_tunnel::PrivateKey;
use std::convert::Infallible;

const KEY_ATTEMPTS: u32 = 30;
/// The gateway may be down when we come: with waits of up to ten seconds, some five minutes.
const PROOF_ATTEMPTS: u32 = 30;

/// Lender and enterprise contradict each other.
#[derive(Debug, thiserror::Error)]
#[error(
    "lender and enterprise disagree about the {what}: the lender said {lender}, the enterprise says {enterprise}"
)]
struct Disagreement {
    what: &'static str,
    lender: String,
    enterprise: String,
}

/// The tunnel is up, and the enterprise has said what this server is to run.
pub(super) struct Tunnelled {
    pub(super) private_key: PrivateKey,
    pub(super) gateway: Gateway,
    pub(super) manifest: SessionManifest,
    /// The largest inner packet that the way to the gateway was found to carry: stage 2 need not begin anew, and on one of its planes could not look.
    pub(super) mtu: u16,
    /// Held for as long as anything is fetched through it.
    tunnel: Plane,
}

impl Tunnelled {
    /// Goes on looking for what the way carries: when the tunnel came up it may have been silent, or wider.
    pub(super) async fn keep_packet_size(&self, install: &InstallTask) -> Infallible {
        path_mtu::driver::keep(&self.tunnel, &install.tunnel, self.mtu).await
    }
}

impl Welcomed {
    pub(super) async fn tunnel(&self, install: &InstallTask) -> Result<Tunnelled, StepFailed> {
        let private_key = PrivateKey::generate();
        self.steps
            .run(Step::Key, KEY_ATTEMPTS, async |_| {
                let offered = self.session.offer_key(private_key.public()).await;
                offered.map_err(|error| Fault::sort(error.is_final(), error))
            })
            .await?;
        let gateway = Gateway::new(install.tunnel.gateway_service);
        let mut running = None;
        let manifest = self
            .steps
            .run(Step::Tunnel, PROOF_ATTEMPTS, async |_| {
                if running.is_none() {
                    running = Some(self.start(install, &private_key).await?);
                }
                let manifest = gateway
                    .session()
                    .await
                    .map_err(|error| Fault::Again(error.into()))?;
                agree(install, &manifest).map_err(|error| Fault::Final(error.into()))?;
                Ok(manifest)
            })
            .await?;
        let Some(tunnel) = running else {
            return Err(StepFailed(Step::Tunnel));
        };
        let mtu = path_mtu::driver::settle(&tunnel, &install.tunnel, install.tunnel.mtu).await;
        Ok(Tunnelled {
            private_key,
            gateway,
            manifest,
            mtu,
            tunnel,
        })
    }

    async fn start(&self, install: &InstallTask, key: &PrivateKey) -> Result<Plane, Fault> {
        let gateway = install.tunnel.gateway_endpoint.ip();
        let opened = self.wire.allow(gateway).await;
        opened.map_err(|error| Fault::Final(error.into()))?;
        self.drivers
            .borrow_mut()
            .load("tun")
            .map_err(|error| Fault::Final(error.into()))?;
        Plane::by_tun(key, &install.tunnel)
            .await
            .map_err(|error| Fault::Again(error.into()))
    }
}

fn agree(install: &InstallTask, manifest: &SessionManifest) -> Result<(), Disagreement> {
    let mut pairs = vec![("lease", install.lease.to_string(), manifest.lease.to_string())];
    match (&install.image, &manifest.image) {
        (TenantImage::Installer(lender), TenantImage::Installer(enterprise)) => pairs.extend([
            ("kernel", digest(&lender.kernel), digest(&enterprise.kernel)),
            ("initrd", digest(&lender.initrd), digest(&enterprise.initrd)),
            (
                "command line",
                lender.command_line.clone(),
                enterprise.command_line.clone(),
            ),
        ]),
        (TenantImage::Disk(lender), TenantImage::Disk(enterprise)) => pairs.extend([
            ("disk image", digest(&lender.stream), digest(&enterprise.stream)),
            (
                "disk image's list of digests",
                digest(&lender.chunks),
                digest(&enterprise.chunks),
            ),
            (
                "disk image's length",
                lender.size.to_string(),
                enterprise.size.to_string(),
            ),
        ]),
        (lender, enterprise) => pairs.push(("kind of image", kind(lender), kind(enterprise))),
    }
    match pairs
        .into_iter()
        .find(|(_, lender, enterprise)| lender != enterprise)
    {
        Some((what, lender, enterprise)) => Err(Disagreement {
            what,
            lender,
            enterprise,
        }),
        None => Ok(()),
    }
}

fn digest(blob: &Blob) -> String {
    blob.sha256.to_string()
}

fn kind(image: &TenantImage) -> String {
    let kind = match image {
        TenantImage::Installer(_) => "an installer",
        TenantImage::Disk(_) => "a disk image",
    };
    kind.to_owned()
}
