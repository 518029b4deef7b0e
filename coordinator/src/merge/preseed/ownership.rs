//! Who may answer which question.

use super::lender::{LATE_COMMAND, LenderAnswers};
use crate::merge::problems::Problems;
use leaseboot_protocol::preseed::Answer;
use std::collections::BTreeMap;

/// The names that the enterprise gives to the server.
const NAMES: [&str; 3] = ["netcfg/get_hostname", "netcfg/hostname", "netcfg/get_domain"];
/// Questions whose answers are about the lender's hardware and wire; a name that ends with `/` means all below it.
const LENDERS: [&str; 12] = [
    "netcfg/",
    "disk-detect/",
    "partman-iscsi/",
    "partman-auto/disk",
    "partman-auto/select_disk",
    "partman-auto-raid/recipe",
    "grub-installer/bootdev",
    "grub-installer/choose_bootdev",
    "debian-installer/exit/halt",
    "debian-installer/exit/poweroff",
    "debian-installer/exit/always_halt",
    "lilo-installer/bootdev",
];
/// Answers that bring answers which a merge cannot look at.
const INCLUDES: [&str; 4] = [
    "preseed/include",
    "preseed/include_command",
    "preseed/run",
    "preseed/url",
];

pub(super) fn check(
    answers: &[Answer<'_>],
    lender: &LenderAnswers<'_>,
    has_console: bool,
    problems: &mut Problems<'_>,
) {
    for answer in answers {
        check_owner(answer, lender, has_console, problems);
    }
    check_single(answers, problems);
    let divides = |answer: &Answer<'_>| {
        matches!(
            answer.question.as_str(),
            "partman-auto/method"
                | "partman-auto/expert_recipe"
                | "partman-auto/init_automatically_partition"
        )
    };
    if !answers.iter().any(divides) {
        problems.general(
            "the preseed has no partman-auto/method, so the installer would stop and ask: say how the disk is divided"
                .to_owned(),
        );
    }
}

fn check_owner(
    answer: &Answer<'_>,
    lender: &LenderAnswers<'_>,
    has_console: bool,
    problems: &mut Problems<'_>,
) {
    let question = answer.question.as_str();
    let line = *answer.lines.start();
    if INCLUDES.contains(&question) {
        let message = format!(
            "{question} brings answers that a merge cannot look at: write them into the profile's preseed"
        );
        return problems.line(line, answer.text, message);
    }
    if question == "debian-installer/add-kernel-opts" && has_console {
        if let Some(word) = answer
            .value
            .split_whitespace()
            .find(|word| word.starts_with("console="))
        {
            let message = format!("{question} {word} is the lender's to say: leave {word} out");
            problems.clash(line, answer.text, lender.line("grub-installer/bootdev"), message);
        }
        return;
    }
    if question == LATE_COMMAND && answer.value.trim().is_empty() {
        return problems.line(
            line,
            answer.text,
            format!("{question} has no value: leave the line out"),
        );
    }
    if question == LATE_COMMAND && answer.value.split([' ', '\t']).any(|word| word.starts_with('#')) {
        let message = "the last command has a # at the beginning of a word, which may hide what follows it: take the comment out";
        return problems.line(line, answer.text, message.to_owned());
    }
    let is_lenders = |known: &str| match known.strip_suffix('/') {
        Some(_) => question.starts_with(known),
        None => question == known,
    };
    let said = lender.value(question);
    let same = said == Some(format!("{} {}", answer.kind, answer.value).trim_end());
    if NAMES.contains(&question) || (same && !LENDERS.iter().any(|known| is_lenders(known))) {
        return;
    }
    if said.is_some() || LENDERS.iter().any(|known| is_lenders(known)) {
        let message = format!("{question} is the lender's to say: leave the line out");
        problems.clash(line, answer.text, lender.line(question), message);
    }
}

fn check_single(answers: &[Answer<'_>], problems: &mut Problems<'_>) {
    let mut seen: BTreeMap<(&str, bool), usize> = BTreeMap::new();
    for answer in answers {
        let line = *answer.lines.start();
        let first = *seen
            .entry((&answer.question, answer.kind == "seen"))
            .or_insert(line);
        if first != line {
            let message = format!(
                "line {first} answers {} already, and the second answer would silently replace it: keep one",
                answer.question
            );
            problems.line(line, answer.text, message);
        }
    }
}
