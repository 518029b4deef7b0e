//! The lender's answers, and how they are put beside the enterprise's.

use super::super::Lender;
use super::super::provenance::{MergedLine, Sheet};
use leaseboot_protocol::installer::Installer;
use leaseboot_protocol::leases::Line;
use leaseboot_protocol::preseed::Answer;
use leaseboot_protocol::settings::InstallSettings;

const NETWORK: &str = "its wire";
const DISK: &str = "the only disk that is used";
const FRESH: &str = "a fresh partition table";
const BOOT_LOADER: &str = "the boot loader's place";
const REBOOT: &str = "into the installed system";
/// The answer that both sides write.
pub(super) const LATE_COMMAND: &str = "preseed/late_command";

/// The lender's answers in their order: question, type and value, and why.
pub(super) struct LenderAnswers<'a> {
    origin: &'a str,
    answers: Vec<(&'static str, String, &'static str)>,
}

impl<'a> LenderAnswers<'a> {
    pub(super) fn new(lender: &Lender<'_>, origin: &'a str, disk: &str) -> Self {
        let place = lender.place;
        let disk = format!("string /dev/disk/by-id/{disk}");
        let mut answers = vec![
            // Which card is meant, the agent says on the kernel command line (BOOTIF=).
            ("netcfg/choose_interface", "select auto".to_owned(), NETWORK),
            ("netcfg/disable_autoconfig", "boolean true".to_owned(), NETWORK),
            (
                "netcfg/get_ipaddress",
                format!("string {}", place.address.addr()),
                NETWORK,
            ),
            (
                "netcfg/get_netmask",
                format!("string {}", place.address.netmask()),
                NETWORK,
            ),
        ];
        if let Some(tag) = place.vlan {
            answers.push(("netcfg/use_vlan", "boolean true".to_owned(), NETWORK));
            answers.push(("netcfg/vlan_id", format!("string {tag}"), NETWORK));
        }
        if let Some(router) = place.router {
            answers.push(("netcfg/get_gateway", format!("string {router}"), NETWORK));
        }
        answers.extend([
            // Names are the enterprise's, and inside the tunnel; without an answer the installer stops and asks.
            ("netcfg/get_nameservers", "string".to_owned(), NETWORK),
            ("netcfg/confirm_static", "boolean true".to_owned(), NETWORK),
            ("partman-auto/disk", disk.clone(), DISK),
            (
                "partman-partitioning/confirm_write_new_label",
                "boolean true".to_owned(),
                FRESH,
            ),
            ("partman-lvm/device_remove_lvm", "boolean true".to_owned(), FRESH),
            ("partman-md/device_remove_md", "boolean true".to_owned(), FRESH),
            ("partman/confirm", "boolean true".to_owned(), FRESH),
            ("partman/confirm_nooverwrite", "boolean true".to_owned(), FRESH),
            (
                "grub-installer/only_debian",
                "boolean true".to_owned(),
                BOOT_LOADER,
            ),
            ("grub-installer/bootdev", disk, BOOT_LOADER),
            ("finish-install/reboot_in_progress", "note".to_owned(), REBOOT),
        ]);
        Self { origin, answers }
    }

    /// The lender's answer to a question, or the nearest one, as a problem names it.
    pub(super) fn line(&self, question: &str) -> Line {
        let folder = question.split('/').next().unwrap_or_default();
        let mut answers = self.answers.iter();
        let index = answers
            .position(|(known, ..)| *known == question)
            .or_else(|| {
                self.answers
                    .iter()
                    .position(|(known, ..)| known.split('/').next() == Some(folder))
            })
            .or_else(|| self.answers.iter().position(|(_, _, why)| *why == DISK))
            .unwrap_or_default();
        let (question, value, _) = &self.answers[index];
        Line {
            origin: self.origin.to_owned(),
            number: index + 1,
            text: format!("d-i {question} {value}"),
        }
    }

    /// The lender's value of a question, with its type.
    pub(super) fn value(&self, question: &str) -> Option<&str> {
        let mut answers = self.answers.iter();
        answers
            .find(|(known, ..)| *known == question)
            .map(|(_, value, _)| value.as_str())
    }

    /// The merged lines. The answers have been checked: where both sides answer, they say the same.
    pub(super) fn join(
        &self,
        lines: &[&str],
        answers: &[Answer<'_>],
        settings: &InstallSettings,
    ) -> Vec<MergedLine> {
        let mut sheet = Sheet::new(&settings.kickstart_origin, self.origin, lines.len());
        let late = answers
            .iter()
            .find(|answer| answer.question == LATE_COMMAND && answer.kind != "seen");
        for (number, line) in (1..).zip(lines) {
            match late.filter(|answer| answer.lines.contains(&number)) {
                Some(answer) => {
                    let why = "the enterprise's last command; when it succeeds, the member's tunnel";
                    sheet.both(number, shared(line, number, answer), why);
                }
                None => sheet.enterprise(number, line),
            }
        }
        let said = |question: &str| {
            answers
                .iter()
                .any(|answer| answer.question == question && answer.kind != "seen")
        };
        let mut before = "";
        for (number, (question, value, why)) in (1..).zip(&self.answers) {
            if said(question) {
                continue;
            }
            if before != *why {
                sheet.lender(number, format!("# lender: {why}"), *why);
                before = why;
            }
            sheet.lender(number, format!("d-i {question} {value}"), *why);
        }
        if !said("netcfg/get_hostname") {
            sheet.settings("# enterprise: the server's name, from the lease's settings");
            sheet.settings(format!("d-i netcfg/get_hostname string {}", settings.hostname));
        }
        if late.is_none() {
            sheet.agreed("# leaseboot: the member's key, made on the server, and its tunnel.");
            sheet.agreed(format!("d-i {LATE_COMMAND} string {}", member_install()));
        }
        sheet.finish()
    }
}

fn member_install() -> &'static str {
    Installer::Preseed {}.member_install()
}

/// One line of the enterprise's late command, put into brackets and followed by the member's.
fn shared(line: &str, number: usize, answer: &Answer<'_>) -> String {
    let mut text = line.to_owned();
    if number == *answer.lines.end() {
        text = format!("{} ) && {}", text.trim_end(), member_install());
    }
    if number == *answer.lines.start() {
        let at = value_at(&text);
        text.insert_str(at, "( ");
    }
    text
}

/// Where the value begins: after owner, question and type.
fn value_at(line: &str) -> usize {
    let blanks = |text: &str| text.len() - text.trim_start_matches([' ', '\t']).len();
    let mut at = 0;
    for _ in 0..3 {
        at += blanks(&line[at..]);
        at += line[at..].find([' ', '\t']).unwrap_or(line.len() - at);
    }
    at + blanks(&line[at..])
}
