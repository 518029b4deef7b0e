//! Kickstart: the lender's lines go before the first section, the member's `%post` at the end.
//!
//! | line | owner |
//! |---|---|
//! | `network --device=…` and all addresses on it | lender |
//! | `network --hostname=` | enterprise |
//! | `ignoredisk`, `zerombr`, `clearpart`, disks by name | lender |
//! | `bootloader --location= --boot-drive=`, `console=` in `--append=` | lender |
//! | the rest of `bootloader`, `part` without disk names, packages, users, services, scripts | enterprise |
//! | `reboot` | lender; the enterprise may say the same |

mod commands;
mod lender;
mod ownership;
mod reader;
mod secrets;
mod sizes;
mod versions;

use super::problems::Problems;
use super::{Lender, Placed, disk};
use leaseboot_protocol::installer::KickstartSyntax;
use leaseboot_protocol::settings::InstallSettings;
use lender::LenderLines;
use reader::Script;

pub(super) fn merge(
    lender: &Lender<'_>,
    settings: &InstallSettings,
    syntax: KickstartSyntax,
    origin: &str,
    problems: &mut Problems<'_>,
) -> Option<Placed> {
    let script = Script::read(&settings.kickstart, problems);
    versions::check(&script, syntax, problems);
    let need = sizes::need(&script, problems);
    let disk = disk::choose(lender, &need, problems).map(|disk| disk.by_id.as_str());
    sizes::check_volumes(&script, lender, disk, problems);
    let lines = LenderLines::new(lender, origin, disk.unwrap_or("unknown"));
    ownership::check(&script, &lines, problems);
    check_hostname(&script, settings, problems);
    if lender.tenant.sealed_secrets {
        secrets::check(&script, problems);
    }
    disk.map(|disk| Placed {
        lines: lines.join(&script, settings),
        disk: disk.to_owned(),
    })
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
