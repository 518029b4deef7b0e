//! Which version of kickstart knows which command and option.
//!
//! Source: the handlers of pykickstart 3.78 (`pykickstart.handlers`, and the `RemovedCommand`s and `removed=` options among their
//! commands), which is what `ksvalidator -v` and `ksverdiff` go by. What a version calls deprecated it still knows.

use super::reader::{Command, Script};
use crate::merge::problems::Problems;
use leaseboot_protocol::installer::{Family, KickstartSyntax};

/// The first and the last release of a family that knows something.
type Releases = (u8, u8);

const ALL: Releases = (0, u8::MAX);
const NONE: Releases = (u8::MAX, 0);

const fn from(first: u8) -> Releases {
    (first, u8::MAX)
}

const fn until(last: u8) -> Releases {
    (0, last)
}

/// Commands that not every version knows: Fedora's releases, then RHEL's.
const COMMANDS: [(&str, Releases, Releases); 25] = [
    ("auth", until(34), until(9)),
    ("authconfig", until(34), until(9)),
    ("authselect", ALL, from(8)),
    ("autostep", until(39), until(9)),
    ("bootc", from(43), from(10)),
    ("btrfs", ALL, until(9)),
    ("device", until(33), until(8)),
    ("deviceprobe", until(33), until(8)),
    ("dmraid", until(33), until(8)),
    ("install", until(33), until(8)),
    ("module", until(44), (8, 10)),
    ("mount", ALL, from(8)),
    ("multipath", until(33), until(8)),
    ("nvdimm", until(44), until(9)),
    ("ostreecontainer", from(38), from(9)),
    ("rdp", from(43), from(10)),
    ("rhsm", NONE, from(8)),
    ("sshkey", ALL, from(8)),
    ("stratisfs", from(45), from(11)),
    ("stratispool", from(45), from(11)),
    ("syspurpose", NONE, from(8)),
    ("timesource", from(33), from(9)),
    ("unsupported_hardware", NONE, until(7)),
    ("vnc", until(44), until(10)),
    ("zipl", from(32), from(8)),
];

/// Options that not every version knows.
const OPTIONS: [(&[&str], &[&str], Releases, Releases); 16] = [
    (&["autopart"], &["--hibernation"], from(38), from(10)),
    (
        &["autopart", "part", "partition"],
        &["--hw-passphrase"],
        from(41),
        from(11),
    ),
    (&["autopart"], &["--noboot", "--noswap"], ALL, from(8)),
    (
        &["autopart", "part", "partition", "logvol", "raid"],
        &[
            "--luks-version",
            "--pbkdf",
            "--pbkdf-iterations",
            "--pbkdf-memory",
            "--pbkdf-time",
        ],
        ALL,
        from(8),
    ),
    (&["bootloader"], &["--sdboot"], from(39), from(10)),
    (&["bootloader"], &["--upgrade"], until(33), until(8)),
    (
        &["cmdline", "graphical", "text"],
        &["--non-interactive"],
        ALL,
        from(8),
    ),
    (&["firewall"], &["--use-system-defaults"], ALL, from(8)),
    (&["harddrive"], &["--biospart"], until(32), until(8)),
    (&["logging"], &["--level"], until(39), until(9)),
    (
        &["logvol"],
        &["--cachemode", "--cachepvs", "--cachesize"],
        ALL,
        from(8),
    ),
    (&["part", "partition"], &["--active"], until(33), until(8)),
    (&["repo"], &["--ignoregroups"], until(39), until(9)),
    (
        &["repo", "url"],
        &["--metalink", "--sslcacert", "--sslclientcert", "--sslclientkey"],
        ALL,
        from(8),
    ),
    (&["rootpw"], &["--allow-ssh"], from(37), from(9)),
    (
        &["timezone"],
        &["--isUtc", "--nontp", "--ntpservers"],
        ALL,
        until(9),
    ),
];

/// Refuses what this version does not know.
pub(super) fn check(script: &Script<'_>, syntax: KickstartSyntax, problems: &mut Problems<'_>) {
    for command in &script.commands {
        check_command(command, syntax, problems);
    }
}

fn check_command(command: &Command<'_>, syntax: KickstartSyntax, problems: &mut Problems<'_>) {
    let name = command.name();
    if let Some((_, fedora, rhel)) = COMMANDS.iter().find(|(known, ..)| *known == name)
        && let Some(verdict) = verdict(syntax, *fedora, *rhel)
    {
        let message = format!(
            "{name} {verdict}: leave the line out, or name another syntax in the profile's installer"
        );
        problems.line(command.number, command.text, message);
        return;
    }
    let rows = OPTIONS.iter().filter(|(commands, ..)| commands.contains(&name));
    for (_, options, fedora, rhel) in rows {
        let Some(verdict) = verdict(syntax, *fedora, *rhel) else {
            continue;
        };
        for option in command.options().filter(|option| options.contains(option)) {
            let message = format!("{name} {option} {verdict}: leave the option out");
            problems.line(command.number, command.text, message);
        }
    }
}

/// What keeps a version from taking something; `None` when it does.
fn verdict(syntax: KickstartSyntax, fedora: Releases, rhel: Releases) -> Option<String> {
    let (first, last) = match syntax.family {
        Family::Fedora => fedora,
        Family::Rhel => rhel,
    };
    let release = syntax.release;
    let named = |release: u8| KickstartSyntax { release, ..syntax };
    if first > last {
        Some(format!("is not known to {syntax}"))
    } else if release < first {
        Some(format!(
            "is not known to {syntax}: {} is the first that knows it",
            named(first)
        ))
    } else if release > last {
        Some(format!(
            "was removed before {syntax}: {} is the last that knows it",
            named(last)
        ))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_told_by_name() {
        let syntax = |name: &str| name.parse::<KickstartSyntax>().unwrap();
        assert_eq!(verdict(syntax("RHEL9"), until(34), until(9)), None);
        assert_eq!(
            verdict(syntax("RHEL10"), until(34), until(9)).unwrap(),
            "was removed before RHEL10: RHEL9 is the last that knows it"
        );
        assert_eq!(
            verdict(syntax("F42"), from(43), ALL).unwrap(),
            "is not known to F42: F43 is the first that knows it"
        );
        assert_eq!(verdict(syntax("F42"), NONE, ALL).unwrap(), "is not known to F42");
    }
}
