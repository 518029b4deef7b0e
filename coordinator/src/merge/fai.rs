//! FAI: class variables. The lender's stand behind the enterprise's, under names of their own.
//!
//! | variable | owner |
//! |---|---|
//! | `LEASEBOOT_DISK`, `_MAC`, `_ADDRESS`, `_ROUTER`, `_MTU`, `_CONSOLE` | lender |
//! | `disklist` | nobody: the enterprise's class script makes it of `LEASEBOOT_DISK` |
//! | `HOSTNAME` | enterprise; the lease's settings must agree |
//! | everything else | enterprise |
//!
//! To a shell a later assignment silently replaces an earlier one, so a variable that is assigned twice is refused. No command is merged: FAI's
//! commands are scripts in the enterprise's configuration space, which the lender never sees, and one of them leaves the member's tunnel.

use super::problems::Problems;
use super::provenance::{MergedLine, Sheet};
use super::{Lender, Placed, console_words, disk, sealing};
use leaseboot_protocol::leases::Line;
use leaseboot_protocol::settings::InstallSettings;
use leaseboot_protocol::variables::{self, Variable};
use std::collections::BTreeMap;

/// The beginning of the lender's names.
const LENDERS: &str = "LEASEBOOT_";
const DISK: &str = "LEASEBOOT_DISK";
const HOSTNAME: &str = "HOSTNAME";
/// Names under which FAI's own examples keep password hashes.
const SECRETS: [&str; 2] = ["ROOTPW", "USERPW"];

/// The lender's variables in their order: name and value, and why.
struct LenderVariables<'a> {
    origin: &'a str,
    variables: Vec<(&'static str, String, &'static str)>,
}

impl<'a> LenderVariables<'a> {
    fn new(lender: &Lender<'_>, origin: &'a str, disk: &str) -> Self {
        const WIRE: &str = "its wire";
        let place = lender.place;
        let disk = format!("/dev/disk/by-id/{disk}");
        let mut variables = vec![
            (DISK, disk, "the only disk that is used"),
            ("LEASEBOOT_MAC", place.mac.to_string(), WIRE),
            ("LEASEBOOT_ADDRESS", place.address.to_string(), WIRE),
        ];
        if let Some(router) = place.router {
            variables.push(("LEASEBOOT_ROUTER", router.to_string(), WIRE));
        }
        variables.push(("LEASEBOOT_MTU", place.mtu.to_string(), WIRE));
        if lender.console.is_some() {
            let words = console_words(lender.console);
            variables.push(("LEASEBOOT_CONSOLE", format!("'{words}'"), "its console"));
        }
        Self { origin, variables }
    }

    /// The lender's variable of this name, or the one that is most often meant.
    fn line(&self, name: &str) -> Line {
        let mut variables = self.variables.iter();
        let index = variables
            .position(|(known, ..)| *known == name)
            .unwrap_or_default();
        let (name, value, _) = &self.variables[index];
        Line {
            origin: self.origin.to_owned(),
            number: index + 1,
            text: format!("{name}={value}"),
        }
    }

    fn join(&self, lines: &[&str], ours: &[Variable<'_>], settings: &InstallSettings) -> Vec<MergedLine> {
        let mut sheet = Sheet::new(&settings.kickstart_origin, self.origin, lines.len());
        for (number, line) in (1..).zip(lines) {
            sheet.enterprise(number, line);
        }
        let mut before = "";
        for (number, (name, value, why)) in (1..).zip(&self.variables) {
            if before != *why {
                sheet.lender(number, format!("# lender: {why}"), *why);
                before = why;
            }
            sheet.lender(number, format!("{name}={value}"), *why);
        }
        if !ours.iter().any(|variable| variable.name == HOSTNAME) {
            sheet.settings("# enterprise: the server's name, from the lease's settings");
            sheet.settings(format!("{HOSTNAME}={}", settings.hostname));
        }
        sheet.finish()
    }
}

pub(super) fn merge(
    lender: &Lender<'_>,
    settings: &InstallSettings,
    origin: &str,
    problems: &mut Problems<'_>,
) -> Option<Placed> {
    let text = &settings.kickstart;
    let (ours, errors) = variables::parse(text);
    let lines: Vec<&str> = text.lines().collect();
    for error in errors {
        problems.line(error.line, lines[error.line - 1], error.problem.to_owned());
    }
    // How the disk is divided stands in the configuration space, which the lender does not see.
    let disk = disk::choose(lender, &disk::Need::default(), problems).map(|disk| disk.by_id.as_str());
    let theirs = LenderVariables::new(lender, origin, disk.unwrap_or("unknown"));
    check_owners(&ours, &theirs, problems);
    check_single(&ours, problems);
    check_hostname(&ours, settings, problems);
    if lender.tenant.sealed_secrets {
        for variable in ours.iter().filter(|variable| SECRETS.contains(&variable.name)) {
            sealing::demand(variable.value, variable.name, variable.line, problems);
        }
    }
    disk.map(|disk| Placed {
        lines: theirs.join(&lines, &ours, settings),
        disk: disk.to_owned(),
    })
}

fn check_owners(ours: &[Variable<'_>], lender: &LenderVariables<'_>, problems: &mut Problems<'_>) {
    for variable in ours {
        let message = match variable.name {
            name if name.starts_with(LENDERS) => format!("{name} is the lender's to say: leave the line out"),
            "disklist" => format!(
                "disklist says which disk is used, which is the lender's to say: leave the line out, and make disklist of {DISK} in a class script"
            ),
            _ => continue,
        };
        problems.clash(variable.line, variable.text, lender.line(variable.name), message);
    }
}

fn check_single(ours: &[Variable<'_>], problems: &mut Problems<'_>) {
    let mut seen = BTreeMap::new();
    for variable in ours {
        let first = *seen.entry(variable.name).or_insert(variable.line);
        if first != variable.line {
            let message = format!(
                "line {first} assigns {} already, and the second value would silently replace it: keep one",
                variable.name
            );
            problems.line(variable.line, variable.text, message);
        }
    }
}

fn check_hostname(ours: &[Variable<'_>], settings: &InstallSettings, problems: &mut Problems<'_>) {
    for variable in ours.iter().filter(|variable| variable.name == HOSTNAME) {
        if variable.value != settings.hostname.as_str() {
            let message = format!(
                "the variables name the server {:?}, the lease's settings name it {:?}: say the same, or leave the line out",
                variable.value,
                settings.hostname.as_str()
            );
            problems.line(variable.line, variable.text, message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::merge;
    use super::super::tests::{House, settings};
    use leaseboot_protocol::installer::Installer;
    use leaseboot_protocol::leases::MergeProblem;

    fn merged(text: &str) -> Result<super::super::Merged, Vec<MergeProblem>> {
        let mut settings = settings(text);
        settings.installer = Installer::Fai {};
        House::new().with(|lender| merge(lender, &settings))
    }

    #[test]
    fn the_lenders_variables_stand_behind_the_enterprises() {
        let text = "TIMEZONE=Etc/UTC\nROOTPW='@sealed:root_password@'\n";
        let merged = merged(text).unwrap();
        assert_eq!(
            merged.kickstart,
            format!(
                "{text}# lender: the only disk that is used\nLEASEBOOT_DISK=/dev/disk/by-id/virtio-SMALL\n\
                 # lender: its wire\nLEASEBOOT_MAC=52:54:00:4c:42:01\nLEASEBOOT_ADDRESS=10.10.0.11/24\n\
                 LEASEBOOT_ROUTER=10.10.0.1\nLEASEBOOT_MTU=1500\n\
                 # lender: its console\nLEASEBOOT_CONSOLE='console=tty0 console=ttyS0,115200'\n\
                 # enterprise: the server's name, from the lease's settings\nHOSTNAME=web-1\n"
            )
        );
    }

    #[test]
    fn clashes_and_mistakes_are_told_with_their_lines() {
        for (line, lender, words) in [
            (
                "LEASEBOOT_MTU=9000",
                Some("LEASEBOOT_MTU=1500"),
                "lender's to say",
            ),
            ("LEASEBOOT_NEW=1", Some("LEASEBOOT_DISK="), "lender's to say"),
            ("disklist=vda", Some("LEASEBOOT_DISK="), "class script"),
            ("HOSTNAME=web-2", None, "\"web-2\""),
            ("A=2", None, "line 1 assigns A already"),
            ("B=$(date)", None, "NAME=value"),
            ("ROOTPW=@sealed:root_password@", None, "single quotes"),
        ] {
            let found = merged(&format!("A=1\n{line}\n")).unwrap_err();
            assert_eq!(found.len(), 1, "{line}: {found:#?}");
            assert!(found[0].message.contains(words), "{line}: {}", found[0]);
            assert_eq!(found[0].enterprise.as_ref().unwrap().number, 2, "{line}");
            let named = found[0].lender.as_ref().map(|line| line.text.as_str());
            match (lender, named) {
                (Some(begin), Some(text)) => assert!(text.starts_with(begin), "{line}: {text}"),
                (None, None) => {}
                (_, found) => panic!("{line}: {found:?}"),
            }
        }
    }

    #[test]
    fn a_password_in_the_open_is_refused_where_it_must_be_sealed() {
        let mut settings = settings("ROOTPW='$6$salt$hash'\n");
        settings.installer = Installer::Fai {};
        let mut house = House::new();
        house.merge(&settings).unwrap();
        house.sealed_secrets = true;
        let found = house.merge(&settings).unwrap_err();
        assert!(found[0].message.contains("demands a seal"), "{}", found[0]);
        assert!(!found[0].to_string().contains("salt"));
    }
}
