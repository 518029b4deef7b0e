//! The lender's lines, and how they are put between the enterprise's.

use super::reader::{Command, Script};
use super::{Lender, console_words};
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
pub(super) struct LenderLines {
    origin: String,
    console: String,
    boot_options: String,
    lines: [(Topic, &'static str, String); 6],
}

impl LenderLines {
    pub(super) fn new(lender: &Lender<'_>, disk: &str) -> Self {
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
            origin: format!("lender's settings of {}", lender.server),
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
            origin: self.origin.clone(),
            number: index + 1,
            text: text.clone(),
        }
    }

    pub(super) fn has_console(&self) -> bool {
        !self.console.is_empty()
    }

    /// The merged text. `script` has been checked: nothing in it is the lender's.
    pub(super) fn join(&self, script: &Script<'_>, settings: &InstallSettings) -> String {
        let mut text = String::with_capacity(settings.kickstart.len() + 2048);
        let boot_loader = script.named("bootloader").next();
        for (number, line) in (1..).zip(&script.lines) {
            if script.first_section == Some(number) {
                self.add(&mut text, script, settings);
            }
            match boot_loader.filter(|command| command.number == number) {
                Some(command) => self.add_shared_boot_loader(&mut text, command),
                None => add_line(&mut text, line),
            }
        }
        if script.first_section.is_none() {
            self.add(&mut text, script, settings);
        }
        add_line(&mut text, "");
        add_line(
            &mut text,
            "# leaseboot: the member's key, made on the server, and its tunnel.",
        );
        add_line(&mut text, "%post --nochroot --erroronfail");
        add_line(&mut text, MEMBER_INSTALL);
        add_line(&mut text, "%end");
        text
    }

    fn add(&self, text: &mut String, script: &Script<'_>, settings: &InstallSettings) {
        let stated = |name: &str| script.named(name).next().is_some();
        for (topic, purpose, line) in &self.lines {
            let said = match topic {
                Topic::BootLoader => stated("bootloader"),
                Topic::Reboot => stated("reboot"),
                _ => false,
            };
            if !said {
                add_line(text, &format!("# lender: {purpose}"));
                add_line(text, line);
            }
        }
        if !stated("network") {
            add_line(text, "# enterprise: the server's name, from the lease's settings");
            add_line(text, &format!("network --hostname={}", settings.hostname));
        }
        add_line(text, "");
    }

    fn add_shared_boot_loader(&self, text: &mut String, command: &Command<'_>) {
        add_line(
            text,
            "# lender: --location, --boot-drive and console=; enterprise: the rest",
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
        add_line(text, &line);
    }
}

fn add_line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
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
