//! debian-installer as Debian ships it for network boot, and a mirror for it.
//!
//! The package `debian-installer-12-netboot-amd64` has kernel and initrd, which are used as they are; whoever builds the laboratory puts them
//! into `target/lab/assets/debian-installer`. The installer's own components (`.udeb`) come from a mirror in the field. None can be had here, so
//! the mirror's list of them is empty, in the form that the installer asks for: it reads the list, says that it has no kernel modules, and stops.

use crate::folders::Folders;
use crate::lab::{BUSY_HOST, Lab, ROOT_PASSWORD_HASH};
use crate::managers::Profile;
use crate::mirror::Mirror;
use crate::namespace::checked;
use anyhow::{Context as _, Result, ensure};
use leaseboot_protocol::digest::Sha256;
use std::path::{Path, PathBuf};
use tokio::process::Command;

/// The name of image and profile.
pub const INSTALLER: &str = "debian-installer";
/// Where the installer looks for its components, below the suite.
const COMPONENTS: &str = "main/debian-installer/binary-amd64/Packages";

/// Where kernel (`linux`) and initrd (`initrd.gz`) of the installer are.
pub fn place(folders: &Folders) -> PathBuf {
    folders.assets().join("debian-installer")
}

/// Puts image and profile in place and serves the mirror. The installer speaks its plain text interface, so that its lines can be read on a
/// serial console.
pub async fn add(lab: &Lab) -> Result<Mirror> {
    let folders = Folders::find()?;
    let files = place(&folders);
    ensure!(
        files.join("initrd.gz").is_file(),
        "debian-installer is not in {}: `cargo xtask test` puts it there",
        files.display()
    );
    let command_line = format!("DEBIAN_FRONTEND=text TERM=dumb {BUSY_HOST} --- quiet");
    let initrd = lab.folder.path().join("initrd.gz");
    with_module_lists(&files.join("initrd.gz"), &initrd).await?;
    lab.po
        .add_image(INSTALLER, &files.join("linux"), &initrd, &command_line)?;
    lab.po.add_profile(&profile(&folders.sources())?)?;
    lab.po.set_installer(INSTALLER, "preseed")?;
    let mirror = lab.folder.path().join("mirror");
    write_mirror(&mirror).context("cannot write the mirror")?;
    Mirror::start(&lab.network, lab.folder.path(), &[("/debian", mirror)]).await
}

/// The installer makes the lists of its modules (`modules.dep` and its like) when it starts, and the wrapper needs them before. So they follow the
/// initrd, which stays as it is, in an archive of their own, as `leaseboot-po image add --modules` puts it there.
async fn with_module_lists(initrd: &Path, place: &Path) -> Result<()> {
    let script = r#"
        zcat "$1" | cpio --quiet --extract --make-directories --directory "$3" 'lib/modules/*'
        depmod -b "$3" "$(ls "$3/lib/modules")" 2> "$3/said"
        cp "$1" "$2"
        truncate --size=%4 "$2"
        cd "$3"
        find lib -name 'modules.*' | cpio --quiet --create --format=newc --owner=0:0 >> "$2"
    "#;
    let unpacked = tempfile::tempdir().context("cannot make a folder")?;
    let mut command = Command::new("sh");
    command
        .args(["-e", "-c", script, "sh"])
        .args([initrd, place, unpacked.path()]);
    checked(&mut command)
        .await
        .context("cannot make the lists of the installer's modules")?;
    Ok(())
}

fn profile(sources: &Path) -> Result<Profile> {
    let path = sources.join("debian-installer/web.preseed");
    Ok(Profile {
        name: INSTALLER.to_owned(),
        image: INSTALLER.to_owned(),
        kickstart: std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?,
        hostname: "web-{n}".to_owned(),
        labels: Vec::new(),
        sealed: vec![("root_password".to_owned(), ROOT_PASSWORD_HASH.to_owned())],
    })
}

/// What the installer fetches first: the suite's Release, which is not signed, that of its architecture, and the list of components.
fn write_mirror(root: &Path) -> Result<()> {
    let suite = root.join("dists/bookworm");
    let write = |name: &str, text: &str| {
        let path = suite.join(name);
        path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        std::fs::write(path, text)
    };
    let list = "";
    let digest = Sha256::of(list.as_bytes());
    write(
        "Release",
        &format!(
            "Origin: enterprise\nSuite: bookworm\nCodename: bookworm\nArchitectures: amd64\nComponents: main\n\
             Date: Thu, 01 Jan 1970 00:00:00 UTC\nSHA256:\n {digest} {} {COMPONENTS}\n",
            list.len()
        ),
    )?;
    write(
        "main/binary-amd64/Release",
        "Suite: bookworm\nComponent: main\nArchitecture: amd64\n",
    )?;
    write(COMPONENTS, list)?;
    Ok(())
}
