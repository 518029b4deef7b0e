//! Preseed: the lender's answers follow the enterprise's, and one answer is written by both.
//!
//! | answer | owner |
//! |---|---|
//! | `netcfg/*` but the name, `disk-detect/*`, `partman-auto/disk`, `grub-installer/bootdev` | lender |
//! | `netcfg/get_hostname`, `netcfg/hostname`, `netcfg/get_domain` | enterprise |
//! | that a disk may be written without asking (`partman/confirm` …) | lender; the enterprise may say the same |
//! | `finish-install/reboot_in_progress` | lender; the enterprise may say the same |
//! | `debian-installer/add-kernel-opts` | enterprise, but no `console=` |
//! | `preseed/late_command` | both: the enterprise's command, then the member's tunnel |
//! | everything else | enterprise |
//!
//! In debconf a later answer silently replaces an earlier one, so a question that is answered twice is refused.

mod lender;
mod ownership;
mod recipe;

use super::problems::Problems;
use super::{Lender, Placed, disk, sealing};
use leaseboot_protocol::preseed::{self, Answer};
use leaseboot_protocol::settings::InstallSettings;
use lender::LenderAnswers;

/// Answers that are secrets.
const SECRETS: [&str; 10] = [
    "passwd/root-password",
    "passwd/root-password-again",
    "passwd/root-password-crypted",
    "passwd/user-password",
    "passwd/user-password-again",
    "passwd/user-password-crypted",
    "partman-crypto/passphrase",
    "partman-crypto/passphrase-again",
    "grub-installer/password",
    "grub-installer/password-crypted",
];

pub(super) fn merge(
    lender: &Lender<'_>,
    settings: &InstallSettings,
    origin: &str,
    problems: &mut Problems<'_>,
) -> Option<Placed> {
    let text = &settings.kickstart;
    let (answers, errors) = preseed::parse(text);
    let lines: Vec<&str> = text.lines().collect();
    for error in errors {
        problems.line(error.line, lines[error.line - 1], error.problem);
    }
    let need = recipe::need(&answers, problems);
    let disk = disk::choose(lender, &need, problems).map(|disk| disk.by_id.as_str());
    let ours = LenderAnswers::new(lender, origin, disk.unwrap_or("unknown"));
    ownership::check(&answers, &ours, lender.console.is_some(), problems);
    check_hostname(&answers, settings, problems);
    if lender.tenant.sealed_secrets {
        check_secrets(&answers, problems);
    }
    disk.map(|disk| Placed {
        lines: ours.join(&lines, &answers, settings),
        disk: disk.to_owned(),
    })
}

fn check_hostname(answers: &[Answer<'_>], settings: &InstallSettings, problems: &mut Problems<'_>) {
    for answer in answers {
        let names = matches!(
            answer.question.as_str(),
            "netcfg/get_hostname" | "netcfg/hostname"
        );
        if names && answer.value != settings.hostname.as_str() {
            let message = format!(
                "the preseed names the server {:?}, the lease's settings name it {:?}: say the same, or leave the line out",
                answer.value,
                settings.hostname.as_str()
            );
            problems.line(*answer.lines.start(), answer.text, message);
        }
    }
}

fn check_secrets(answers: &[Answer<'_>], problems: &mut Problems<'_>) {
    for answer in answers.iter().filter(|answer| answer.kind != "seen") {
        if SECRETS.contains(&answer.question.as_str()) || answer.kind == "password" {
            sealing::demand(&answer.value, &answer.question, *answer.lines.start(), problems);
        }
    }
}

#[cfg(test)]
mod tests;
