//! What the PO agrees to and what it does not.

use super::*;
use proptest::prelude::*;

const OURS: &str = "# web\nlang C.UTF-8\nrootpw --iscrypted @sealed:root@\nreboot\n\n%packages\nnginx\n\n%end\n%post --log=/root/post.log\nsystemctl enable nginx\n%end\n";
const LENDER: &str = "zerombr\nignoredisk --only-use=/dev/disk/by-id/virtio-LAB0001\nclearpart --all --initlabel --drives=/dev/disk/by-id/virtio-LAB0001\nbootloader --location=mbr --boot-drive=/dev/disk/by-id/virtio-LAB0001 --append=\"console=tty0 console=ttyS0,115200\" # place\nnetwork --device=52:54:00:4c:41:42 --bootproto=static --ip=10.10.0.11 --netmask=255.255.255.0 --onboot=yes\n";
const POST: &str = "%post --nochroot --erroronfail\n# the member's tunnel\n/run/leaseboot/agent member install --root \"${ANA_INSTALL_PATH:-/mnt/sysimage}\"\n%end\n";

fn look(merged: &str) -> Result<usize, MergeObjection> {
    check(OURS, merged, &"web-1".parse().unwrap())
}

#[test]
fn an_honest_merge_is_agreed_to() {
    assert_eq!(look(OURS), Ok(0));
    assert_eq!(look(&format!("{LENDER}{OURS}{POST}")), Ok(9));
    let tagged = LENDER.replace(" --onboot", " --vlanid=20 --onboot");
    assert_eq!(look(&format!("{tagged}{OURS}{POST}")), Ok(9));
    let inside = OURS.replace("reboot\n", &format!("reboot\n# the lender's\n{LENDER}"));
    assert_eq!(look(&format!("{inside}\n\n{POST}")), Ok(10));
}

#[test]
fn every_line_of_ours_must_be_there_in_order() {
    for line in OURS.lines().filter(|line| !line.is_empty()) {
        let without = OURS.replacen(&format!("{line}\n"), "", 1);
        assert!(look(&without).is_err(), "without {line:?}");
        let changed = OURS.replacen(line, &format!("{line} --x"), 1);
        // What follows %end on its line means nothing.
        assert!(line == "%end" || look(&changed).is_err(), "with {line:?} changed");
    }
    let swapped = OURS.replace(
        "lang C.UTF-8\nrootpw --iscrypted @sealed:root@\n",
        "rootpw --iscrypted @sealed:root@\nlang C.UTF-8\n",
    );
    assert!(look(&swapped).is_err());
    let objection = look(&OURS.replace("C.UTF-8", "ja_JP")).unwrap_err();
    assert!(
        matches!(objection, MergeObjection::Lost { line: 2, .. }),
        "{objection}"
    );
}

#[test]
fn the_lender_adds_nothing_of_its_own_will() {
    for added in [
        "user --name=lender --password=x",
        "rootpw x",
        "%include http://10.10.0.1/more.ks",
        "%pre\ncurl evil\n%end",
        "%post\nevil\n%end",
        "%post --interpreter=/usr/bin/python3\n%end",
        "%post --nochroot\n/run/leaseboot/agent member install --root /mnt;evil\n%end",
        "%post --nochroot\n/run/leaseboot/agent member install --root $(evil)\n%end",
        "%post --nochroot\n/run/leaseboot/agent member run\n%end",
        "bootloader --append=\"console=ttyS0 init=/bin/sh\"",
        "bootloader --append \"init=/bin/sh\"",
        "bootloader --password=x",
        "network --hostname=other",
        "network --nameserver=10.10.0.1",
        "repo --name=x --baseurl=http://10.10.0.1",
        "zerombr \\",
        "reboot --eject",
        "lang 'C",
        "sshkey --username=root \"ssh-ed25519 AAAA\"",
    ] {
        let first = look(&format!("{added}\n{OURS}")).expect_err(added);
        assert!(matches!(first, MergeObjection::Added { line: 1, .. }), "{first}");
        assert!(look(&format!("{OURS}{added}\n")).is_err(), "{added}");
    }
    assert_eq!(look(&format!("network --hostname=web-1\n{OURS}")), Ok(1));
}

#[test]
fn sections_of_ours_stay_whole() {
    for added in ["#", "zerombr", "evil"] {
        let inside = OURS.replace("nginx\n\n%end", &format!("nginx\n{added}\n%end"));
        assert!(look(&inside).is_err(), "{added}");
    }
}

#[test]
fn both_write_the_boot_loaders_line_and_nobody_overrides() {
    let hostname = "web-1".parse().unwrap();
    let ours = "bootloader --timeout=5 --append=\"quiet mitigations=auto\"\n";
    let look = |merged: &str| check(ours, merged, &hostname);
    let place = "bootloader --location=mbr --boot-drive=disk/by-id/virtio-LAB0001";
    for agreed in [
        "--timeout=5 --append=\"quiet mitigations=auto console=tty0 console=ttyS0\"",
        "--timeout=5 --append=\"quiet mitigations=auto\"",
        "--append \"quiet mitigations=auto console=tty0\" --timeout=5",
    ] {
        assert_eq!(look(&format!("{place} {agreed}\n")), Ok(0), "{agreed}");
    }
    for changed in [
        "--timeout=5 --append=\"quiet mitigations=auto init=/bin/sh\"",
        "--timeout=5 --append=\"quiet mitigations=autoconsole=tty0\"",
        "--timeout=5 --append=\"console=tty0 quiet mitigations=auto\"",
        "--timeout=5 --append=\"quiet mitigations=auto\" --append=\"init=/bin/sh\"",
        "--timeout=5 --append=\"quiet mitigations=auto\" --password=x",
        "--timeout=5",
        "--append=\"quiet mitigations=auto\"",
    ] {
        assert!(look(&format!("{place} {changed}\n")).is_err(), "{changed}");
    }
    let plain = check("bootloader\n", &format!("{place}\n"), &hostname);
    assert_eq!(plain, Ok(0));
}

proptest! {
    #[test]
    fn lines_of_the_lender_anywhere_outside_of_sections_are_counted(at in prop::collection::vec(0usize..5, 0..5)) {
        let mut lines: Vec<String> = OURS.lines().map(str::to_owned).collect();
        for at in &at {
            lines.insert(*at, "zerombr".to_owned());
        }
        prop_assert_eq!(look(&lines.join("\n")), Ok(at.len()));
    }

    #[test]
    fn never_panics(merged in "(%post|%end|\"|'|#|\\\\|[a-z= \n-]){0,40}") {
        let _ = look(&merged);
    }
}
