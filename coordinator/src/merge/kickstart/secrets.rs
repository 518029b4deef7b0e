//! Where a kickstart can hold a secret: the arguments of `rootpw` and `sshpw`, and these options of any command.

use super::reader::{Command, Script};
use crate::merge::problems::Problems;
use crate::merge::sealing;

const OPTIONS: [&str; 7] = [
    "--password",
    "--passphrase",
    "--backuppassphrase",
    "--reverse-password",
    "--one-time-password",
    "--activation-key",
    "--hw-passphrase",
];
/// Options of `rootpw` and `sshpw` whose value is a word of its own.
const WITH_VALUE: [&str; 1] = ["--username"];

pub(super) fn check(script: &Script<'_>, problems: &mut Problems<'_>) {
    for command in &script.commands {
        for option in OPTIONS {
            if let Some(value) = command.option(option) {
                let what = format!("{} {option}", command.name());
                sealing::demand(value, &what, command.number, problems);
            }
        }
        if matches!(command.name(), "rootpw" | "sshpw")
            && let Some(value) = argument(command)
        {
            sealing::demand(
                value,
                &format!("the password of {}", command.name()),
                command.number,
                problems,
            );
        }
    }
}

/// The first word that is neither an option nor an option's value.
fn argument<'a>(command: &'a Command<'_>) -> Option<&'a str> {
    let mut words = command.words[1..].iter().map(String::as_str);
    while let Some(word) = words.next() {
        if WITH_VALUE.contains(&word) {
            words.next();
        } else if !word.starts_with("--") {
            return Some(word);
        }
    }
    None
}
