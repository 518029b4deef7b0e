//! An initrd of Debian's that does to the network what installers do: systemd, udev, NetworkManager, dhclient. `tests/survival` makes it, and says what it does.

use crate::assets::Assets;
use crate::folders::Folders;
use crate::lab::{BUSY_HOST, Lab, web_profile};
use crate::managers::Profile;
use anyhow::{Context as _, Result, ensure};
use std::path::PathBuf;
use tokio::process::Command;

/// The name of image and profile.
pub const SURVIVAL: &str = "survival";

/// Makes it when it is out of date: a minute the first time.
pub async fn make(folders: &Folders) -> Result<()> {
    let mut command = Command::new(folders.sources().join("survival/build"));
    command.arg(place(folders));
    let status = command
        .status()
        .await
        .context("cannot run tests/survival/build")?;
    ensure!(
        status.success(),
        "tests/survival/build ended with {status}; its own words are above"
    );
    Ok(())
}

/// Puts image and profile in place; the kernel is started with these words as well, of which `scenario=` chooses what happens.
pub fn add(lab: &Lab, words: &str) -> Result<()> {
    let folders = Folders::find()?;
    let initrd = place(&folders).join("initrd.img");
    ensure!(
        initrd.is_file(),
        "{} is not there: `cargo xtask test` makes it",
        initrd.display()
    );
    let command_line = format!("console=tty0 panic=10 {BUSY_HOST} {words}");
    let kernel = Assets::find(&folders)?.kernel();
    lab.po.add_image(SURVIVAL, &kernel, &initrd, &command_line)?;
    let web = web_profile(&folders.sources())?;
    lab.po.add_profile(&Profile {
        name: SURVIVAL.to_owned(),
        image: SURVIVAL.to_owned(),
        ..web
    })
}

fn place(folders: &Folders) -> PathBuf {
    folders.assets().join("survival")
}
