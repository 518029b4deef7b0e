//! The lender's keys, each one line in flow style, so that where it ends is plain to see.

use super::DISK_ID;
use crate::merge::Lender;
use leaseboot_protocol::hardware::Firmware;
use leaseboot_protocol::leases::Line;
use std::fmt::Write as _;

const USUAL_MTU: u16 = 1500;

/// What a key of the lender is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Topic {
    Network,
    Match,
    Disk,
    Shutdown,
}

/// The lender's keys.
pub(super) struct LenderKeys<'a> {
    pub(super) origin: &'a str,
    lines: [(Topic, String, &'static str); 4],
}

impl<'a> LenderKeys<'a> {
    pub(super) fn new(lender: &Lender<'_>, origin: &'a str, disk: &str) -> Self {
        // udev's name of a disk is its bus, a dash, and the ID_SERIAL that subiquity matches.
        let serial = disk.split_once('-').map_or(disk, |(_, serial)| serial);
        let mut action = format!(
            "- {{id: {DISK_ID}, type: disk, match: {{serial: \"{serial}\"}}, ptable: gpt, wipe: superblock-recursive, preserve: false"
        );
        // With UEFI the boot loader goes to the EFI system partition, which is the enterprise's to make.
        if matches!(lender.hardware.firmware, Firmware::Bios) {
            action.push_str(", grub_device: true");
        }
        action.push('}');
        Self {
            origin,
            lines: [
                (Topic::Network, network(lender), "its wire"),
                (
                    Topic::Match,
                    format!("match: {{serial: \"{serial}\"}}"),
                    "the only disk that is used",
                ),
                (
                    Topic::Disk,
                    action,
                    "the only disk that is used, with a fresh partition table",
                ),
                (
                    Topic::Shutdown,
                    "shutdown: reboot".to_owned(),
                    "into the installed system",
                ),
            ],
        }
    }

    /// Number, text and reason of a key.
    pub(super) fn key(&self, topic: Topic) -> (usize, &str, &'static str) {
        let mut lines = (1..).zip(&self.lines);
        let (number, (_, text, why)) = lines
            .find(|(_, (of, ..))| *of == topic)
            .expect("there is a line for each topic");
        (number, text, why)
    }

    /// The same as a problem names it.
    pub(super) fn line(&self, topic: Topic) -> Line {
        let (number, text, _) = self.key(topic);
        Line {
            origin: self.origin.to_owned(),
            number,
            text: text.to_owned(),
        }
    }
}

/// netplan, version 2.
fn network(lender: &Lender<'_>) -> String {
    let place = lender.place;
    let mut settings = format!("dhcp4: false, dhcp6: false, addresses: [\"{}\"]", place.address);
    if let Some(router) = place.router {
        let _ = write!(settings, ", routes: [{{to: \"0.0.0.0/0\", via: \"{router}\"}}]");
    }
    if place.mtu != USUAL_MTU {
        let _ = write!(settings, ", mtu: {}", place.mtu);
    }
    let card = format!("match: {{macaddress: \"{}\"}}", place.mac);
    match place.vlan {
        None => format!("network: {{version: 2, ethernets: {{lender: {{{card}, {settings}}}}}}}"),
        Some(tag) => format!(
            "network: {{version: 2, ethernets: {{card: {{{card}, dhcp4: false, dhcp6: false}}}}, \
             vlans: {{lender: {{id: {tag}, link: card, {settings}}}}}}}"
        ),
    }
}
