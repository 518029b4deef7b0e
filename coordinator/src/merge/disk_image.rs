//! A disk image: there is no installer to talk to, so the lender has no line to add. The text, cloud-init's user data or nothing at all, goes through as it is;
//! what is the lender's, the disk and the card's address, the agent is told directly.
//!
//! The disk must hold the whole image: it is written as it is, and grows to the disk's size afterwards.

use super::problems::Problems;
use super::provenance::Sheet;
use super::{Lender, Placed, autoinstall, disk};
use leaseboot_protocol::settings::{InstallSettings, TenantImage};

pub(super) fn merge(
    lender: &Lender<'_>,
    settings: &InstallSettings,
    origin: &str,
    problems: &mut Problems<'_>,
) -> Option<Placed> {
    let TenantImage::Disk(image) = &settings.image else {
        problems.general(
            "the profile's installer is a disk image, and its image is a kernel with an initrd: name the image's own installer".to_owned(),
        );
        return None;
    };
    let disk = disk::choose(lender, &disk::Need::of_image(image.size), problems);
    if lender.tenant.sealed_secrets && !settings.kickstart.trim().is_empty() {
        autoinstall::demand_seals(&settings.kickstart, problems);
    }
    let lines: Vec<&str> = settings.kickstart.lines().collect();
    let mut sheet = Sheet::new(&settings.kickstart_origin, origin, lines.len());
    for (number, line) in (1..).zip(lines) {
        sheet.enterprise(number, line);
    }
    disk.map(|disk| Placed {
        lines: sheet.finish(),
        disk: disk.by_id.clone(),
    })
}

#[cfg(test)]
mod tests {
    use crate::merge::tests::{House, settings};
    use crate::merge::{LineOwner, Merged};
    use leaseboot_protocol::digest::Sha256;
    use leaseboot_protocol::disk_image::DiskImage;
    use leaseboot_protocol::installer::Installer;
    use leaseboot_protocol::leases::MergeProblem;
    use leaseboot_protocol::settings::{Blob, TenantImage};

    const TEXT: &str =
        "#cloud-config\nchpasswd: {expire: false}\nusers:\n  - {name: web, passwd: \"$6$a$b\"}\n";

    fn merged(house: &House, text: &str, gib: u64) -> Result<Merged, Vec<MergeProblem>> {
        let mut settings = settings(text);
        let blob = Blob {
            path: "/v1/image/disk".to_owned(),
            size: 1,
            sha256: Sha256::of(b""),
        };
        settings.installer = Installer::DiskImage {};
        settings.image = TenantImage::Disk(DiskImage {
            stream: blob.clone(),
            chunks: blob,
            size: gib << 30,
        });
        house.merge(&settings)
    }

    #[test]
    fn the_text_goes_through_as_it_is_to_a_disk_that_holds_the_image() {
        let merged = merged(&House::new(), TEXT, 2).unwrap();
        assert_eq!(merged.kickstart, TEXT);
        assert!(
            merged
                .lines
                .iter()
                .all(|line| line.owner == LineOwner::Enterprise)
        );
        // The small disk has 1 GiB.
        assert_eq!(merged.disk, "virtio-LARGE");
    }

    #[test]
    fn no_text_is_a_text() {
        assert_eq!(merged(&House::new(), "", 2).unwrap().kickstart, "");
    }

    #[test]
    fn an_image_that_no_disk_holds_is_refused_before_power_goes_on() {
        let problems = merged(&House::new(), TEXT, 21).unwrap_err();
        assert!(problems[0].message.contains("21506 MiB"), "{problems:?}");
    }

    #[test]
    fn where_the_terms_demand_seals_the_text_is_looked_at() {
        let house = House {
            sealed_secrets: true,
            ..House::new()
        };
        assert!(merged(&house, TEXT, 2).is_err());
        assert!(merged(&house, "#!/bin/sh\necho root:x | chpasswd\n", 2).is_err());
        assert!(merged(&house, &TEXT.replace("$6$a$b", "@sealed:root_password@"), 2).is_ok());
        assert!(merged(&house, "", 2).is_ok());
    }

    #[test]
    fn an_installer_is_no_disk_image() {
        let mut settings = settings(TEXT);
        settings.installer = Installer::DiskImage {};
        assert!(House::new().merge(&settings).is_err());
    }
}
