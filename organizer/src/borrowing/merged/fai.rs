//! Merged class variables of FAI. To a shell a later assignment silently replaces an earlier one, so the lender's must be of its own
//! names only, and values that a shell takes as they stand.

use super::{MergeObjection, OutlineError};
use leaseboot_protocol::ids::Hostname;
use leaseboot_protocol::network::MacAddress;
use leaseboot_protocol::variables::{self, Variable};

/// All assignments, or the first line that is none.
pub(super) fn read(text: &str) -> Result<Vec<Variable<'_>>, OutlineError> {
    let (variables, errors) = variables::parse(text);
    match errors.into_iter().next() {
        Some(error) => Err(OutlineError {
            line: error.line,
            problem: error.problem.to_owned(),
        }),
        None => Ok(variables),
    }
}

pub(super) fn check(ours: &str, merged: &str, hostname: &Hostname) -> Result<usize, MergeObjection> {
    let ours = read(ours).map_err(MergeObjection::Ours)?;
    let theirs = read(merged).map_err(MergeObjection::Theirs)?;
    let mut expected = ours.iter().peekable();
    let mut added: Vec<&str> = Vec::new();
    for variable in &theirs {
        if expected.next_if(|next| next.text == variable.text).is_some() {
            continue;
        }
        let twice = ours.iter().map(|ours| ours.name).chain(added.iter().copied());
        let reason = if twice.into_iter().any(|name| name == variable.name) {
            Some("it has a value already")
        } else if !is_lenders(variable, hostname) {
            Some("it is not the lender's to say, or has no such value")
        } else {
            None
        };
        if let Some(reason) = reason {
            return Err(match expected.peek() {
                // What is neither ours nor allowed is most often ours, changed.
                Some(next) if next.name == variable.name => lost(next),
                _ => MergeObjection::Added {
                    line: variable.line,
                    text: variable.text.to_owned(),
                    reason: reason.to_owned(),
                },
            });
        }
        added.push(variable.name);
    }
    match expected.next() {
        Some(missing) => Err(lost(missing)),
        None => Ok(added.len()),
    }
}

/// Whether the lender may say this: each of its names has one kind of value.
fn is_lenders(variable: &Variable<'_>, hostname: &Hostname) -> bool {
    let value = variable.value;
    match variable.name {
        "LEASEBOOT_DISK" => value.strip_prefix("/dev/disk/by-id/").is_some_and(|name| {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.:+".contains(&b);
            !name.is_empty() && name.bytes().all(plain)
        }),
        "LEASEBOOT_MAC" => value.parse::<MacAddress>().is_ok(),
        "LEASEBOOT_ADDRESS" => value.parse::<ipnet::Ipv4Net>().is_ok(),
        "LEASEBOOT_ROUTER" => value.parse::<std::net::Ipv4Addr>().is_ok(),
        "LEASEBOOT_MTU" => value.parse::<u16>().is_ok(),
        "LEASEBOOT_CONSOLE" => value.split(' ').all(|word| {
            word.strip_prefix("console=").is_some_and(|device| {
                let plain = |b: u8| b.is_ascii_alphanumeric() || b == b',';
                device.starts_with("tty") && device.bytes().all(plain)
            })
        }),
        "HOSTNAME" => value == hostname.as_str(),
        _ => false,
    }
}

fn lost(variable: &Variable<'_>) -> MergeObjection {
    MergeObjection::Lost {
        line: variable.line,
        text: variable.text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OURS: &str = "# web\nTIMEZONE=Etc/UTC\nROOTPW='@sealed:root_password@'\n";
    const LENDER: &str = "# lender: its wire\nLEASEBOOT_DISK=/dev/disk/by-id/virtio-LAB0001\nLEASEBOOT_MAC=52:54:00:4c:42:01\n\
        LEASEBOOT_ADDRESS=10.10.0.11/24\nLEASEBOOT_ROUTER=10.10.0.1\nLEASEBOOT_MTU=1500\n\
        LEASEBOOT_CONSOLE='console=tty0 console=ttyS0,115200'\nHOSTNAME=web-1\n";

    fn look(merged: &str) -> Result<usize, MergeObjection> {
        check(OURS, merged, &"web-1".parse().unwrap())
    }

    #[test]
    fn an_honest_merge_is_agreed_to() {
        assert_eq!(look(OURS), Ok(0));
        assert_eq!(look(&format!("{OURS}{LENDER}")), Ok(7));
    }

    #[test]
    fn every_variable_of_ours_must_be_there_and_nothing_else() {
        let honest = format!("{OURS}{LENDER}");
        for (from, to) in [
            ("Etc/UTC", "CET"),
            ("TIMEZONE=Etc/UTC\n", ""),
            ("@sealed:root_password@", "hunter2"),
            (
                "TIMEZONE=Etc/UTC\nROOTPW='@sealed:root_password@'\n",
                "ROOTPW='@sealed:root_password@'\nTIMEZONE=Etc/UTC\n",
            ),
            ("virtio-LAB0001", "../sda"),
            ("/dev/disk/by-id/virtio-LAB0001", "/dev/sda"),
            ("10.10.0.11/24", "10.10.0.11"),
            ("console=ttyS0", "init=/bin/sh"),
            ("HOSTNAME=web-1", "HOSTNAME=other"),
        ] {
            assert!(look(&honest.replacen(from, to, 1)).is_err(), "{from} -> {to}");
        }
        for added in [
            "PATH=/lender",
            "LD_PRELOAD=/lender.so",
            "FAI_CONFIG_SRC=http://10.10.0.1/config.tar.gz",
            "TIMEZONE=CET",
            "LEASEBOOT_MTU=1400",
            "LEASEBOOT_OTHER=x",
            "rm -rf /",
            "A=$(evil)",
        ] {
            assert!(look(&format!("{honest}{added}\n")).is_err(), "{added}");
            assert!(look(&format!("{added}\n{honest}")).is_err(), "{added}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(merged in "(A|B|LEASEBOOT_MTU|=|1|'|\"|#|\\$|x| |\n){0,40}") {
            let _ = look(&merged);
        }
    }
}
