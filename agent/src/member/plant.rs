//! The member, left in the root of a disk image that the agent has written: no installer and no `%post` ran there.
//!
//! The image is whatever its maker made: a link in it may point anywhere. So everything is done by a thread that has changed its root to the image's
//! (chroot(2), with a file system context of its own by unshare(2)); no path leads out of there, and the rest of the agent keeps its root.
//!
//! | left | for |
//! |---|---|
//! | agent, key, units, as after an installation | the member's tunnel, which here also puts the card on the lender's wire |
//! | `/etc/hostname` | the name that the PO gave |
//! | `/var/lib/cloud/seed/nocloud` where there is cloud-init | the profile's text as user data, the name, and the card's address, which the lender owns |
//! | `/.autorelabel` where SELinux enforces | labels for what was left (selinux(8)); its first boot is one restart longer |

use super::install::{leave_files, put};
use crate::errors::AnyError;
use leaseboot_protocol::ids::{Hostname, LeaseId};
use leaseboot_protocol::network::LenderAddress;
use leaseboot_protocol::secret::Secret;
use leaseboot_protocol::stage2::MemberFacts;
use nix::sched::{CloneFlags, unshare};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

const SEED: &str = "/var/lib/cloud/seed/nocloud";
/// Where distributions have cloud-init.
const CLOUD_INIT: [&str; 2] = ["usr/bin/cloud-init", "etc/cloud/cloud.cfg"];

/// What is left.
pub(crate) struct Plant {
    /// The lease: cloud-init takes user data for new when the instance has a new name.
    pub(crate) lease: LeaseId,
    /// The server's name inside the enterprise.
    pub(crate) hostname: Hostname,
    /// The card on the lender's wire.
    pub(crate) address: LenderAddress,
    /// The member's tunnel.
    pub(crate) facts: MemberFacts,
    /// cloud-init's user data, sealed values filled in; may be empty.
    pub(crate) user_data: Secret,
}

/// Leaves the member in the system that is mounted at `root`.
pub(crate) fn plant(root: &Path, plant: Plant) -> Result<(), AnyError> {
    let agent = fs::read("/proc/self/exe")?;
    let (root, outside) = (root.to_owned(), fs::File::open("/")?);
    let inside = move || -> Result<(), AnyError> {
        unshare(CloneFlags::CLONE_FS)?;
        nix::unistd::chroot(&root)?;
        std::env::set_current_dir("/")?;
        let left = leave(Path::new("/"), &plant, &agent);
        // A thread's context lives on for a moment after it was joined, and would keep the image's root busy.
        nix::unistd::fchdir(&outside)?;
        nix::unistd::chroot(".")?;
        left
    };
    let ended = std::thread::spawn(inside).join();
    ended.unwrap_or_else(|_| Err("the thread that left the member in the disk image broke off".into()))
}

fn leave(root: &Path, plant: &Plant, agent: &[u8]) -> Result<(), AnyError> {
    leave_files(root, &plant.facts, agent)?;
    put(
        root,
        "/etc/hostname",
        0o644,
        format!("{}\n", plant.hostname).as_bytes(),
    )?;
    let text = plant.user_data.expose();
    if CLOUD_INIT.iter().any(|path| root.join(path).exists()) {
        leave_seed(root, plant)?;
    } else if !text.trim().is_empty() {
        return Err("the profile has a text for cloud-init, and the disk image has no cloud-init to read it: take the text away, or use an image with cloud-init".into());
    }
    let selinux = fs::read_to_string(root.join("etc/selinux/config")).unwrap_or_default();
    if selinux.lines().any(|line| line.trim() == "SELINUX=enforcing") {
        put(root, "/.autorelabel", 0o644, b"")?;
    }
    Ok(())
}

/// cloud-init's NoCloud data source, before all others (cloud-init's documentation, "NoCloud").
fn leave_seed(root: &Path, plant: &Plant) -> Result<(), AnyError> {
    let text = match plant.user_data.expose() {
        text if text.trim().is_empty() => "#cloud-config\n",
        text => text,
    };
    let meta_data = format!(
        "instance-id: leaseboot-{}\nlocal-hostname: {}\n",
        plant.lease, plant.hostname
    );
    put(root, &format!("{SEED}/user-data"), 0o600, text.as_bytes())?;
    put(root, &format!("{SEED}/meta-data"), 0o600, meta_data.as_bytes())?;
    put(
        root,
        &format!("{SEED}/network-config"),
        0o600,
        network_config(&plant.address).as_bytes(),
    )
}

/// cloud-init's network configuration, version 2: the card by its address, since its name is the image's own affair.
fn network_config(address: &LenderAddress) -> String {
    let mut text = format!(
        "version: 2\nethernets:\n  lender:\n    match: {{macaddress: \"{}\"}}\n    addresses: [\"{}\"]\n    mtu: {}\n",
        address.mac, address.address, address.mtu
    );
    if let Some(router) = address.router {
        // Writing to a string does not fail.
        let _ = writeln!(text, "    routes: [{{to: \"0.0.0.0/0\", via: \"{router}\"}}]");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn example(user_data: &str) -> Plant {
        let facts: MemberFacts = serde_json::from_str(
            r#"{"tunnel":{"address":"10.99.0.10/24","gateway_endpoint":"198.51.100.2:51820",
                "gateway_public_key":"hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=","allowed_ips":["10.99.0.0/24"],
                "gateway_service":"10.99.0.1:80","mtu":1420,"keepalive_s":15},"private_key":"a","joins_the_wire":true}"#,
        )
        .unwrap();
        let address =
            r#"{"mac":"52:54:00:4c:42:01","address":"10.10.0.11/24","router":"10.10.0.1","mtu":1500}"#;
        Plant {
            lease: "l-1".parse().unwrap(),
            hostname: "web-1".parse().unwrap(),
            address: serde_json::from_str(address).unwrap(),
            facts,
            user_data: Secret::new(user_data),
        }
    }

    fn system(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn cloud_init_finds_text_name_and_address_and_nobody_else_reads_them() {
        let root = system(&[("usr/bin/cloud-init", ""), ("etc/hostname", "localhost\n")]);
        leave(
            root.path(),
            &example("#cloud-config\npackages: [nginx]\n"),
            b"agent",
        )
        .unwrap();
        let read = |path: &str| fs::read_to_string(root.path().join(path)).unwrap();
        assert_eq!(read("etc/hostname"), "web-1\n");
        assert_eq!(
            read("var/lib/cloud/seed/nocloud/user-data"),
            "#cloud-config\npackages: [nginx]\n"
        );
        assert_eq!(
            read("var/lib/cloud/seed/nocloud/meta-data"),
            "instance-id: leaseboot-l-1\nlocal-hostname: web-1\n"
        );
        let network = read("var/lib/cloud/seed/nocloud/network-config");
        assert!(
            network.contains("52:54:00:4c:42:01")
                && network.contains("10.10.0.11/24")
                && network.contains("10.10.0.1")
        );
        let mode = |path: &str| fs::metadata(root.path().join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode("var/lib/cloud/seed/nocloud/user-data"), 0o600);
        assert!(read("etc/leaseboot/member.json").contains("\"joins_the_wire\": true"));
        assert!(!root.path().join(".autorelabel").exists());
    }

    #[test]
    fn an_image_without_cloud_init_is_fine_unless_there_is_a_text_for_it() {
        let root = system(&[("etc/selinux/config", "# SELinux\nSELINUX=enforcing\n")]);
        leave(root.path(), &example(" \n"), b"agent").unwrap();
        assert!(!root.path().join("var").exists());
        assert!(root.path().join(".autorelabel").exists());
        let refused = leave(root.path(), &example("#cloud-config\nusers: []\n"), b"agent").unwrap_err();
        assert!(refused.to_string().contains("no cloud-init"));
    }
}
