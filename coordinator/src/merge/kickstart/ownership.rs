//! Who may say what. Each command of the enterprise is looked up here; what is not the enterprise's is a clash
//! with a line of the lender.

use super::commands;
use super::lender::{LenderLines, Topic};
use super::reader::{Command, Script};
use crate::merge::problems::Problems;
use std::collections::BTreeMap;

/// Whose a command is.
enum Owner {
    /// The enterprise's, all of it.
    Enterprise,
    /// The lender's, all of it.
    Lender(Topic),
    /// Shared: of the enterprise only these options.
    Only(&'static [&'static str], Topic),
    /// Shared: these options are the lender's.
    Except(&'static [&'static str], Topic),
}

fn owner(name: &str) -> Owner {
    match name {
        "network" => Owner::Only(&["--hostname"], Topic::Network),
        "bootloader" => {
            let lenders = &[
                "--location",
                "--boot-drive",
                "--driveorder",
                "--disabled",
                "--partition",
            ];
            Owner::Except(lenders, Topic::BootLoader)
        }
        "part" | "partition" => Owner::Except(
            &["--ondisk", "--ondrive", "--onpart", "--usepart", "--onbiosdisk"],
            Topic::OnlyDisk,
        ),
        "ignoredisk" => Owner::Lender(Topic::OnlyDisk),
        "mount" | "dmraid" | "fcoe" | "iscsi" | "iscsiname" | "multipath" | "nvdimm" | "zfcp"
        | "snapshot" => Owner::Lender(Topic::OnlyDisk),
        "zerombr" => Owner::Lender(Topic::ZeroMbr),
        "clearpart" => Owner::Lender(Topic::ClearPart),
        "zipl" => Owner::Lender(Topic::BootLoader),
        "reboot" => Owner::Only(&[], Topic::Reboot),
        "poweroff" | "halt" | "shutdown" => Owner::Lender(Topic::Reboot),
        _ => Owner::Enterprise,
    }
}

pub(super) fn check(script: &Script<'_>, lines: &LenderLines<'_>, problems: &mut Problems<'_>) {
    for command in &script.commands {
        if commands::is_known(command.name()) {
            check_owner(command, lines, problems);
        } else {
            problems.line(
                command.number,
                command.text,
                format!("there is no kickstart command {:?}", command.name()),
            );
        }
    }
    check_console(script, lines, problems);
    check_single(script, problems);
    if !script
        .commands
        .iter()
        .any(|command| commands::PARTITIONING.contains(&command.name()))
    {
        problems.general(
            "the kickstart has no part and no autopart line, so the installer would stop and ask: say how the disk is divided".to_owned(),
        );
    }
}

fn check_owner(command: &Command<'_>, lines: &LenderLines<'_>, problems: &mut Problems<'_>) {
    let name = command.name();
    match owner(name) {
        Owner::Enterprise => {}
        Owner::Lender(topic) => {
            let message = format!("{name} is the lender's to say: leave the line out");
            problems.clash(command.number, command.text, lines.line(topic), message);
        }
        Owner::Only(allowed, topic) => {
            let foreign = command.options().find(|option| !allowed.contains(option));
            let stray = command.words[1..].iter().enumerate().find(|(index, word)| {
                let is_value =
                    command.words[*index].starts_with("--") && !command.words[*index].contains('=');
                !word.starts_with("--") && !is_value
            });
            if let Some(foreign) = foreign.or(stray.map(|(_, word)| word.as_str())) {
                let message = match allowed {
                    [] => format!(
                        "{name} {foreign} is the lender's to say: write {name} without options, or leave the line out"
                    ),
                    allowed => format!(
                        "{name} {foreign} is the lender's to say: of {name}, keep only {}",
                        allowed.join(" ")
                    ),
                };
                problems.clash(command.number, command.text, lines.line(topic), message);
            }
        }
        Owner::Except(lenders, topic) => {
            for foreign in command
                .options()
                .filter(|option| lenders.iter().any(|name| may_mean(option, name)))
            {
                let message = format!("{name} {foreign} is the lender's to say: leave the option out");
                problems.clash(command.number, command.text, lines.line(topic), message);
            }
            for short in command
                .options()
                .filter(|option| SPELT_OUT.iter().any(|full| is_short_for(option, full)))
            {
                problems.line(
                    command.number,
                    command.text,
                    format!("{name} {short} is too short to be sure of: spell the option out"),
                );
            }
        }
    }
}

/// Option parsers take the beginning of an option for the whole.
fn may_mean(option: &str, full: &str) -> bool {
    option.len() > 2 && full.starts_with(option)
}

/// Options of shared commands that the merge itself reads.
const SPELT_OUT: [&str; 2] = ["--append", "--size"];

fn is_short_for(option: &str, full: &str) -> bool {
    option != full && may_mean(option, full)
}

fn check_console(script: &Script<'_>, lines: &LenderLines<'_>, problems: &mut Problems<'_>) {
    if !lines.has_console() {
        return;
    }
    for command in script.named("bootloader") {
        let inside = command
            .words
            .iter()
            .map(|word| word.strip_prefix("--append=").unwrap_or(word));
        let mut words = inside.flat_map(str::split_whitespace);
        if let Some(word) = words.find(|word| word.starts_with("console=")) {
            let message = format!("bootloader --append={word} is the lender's to say: leave {word} out");
            problems.clash(
                command.number,
                command.text,
                lines.line(Topic::BootLoader),
                message,
            );
        }
    }
}

fn check_single(script: &Script<'_>, problems: &mut Problems<'_>) {
    let mut seen: BTreeMap<usize, usize> = BTreeMap::new();
    let mut hostname: Option<usize> = None;
    for command in &script.commands {
        let first = match commands::single_group(command.name()) {
            Some(group) => *seen.entry(group).or_insert(command.number),
            None if command.name() == "network" => *hostname.get_or_insert(command.number),
            None => continue,
        };
        if first != command.number {
            let message = format!(
                "line {first} says this already, and the second line would silently replace it: keep one"
            );
            problems.line(command.number, command.text, message);
        }
    }
}
