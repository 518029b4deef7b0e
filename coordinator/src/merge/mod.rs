//! The merge of a kickstart: what the enterprise wants installed, joined with what the lender knows of its
//! hardware and wire.
//!
//! Pure, and far below a millisecond, so that it is made anew for every lease. The text of the enterprise stays
//! as it is, line by
//! line; the lender's lines are added before the first section and a `%post` at the end, each with a comment
//! that says whose it is.
//!
//! | line | owner |
//! |---|---|
//! | `network --device=…` and all addresses on it | lender |
//! | `network --hostname=` | enterprise |
//! | `ignoredisk`, `zerombr`, `clearpart`, disks by name | lender |
//! | `bootloader --location= --boot-drive=`, `console=` in `--append=` | lender |
//! | the rest of `bootloader`, `part` without disk names, packages, users, services, scripts | enterprise |
//! | `reboot` | lender; the enterprise may say the same |
//!
//! Nothing is ever overridden: a clash is a problem that names both lines, and all problems are told at once,
//! before any power goes on.

mod commands;
mod disk;
mod lender;
mod ownership;
mod reader;

use crate::boot::KernelWord;
use crate::search;
use leaseboot_protocol::hardware::HardwareReport;
use leaseboot_protocol::ids::ServerId;
use leaseboot_protocol::leases::{Line, MergeProblem};
use leaseboot_protocol::marks::{self, MarkError};
use leaseboot_protocol::network::LenderAddress;
use leaseboot_protocol::settings::{InstallSettings, Requirements};
use lender::LenderLines;
use reader::{Command, Script};

/// What the lender knows.
#[derive(Clone, Copy, Debug)]
pub struct Lender<'a> {
    /// The server.
    pub server: &'a ServerId,
    /// Its place on the lender's wire.
    pub place: &'a LenderAddress,
    /// Its console.
    pub console: Option<&'a KernelWord>,
    /// What it is made of.
    pub hardware: &'a HardwareReport,
    /// What the tenant asked for when it took the server: says which disk is meant.
    pub requirements: &'a Requirements,
}

/// A merge that can work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merged {
    /// The kickstart, sealed marks in place.
    pub kickstart: String,
    /// The disk that is installed on, as `/dev/disk/by-id` names it.
    pub disk: String,
}

/// The consoles of a server's kernels: the screen, and the serial line as the one that programs write to.
pub fn console_words(console: Option<&KernelWord>) -> String {
    console.map_or_else(String::new, |console| format!("console=tty0 console={console}"))
}

/// Merges, or says everything that is in the way.
///
/// # Errors
/// Every problem at once.
pub fn merge(lender: &Lender<'_>, settings: &InstallSettings) -> Result<Merged, Vec<MergeProblem>> {
    let mut problems = Problems {
        origin: &settings.kickstart_origin,
        found: Vec::new(),
    };
    let script = Script::read(&settings.kickstart, &mut problems);
    check_marks(settings, &mut problems);
    check_hardware(lender, settings, &mut problems);
    let disk = disk::choose(lender, &script, &mut problems);
    let lines = LenderLines::new(lender, disk.unwrap_or("unknown"));
    ownership::check(&script, &lines, &mut problems);
    check_hostname(&script, settings, &mut problems);
    match (disk, problems.found.is_empty()) {
        (Some(disk), true) => Ok(Merged {
            kickstart: lines.join(&script, settings),
            disk: disk.to_owned(),
        }),
        _ => Err(problems.found),
    }
}

/// What is in the way so far.
struct Problems<'a> {
    origin: &'a str,
    found: Vec<MergeProblem>,
}

impl Problems<'_> {
    fn general(&mut self, message: String) {
        self.found.push(MergeProblem {
            message,
            enterprise: None,
            lender: None,
        });
    }

    fn line(&mut self, number: usize, text: &str, message: String) {
        let enterprise = Some(self.enterprise_line(number, text));
        self.found.push(MergeProblem {
            message,
            enterprise,
            lender: None,
        });
    }

    fn clash(&mut self, command: &Command<'_>, lender: Line, message: String) {
        let enterprise = Some(self.enterprise_line(command.number, command.text));
        self.found.push(MergeProblem {
            message,
            enterprise,
            lender: Some(lender),
        });
    }

    fn enterprise_line(&self, number: usize, text: &str) -> Line {
        Line {
            origin: self.origin.to_owned(),
            number,
            text: text.to_owned(),
        }
    }
}

fn check_marks(settings: &InstallSettings, problems: &mut Problems<'_>) {
    let text = |number: usize| settings.kickstart.lines().nth(number - 1).unwrap_or_default();
    match marks::names(&settings.kickstart) {
        Err(MarkError::Malformed { line }) => {
            let message =
                "a sealed mark must be written @sealed:name@, with a-z, 0-9 and _ in its name".to_owned();
            problems.line(line, text(line), message);
        }
        Err(error) => problems.general(error.to_string()),
        Ok(names) => {
            for name in names.iter().filter(|name| !settings.sealed.contains(name)) {
                let mark = format!("@sealed:{name}@");
                let line = settings
                    .kickstart
                    .lines()
                    .position(|line| line.contains(&mark))
                    .map_or(1, |index| index + 1);
                let message =
                    format!("there is no sealed value named {name:?}: add it to [sealed] in the profile");
                problems.line(line, text(line), message);
            }
        }
    }
}

fn check_hardware(lender: &Lender<'_>, settings: &InstallSettings, problems: &mut Problems<'_>) {
    let memory = search::plugged_in_mib(lender.hardware.memory_bytes);
    if memory < settings.min_memory_mib {
        problems.general(format!(
            "the boot image needs {} MiB of memory and the server {} has about {memory} MiB: ask for min_memory_mib = {} in the requirements",
            settings.min_memory_mib, lender.server, settings.min_memory_mib
        ));
    }
    let mac = lender.place.mac;
    if !lender.hardware.nics.iter().any(|nic| nic.mac == mac) {
        problems.general(format!(
            "the server {} has no card {mac} at present, and its address is on that card: the lender must check its cabling and records",
            lender.server
        ));
    }
}

fn check_hostname(script: &Script<'_>, settings: &InstallSettings, problems: &mut Problems<'_>) {
    for command in script.named("network") {
        if let Some(name) = command.option("--hostname")
            && name != settings.hostname.as_str()
        {
            let message = format!(
                "the kickstart names the server {name:?}, the lease's settings name it {:?}: say the same, or leave the line out",
                settings.hostname.as_str()
            );
            problems.line(command.number, command.text, message);
        }
    }
}

#[cfg(test)]
mod tests;
