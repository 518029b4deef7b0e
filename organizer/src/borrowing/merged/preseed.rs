//! A merged preseed. In debconf a later answer silently replaces an earlier one, so the lender's answers must be to questions that
//! the enterprise does not answer.

use super::{MergeObjection, OutlineError};
use leaseboot_protocol::ids::Hostname;
use leaseboot_protocol::installer::Installer;
use leaseboot_protocol::preseed::{self, Answer};

/// Questions of `d-i` that the lender may answer, each with its type and what its value may be.
const LENDERS: [(&str, &str, Allowed); 19] = [
    ("netcfg/choose_interface", "select", Allowed::Only("auto")),
    ("netcfg/use_vlan", "boolean", Allowed::Only("true")),
    ("netcfg/vlan_id", "string", Allowed::Tag),
    ("netcfg/disable_autoconfig", "boolean", Allowed::Only("true")),
    ("netcfg/get_ipaddress", "string", Allowed::Address),
    ("netcfg/get_netmask", "string", Allowed::Address),
    ("netcfg/get_gateway", "string", Allowed::Address),
    ("netcfg/get_nameservers", "string", Allowed::Only("")),
    ("netcfg/confirm_static", "boolean", Allowed::Only("true")),
    ("netcfg/get_hostname", "string", Allowed::Hostname),
    ("partman-auto/disk", "string", Allowed::Disk),
    (
        "partman-partitioning/confirm_write_new_label",
        "boolean",
        Allowed::Only("true"),
    ),
    ("partman-lvm/device_remove_lvm", "boolean", Allowed::Only("true")),
    ("partman-md/device_remove_md", "boolean", Allowed::Only("true")),
    ("partman/confirm", "boolean", Allowed::Only("true")),
    ("partman/confirm_nooverwrite", "boolean", Allowed::Only("true")),
    ("grub-installer/only_debian", "boolean", Allowed::Only("true")),
    ("grub-installer/bootdev", "string", Allowed::Disk),
    ("finish-install/reboot_in_progress", "note", Allowed::Only("")),
];
/// The answer that both sides write.
const LATE_COMMAND: &str = "preseed/late_command";

enum Allowed {
    Only(&'static str),
    Address,
    /// Of a VLAN.
    Tag,
    Hostname,
    Disk,
}

impl Allowed {
    fn takes(&self, value: &str, hostname: &Hostname) -> bool {
        match self {
            Allowed::Only(word) => value == *word,
            Allowed::Address => value.parse::<std::net::Ipv4Addr>().is_ok(),
            Allowed::Tag => value.parse::<u16>().is_ok_and(|tag| (1..=4094).contains(&tag)),
            Allowed::Hostname => value == hostname.as_str(),
            Allowed::Disk => value.strip_prefix("/dev/disk/by-id/").is_some_and(|name| {
                let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.:+".contains(&b);
                !name.is_empty() && name.bytes().all(plain)
            }),
        }
    }
}

/// All answers, or the first line that is none.
pub(super) fn read(text: &str) -> Result<Vec<Answer<'_>>, OutlineError> {
    let (answers, errors) = preseed::parse(text);
    match errors.into_iter().next() {
        Some(error) => Err(OutlineError {
            line: error.line,
            problem: error.problem,
        }),
        None => Ok(answers),
    }
}

pub(super) fn check(ours: &str, merged: &str, hostname: &Hostname) -> Result<usize, MergeObjection> {
    let ours = read(ours).map_err(MergeObjection::Ours)?;
    let theirs = read(merged).map_err(MergeObjection::Theirs)?;
    let mut expected = ours.iter().peekable();
    let (mut added, mut tunnel) = (0, false);
    for answer in &theirs {
        if expected.next_if(|next| same(next, answer)).is_some() {
            continue;
        }
        if answer.question == LATE_COMMAND && !tunnel {
            let next = expected.next_if(|next| next.question == LATE_COMMAND && next.kind != "seen");
            check_late(next, answer)?;
            tunnel = true;
            added += usize::from(next.is_none());
            continue;
        }
        allowed(answer, &ours, hostname).map_err(|reason| match expected.peek() {
            // What is neither ours nor allowed is most often ours, changed.
            Some(next) if next.question == answer.question => lost(next),
            _ => objection(answer, reason),
        })?;
        added += 1;
    }
    match expected.next() {
        Some(missing) => Err(lost(missing)),
        None => Ok(added),
    }
}

fn same(ours: &Answer<'_>, theirs: &Answer<'_>) -> bool {
    let key = |answer: &Answer<'_>| (answer.owner.clone(), answer.question.clone(), answer.kind.clone());
    // The last command always has the tunnel behind it.
    let plain = ours.question != LATE_COMMAND || ours.kind == "seen";
    plain && key(ours) == key(theirs) && ours.value.trim_end() == theirs.value.trim_end()
}

/// The enterprise's command as it was, in brackets, and the tunnel behind it; nothing else.
fn check_late(ours: Option<&Answer<'_>>, theirs: &Answer<'_>) -> Result<(), MergeObjection> {
    let member_install = Installer::Preseed {}.member_install();
    let expected = match ours {
        Some(ours) => format!("( {} ) && {member_install}", ours.value.trim_end()),
        None => member_install.to_owned(),
    };
    if theirs.owner == "d-i" && theirs.kind == "string" && theirs.value.trim_end() == expected {
        Ok(())
    } else {
        Err(objection(
            theirs,
            format!("the last command must be `{expected}`"),
        ))
    }
}

fn allowed(answer: &Answer<'_>, ours: &[Answer<'_>], hostname: &Hostname) -> Result<(), String> {
    let question = answer.question.as_str();
    if ours.iter().any(|ours| ours.question == question) {
        return Err(format!("the enterprise answers {question} itself"));
    }
    let known = LENDERS.iter().find(|(known, ..)| *known == question);
    let Some((_, kind, value)) = known.filter(|_| answer.owner == "d-i") else {
        return Err(format!("{question} is the enterprise's to say"));
    };
    if answer.kind != *kind || !value.takes(answer.value.trim_end(), hostname) {
        return Err(format!("{question} cannot be {} {}", answer.kind, answer.value));
    }
    Ok(())
}

fn lost(answer: &Answer<'_>) -> MergeObjection {
    MergeObjection::Lost {
        line: *answer.lines.start(),
        text: answer.text.to_owned(),
    }
}

fn objection(answer: &Answer<'_>, reason: String) -> MergeObjection {
    MergeObjection::Added {
        line: *answer.lines.start(),
        text: answer.text.to_owned(),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OURS: &str = "# web\nd-i time/zone string UTC\nd-i passwd/root-password-crypted password @sealed:root@\nd-i preseed/late_command string in-target true; \\\n  in-target false\nd-i pkgsel/include string nginx\n";
    const LENDER: &str = "# lender: its wire\nd-i netcfg/get_ipaddress string 10.10.0.11\nd-i partman-auto/disk string /dev/disk/by-id/virtio-LAB0001\nd-i finish-install/reboot_in_progress note\n";

    fn look(merged: &str) -> Result<usize, MergeObjection> {
        check(OURS, merged, &"web-1".parse().unwrap())
    }

    fn honest() -> String {
        OURS.replace("string in-target true", "string ( in-target true")
            .replace(
                "in-target false",
                "in-target false ) && /leaseboot/init member install --root /target",
            )
    }

    #[test]
    fn an_honest_merge_is_agreed_to() {
        assert_eq!(look(&honest()), Ok(0));
        assert_eq!(look(&format!("{}{LENDER}", honest())), Ok(3));
        assert_eq!(
            look(&format!(
                "{LENDER}{}d-i netcfg/get_hostname string web-1\n",
                honest()
            )),
            Ok(4)
        );
        let tagged = |tag: &str| {
            format!(
                "{}d-i netcfg/use_vlan boolean true\nd-i netcfg/vlan_id string {tag}\n",
                honest()
            )
        };
        assert_eq!(look(&tagged("20")), Ok(2));
        assert!(look(&tagged("4095")).is_err() && look(&tagged("20 # x")).is_err());
        let without = OURS
            .lines()
            .filter(|line| !line.contains("in-target"))
            .fold(String::new(), |text, line| text + line + "\n");
        let tunnel = "d-i preseed/late_command string /leaseboot/init member install --root /target\n";
        assert_eq!(
            check(&without, &format!("{without}{tunnel}"), &"web-1".parse().unwrap()),
            Ok(1)
        );
    }

    #[test]
    fn every_answer_of_ours_must_be_there_and_nothing_else() {
        let honest = honest();
        for (from, to) in [
            ("UTC", "CET"),
            ("d-i time/zone string UTC\n", ""),
            ("in-target false )", "in-target false; evil )"),
            ("( in-target true", "( evil; in-target true"),
            (" && /leaseboot/init member install --root /target", ""),
            ("--root /target", "--root /target; evil"),
            ("@sealed:root@", "hunter2"),
        ] {
            assert!(look(&honest.replacen(from, to, 1)).is_err(), "{from} -> {to}");
        }
        for added in [
            "d-i preseed/early_command string evil",
            "d-i preseed/run string evil",
            "d-i preseed/include string http://10.10.0.1/more",
            "d-i time/zone string CET",
            "d-i time/zone seen false",
            "d-i mirror/http/hostname string 10.10.0.1",
            "d-i debian-installer/add-kernel-opts string init=/bin/sh",
            "d-i netcfg/get_hostname string other",
            "d-i netcfg/get_nameservers string 10.10.0.1",
            "d-i netcfg/get_ipaddress string $(evil)",
            "d-i partman-auto/disk string /dev/sda",
            "d-i partman/confirm string true",
            "grub-pc partman/confirm boolean true",
            "d-i preseed/late_command string evil",
            "d-i preseed/late_command string /leaseboot/init member install --root /target",
            "# note \\",
            "nonsense",
        ] {
            assert!(look(&format!("{honest}{added}\n")).is_err(), "{added}");
            assert!(look(&format!("{added}\n{honest}")).is_err(), "{added}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(merged in "(d-i|preseed/late_command|string|#|\\\\|[a-z/ \n]){0,40}") {
            let _ = look(&merged);
        }
    }
}
