//! The lender's lines, and how they are put between the enterprise's.

use super::reader::{Command, Script};
use crate::merge::provenance::{MergedLine, Sheet};
use crate::merge::{Lender, console_words};
use leaseboot_protocol::MEMBER_INSTALL;
use leaseboot_protocol::leases::Line;
use leaseboot_protocol::settings::InstallSettings;
use std::fmt::Write as _;

const USUAL_MTU: u16 = 1500;

/// What a line of the lender is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Topic {
    Network,
    OnlyDisk,
    ZeroMbr,
    ClearPart,
    BootLoader,
    Reboot,
}

/// The lender's lines in their order.
pub(super) struct LenderLines<'a> {
    origin: &'a str,
    console: String,
    boot_options: String,
    lines: [(Topic, &'static str, String); 6],
}

impl<'a> LenderLines<'a> {
    pub(super) fn new(lender: &Lender<'_>, origin: &'a str, disk: &str) -> Self {
        let disk = format!("disk/by-id/{disk}");
        let console = console_words(lender.console);
        let boot_options = format!("--location=mbr --boot-drive={disk}");
        let boot_loader = match console.as_str() {
            "" => format!("bootloader {boot_options}"),
            console => format!("bootloader {boot_options} --append=\"{console}\""),
        };
        let lines = [
            (Topic::Network, "its wire", network(lender)),
            (
                Topic::OnlyDisk,
                "the only disk that is used",
                format!("ignoredisk --only-use={disk}"),
            ),
            (Topic::ZeroMbr, "a fresh partition table", "zerombr".to_owned()),
            (
                Topic::ClearPart,
                "nothing of it is kept",
                format!("clearpart --all --initlabel --drives={disk}"),
            ),
            (
                Topic::BootLoader,
                "the boot loader's place and the console",
                boot_loader,
            ),
            (Topic::Reboot, "into the installed system", "reboot".to_owned()),
        ];
        Self {
            origin,
            console,
            boot_options,
            lines,
        }
    }

    /// The lender's line about a topic, as a problem names it.
    pub(super) fn line(&self, topic: Topic) -> Line {
        let (index, (_, _, text)) = self
            .lines
            .iter()
            .enumerate()
            .find(|(_, (of, _, _))| *of == topic)
            .expect("there is a line for each topic");
        Line {
            origin: self.origin.to_owned(),
            number: index + 1,
            text: text.clone(),
        }
    }

    pub(super) fn has_console(&self) -> bool {
        !self.console.is_empty()
    }

    /// The merged lines. `script` has been checked: nothing in it is the lender's.
    pub(super) fn join(&self, script: &Script<'_>, settings: &InstallSettings) -> Vec<MergedLine> {
        let mut sheet = Sheet::new(&settings.kickstart_origin, self.origin, script.lines.len());
        let boot_loader = script.named("bootloader").next();
        for (number, line) in (1..).zip(&script.lines) {
            if script.first_section == Some(number) {
                self.add(&mut sheet, script, settings);
            }
            match boot_loader.filter(|command| command.number == number) {
                Some(command) => self.add_shared_boot_loader(&mut sheet, command),
                None => sheet.enterprise(number, line),
            }
        }
        if script.first_section.is_none() {
            self.add(&mut sheet, script, settings);
        }
        sheet.agreed("");
        sheet.agreed("# leaseboot: the member's key, made on the server, and its tunnel.");
        sheet.agreed("%post --nochroot --erroronfail");
        sheet.agreed(MEMBER_INSTALL);
        sheet.agreed("%end");
        sheet.finish()
    }

    fn add(&self, sheet: &mut Sheet<'_>, script: &Script<'_>, settings: &InstallSettings) {
        let stated = |name: &str| script.named(name).next().is_some();
        for (number, (topic, purpose, line)) in (1..).zip(&self.lines) {
            let said = match topic {
                Topic::BootLoader => stated("bootloader"),
                Topic::Reboot => stated("reboot"),
                _ => false,
            };
            if !said {
                sheet.lender(number, format!("# lender: {purpose}"), *purpose);
                sheet.lender(number, line.as_str(), *purpose);
            }
        }
        if !stated("network") {
            sheet.settings("# enterprise: the server's name, from the lease's settings");
            sheet.settings(format!("network --hostname={}", settings.hostname));
        }
        sheet.lender(self.lines.len(), "", "");
    }

    fn add_shared_boot_loader(&self, sheet: &mut Sheet<'_>, command: &Command<'_>) {
        let why = "--location, --boot-drive and console= are the lender's, the rest is the enterprise's";
        sheet.lender(
            self.line(Topic::BootLoader).number,
            "# lender: --location, --boot-drive and console=; enterprise: the rest",
            why,
        );
        let mut line = format!("bootloader {}", self.boot_options);
        let mut words = command.words[1..].iter();
        let mut appended = self.console.is_empty();
        while let Some(word) = words.next() {
            let value = match word.strip_prefix("--append") {
                Some("") => words.next().map(String::as_str),
                Some(value) => value.strip_prefix('='),
                None => None,
            };
            match value {
                Some(value) => {
                    let joined = format!("{value} {}", self.console);
                    let _ = write!(line, " --append={}", quote(joined.trim()));
                    appended = true;
                }
                None => {
                    let _ = write!(line, " {}", quote_word(word));
                }
            }
        }
        if !appended {
            let _ = write!(line, " --append={}", quote(&self.console));
        }
        sheet.both(command.number, line, why);
    }
}

fn network(lender: &Lender<'_>) -> String {
    let place = lender.place;
    let mut line = format!(
        "network --device={} --bootproto=static --ip={} --netmask={}",
        place.mac,
        place.address.addr(),
        place.address.netmask()
    );
    if let Some(router) = place.router {
        let _ = write!(line, " --gateway={router}");
    }
    if place.mtu != USUAL_MTU {
        let _ = write!(line, " --mtu={}", place.mtu);
    }
    if let Some(tag) = place.vlan {
        let _ = write!(line, " --vlanid={tag}");
    }
    // The wrapper holds the card during the installation, so the installer must leave it alone.
    line.push_str(" --noipv6 --onboot=yes --no-activate");
    line
}

fn quote_word(word: &str) -> String {
    match word.split_once('=') {
        Some((name, value)) if name.starts_with("--") => format!("{name}={}", quote(value)),
        _ => quote(word),
    }
}

/// So that a splitter of shell words gives `value` back.
fn quote(value: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./:=,@+$%".contains(&b);
    if !value.is_empty() && value.bytes().all(plain) {
        return value.to_owned();
    }
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}
