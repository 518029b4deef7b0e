//! The PO's look at a merged text before it consents: the enterprise's own text is all there, in order and untouched, and what came in
//! between is of the lender's making by right.
//!
//! Each language has a module of its own, and all follow one rule: **what is not known to be the lender's right is refused.** None of
//! them trusts the LM's merge or shares its code; they share with it only the readers of the languages and the one command that
//! leaves the member's tunnel (`Installer::member_install`).
//!
//! | language | the lender may add |
//! |---|---|
//! | kickstart | commands about disks, boot loader place and network with the options that such a command needs, one `%post` for the tunnel |
//! | preseed | answers to questions about the same, and the tunnel behind the enterprise's last command |
//! | disk image | nothing |
//! | autoinstall | `network`, the disk's `match` or action, and the tunnel as the last of the late commands |
//! | FAI | variables that say the disk, the wire and the console, each with the one kind of value that it can have; no command |

mod autoinstall;
mod fai;
mod kickstart;
mod preseed;

use super::kickstart as outline;
pub use super::kickstart::OutlineError;
use leaseboot_protocol::ids::Hostname;
use leaseboot_protocol::installer::Installer;
use leaseboot_protocol::settings::InstallSettings;
use leaseboot_protocol::yaml;

/// Why the PO does not agree to a merged text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MergeObjection {
    /// The enterprise's own text has no outline.
    #[error("the text of the profile cannot be read")]
    Ours(#[source] OutlineError),
    /// The merged text has no outline.
    #[error("the text that the lender merged cannot be read")]
    Theirs(#[source] OutlineError),
    /// A line of the enterprise is not where it should be.
    #[error(
        "the lender's merge lacks line {line} of the enterprise's text, or has changed or moved it: {text}"
    )]
    Lost {
        /// The enterprise's line, counted from 1.
        line: usize,
        /// The line.
        text: String,
    },
    /// The lender added what is not its own.
    #[error("the lender added what it has no right to, in line {line} of the merged text: {text} ({reason})")]
    Added {
        /// The merged text's line, counted from 1.
        line: usize,
        /// The line.
        text: String,
        /// Why it may not.
        reason: String,
    },
}

/// Compares a merged text with the enterprise's; tells how many lines the lender added.
///
/// # Errors
/// [`MergeObjection`], for the first thing that the PO does not agree to.
pub fn check(settings: &InstallSettings, merged: &str) -> Result<usize, MergeObjection> {
    let (ours, hostname): (&str, &Hostname) = (&settings.kickstart, &settings.hostname);
    match settings.installer {
        Installer::Kickstart { .. } => kickstart::check(ours, merged, hostname),
        Installer::Preseed {} => preseed::check(ours, merged, hostname),
        Installer::Autoinstall {} => autoinstall::check(ours, merged),
        Installer::Fai {} => fai::check(ours, merged, hostname),
        Installer::DiskImage {} => untouched(ours, merged),
    }
}

/// Whether a profile's own text can be read at all, so that a mistake is told before a server is asked for.
///
/// # Errors
/// [`OutlineError`] with the line.
pub fn check_outline(installer: Installer, text: &str) -> Result<(), OutlineError> {
    match installer {
        Installer::Kickstart { .. } => outline::parse(text).map(drop),
        Installer::Preseed {} => preseed::read(text).map(drop),
        Installer::Fai {} => fai::read(text).map(drop),
        Installer::Autoinstall {} => yaml::parse(text).map(drop).map_err(|error| OutlineError {
            line: error.line,
            problem: error.problem,
        }),
        // cloud-init takes scripts as well; YAML is what can be looked at.
        Installer::DiskImage {} if text.starts_with("#cloud-config") => {
            yaml::parse(text).map(drop).map_err(|error| OutlineError {
                line: error.line,
                problem: error.problem,
            })
        }
        Installer::DiskImage {} => Ok(()),
    }
}

/// A disk image has no installer, so the lender has nothing to add: the text is the enterprise's, line by line.
fn untouched(ours: &str, merged: &str) -> Result<usize, MergeObjection> {
    let mut theirs = (1..).zip(merged.lines());
    for (line, text) in (1..).zip(ours.lines()) {
        if theirs.next().is_none_or(|(_, found)| found != text) {
            let text = text.to_owned();
            return Err(MergeObjection::Lost { line, text });
        }
    }
    match theirs.next() {
        None => Ok(0),
        Some((line, text)) => Err(MergeObjection::Added {
            line,
            text: text.to_owned(),
            reason: "nothing is added to the text of a disk image".to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_may_be_added_to_the_text_of_a_disk_image() {
        let ours = "#cloud-config\npackages: [nginx]\n";
        assert_eq!(untouched(ours, ours), Ok(0));
        assert_eq!(untouched("", ""), Ok(0));
        for theirs in [
            "",
            "#cloud-config\n",
            "#cloud-config\npackages: [sshd]\n",
            "#cloud-config\nruncmd: [x]\npackages: [nginx]\n",
        ] {
            assert!(
                matches!(untouched(ours, theirs), Err(MergeObjection::Lost { .. })),
                "{theirs:?}"
            );
        }
        let more = format!("{ours}runcmd: [x]\n");
        assert!(matches!(
            untouched(ours, &more),
            Err(MergeObjection::Added { line: 3, .. })
        ));
        assert!(untouched("", "runcmd: [x]\n").is_err());
    }
}
