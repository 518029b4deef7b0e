//! FAI, Debian's "fully automatic installation": a foreign installer that finishes.
//!
//! `tests/fai/build` makes its live image and configuration space; here they become a boot image, a profile and a web server of the
//! enterprise. Everything that FAI does is said in `tests/fai`, in FAI's own forms.

use crate::folders::Folders;
use crate::lab::{BUSY_HOST, Lab, ROOT_PASSWORD_HASH};
use crate::managers::Profile;
use crate::mirror::Mirror;
use anyhow::{Context as _, Result, ensure};
use std::path::{Path, PathBuf};
use tokio::process::Command;

/// The name of image and profile.
pub const FAI: &str = "fai";
/// The live image comes over HTTP once dracut has an address, as FAI's own boot menus have it; the rest are FAI's variables.
const COMMAND_LINE: &str = "rd.live.image rd.live.overlay.overlayfs=1 root=live:http://172.20.0.2/fai/squash.img rd.neednet=1 ip=dhcp \
    FAI_ACTION=install FAI_FLAGS=verbose,reboot FAI_CONFIG_SRC=http://172.20.0.2/fai/config.tar.gz";

/// Makes what is missing or out of date: a minute the first time.
pub async fn make(folders: &Folders) -> Result<()> {
    let mut command = Command::new(folders.sources().join("fai/build"));
    command.arg(place(folders));
    let status = command.status().await.context("cannot run tests/fai/build")?;
    ensure!(
        status.success(),
        "tests/fai/build ended with {status}; its own words are above"
    );
    Ok(())
}

/// Puts image and profile in place and serves what FAI fetches, with Debian's packages beside it.
pub async fn add(lab: &Lab) -> Result<Mirror> {
    let folders = Folders::find()?;
    let files = place(&folders);
    ensure!(
        files.join("squash.img").is_file(),
        "FAI's live image is not in {}: `cargo xtask test` makes it",
        files.display()
    );
    let command_line = format!("{COMMAND_LINE} {BUSY_HOST}");
    lab.po.add_image(
        FAI,
        &files.join("vmlinuz"),
        &files.join("initrd.img"),
        &command_line,
    )?;
    lab.po.add_profile(&profile(&folders.sources())?)?;
    lab.po.set_installer(FAI, "fai")?;
    let trees = [("/fai", files), ("/debian", folders.assets().join("debian"))];
    Mirror::start(&lab.network, lab.folder.path(), &trees).await
}

fn place(folders: &Folders) -> PathBuf {
    folders.assets().join("fai")
}

fn profile(sources: &Path) -> Result<Profile> {
    let path = sources.join("fai/web.var");
    Ok(Profile {
        name: FAI.to_owned(),
        image: FAI.to_owned(),
        kickstart: std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?,
        hostname: "web-{n}".to_owned(),
        labels: Vec::new(),
        sealed: vec![("root_password".to_owned(), ROOT_PASSWORD_HASH.to_owned())],
    })
}
