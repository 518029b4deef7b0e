use super::super::tests::{House, settings};
use leaseboot_protocol::installer::{Installer, KickstartSyntax};
use leaseboot_protocol::leases::MergeProblem;
use proptest::prelude::*;

const EXAMPLE: &str = include_str!("../../../../tests/installer/example.ks");

/// The one problem of a kickstart that is otherwise in order.
fn problem(lines: &str) -> MergeProblem {
    let found = House::new()
        .merge(&settings(&format!("part / --size=1000\n{lines}")))
        .unwrap_err();
    assert_eq!(found.len(), 1, "{lines:?}: {found:#?}");
    found.into_iter().next().unwrap()
}

#[test]
fn the_example_merges_and_says_whose_each_line_is() {
    let merged = House::new().merge(&settings(EXAMPLE)).unwrap();
    assert_eq!(merged.disk, "virtio-LARGE");
    let text = &merged.kickstart;
    for line in [
        "network --device=52:54:00:4c:42:01 --bootproto=static --ip=10.10.0.11 --netmask=255.255.255.0 --gateway=10.10.0.1 --noipv6 --onboot=yes --no-activate",
        "ignoredisk --only-use=disk/by-id/virtio-LARGE",
        "zerombr",
        "clearpart --all --initlabel --drives=disk/by-id/virtio-LARGE",
        "bootloader --location=mbr --boot-drive=disk/by-id/virtio-LARGE --append=\"console=tty0 console=ttyS0,115200\"",
        "/run/leaseboot/agent member install --root \"${ANA_INSTALL_PATH:-/mnt/sysimage}\"",
        "rootpw --iscrypted @sealed:root_password@",
    ] {
        assert_eq!(
            text.lines().filter(|found| *found == line).count(),
            1,
            "{line}\n{text}"
        );
    }
    assert_eq!(text.matches("\nreboot\n").count(), 1);
    let packages = text.find("%packages").unwrap();
    assert!(text.find("zerombr").unwrap() < packages);
    for line in EXAMPLE.lines() {
        assert!(text.lines().any(|found| found == line), "lost: {line}");
    }
}

#[test]
fn a_clash_names_both_lines() {
    for (line, lenders) in [
        (
            "network --device=eth0 --bootproto=dhcp",
            "network --device=52:54:00:4c:42:01",
        ),
        (
            "network --hostname=web-1 --nameserver=1.1.1.1",
            "network --device",
        ),
        ("ignoredisk --only-use=sda", "ignoredisk --only-use=disk/by-id/"),
        ("zerombr", "zerombr"),
        ("clearpart --all", "clearpart --all --initlabel"),
        ("bootloader --location=none", "bootloader --location=mbr"),
        ("bootloader --boot-d=sda", "bootloader --location=mbr"),
        (
            "bootloader --append=\"console=ttyS1 quiet\"",
            "bootloader --location=mbr",
        ),
        ("part /var --ondisk=sdb --size=10", "ignoredisk"),
        ("part /var --ondri sdb --size=10", "ignoredisk"),
        ("poweroff", "reboot"),
        ("halt", "reboot"),
        ("reboot --eject", "reboot"),
        ("iscsi --target=x", "ignoredisk"),
    ] {
        let problem = problem(line);
        let enterprise = problem.enterprise.as_ref().unwrap();
        assert_eq!((enterprise.number, enterprise.text.as_str()), (2, line));
        assert_eq!(enterprise.origin, "profiles/web/web.ks");
        let lender = problem.lender.as_ref().unwrap();
        assert!(lender.text.starts_with(lenders), "{line}: {lender}");
        assert_eq!(lender.origin, "lender's settings of lab0001");
    }
}

#[test]
fn what_could_not_be_installed_is_refused_with_its_line() {
    for (lines, number, words) in [
        ("%frobnicate\n%end", Some(2), "no section %frobnicate"),
        ("%post\necho", Some(2), "no %end"),
        (
            "%post\necho\n%packages\n%end",
            Some(2),
            "no %end before the next one begins on line 4",
        ),
        ("%end", Some(2), "without a section"),
        ("rootpw a\nrootpw b", Some(3), "line 2 says this already"),
        (
            "url --url=a\nnfs --server=b --dir=c",
            Some(3),
            "line 2 says this already",
        ),
        (
            "network --hostname=web-1\nnetwork --hostname=web-1",
            Some(3),
            "line 2 says this already",
        ),
        ("network --hostname=web-2", Some(2), "\"web-2\""),
        ("frobnicate --all", Some(2), "no kickstart command"),
        ("user --name=\"x", Some(2), "quotation mark"),
        ("rootpw @sealed:Bad name@", Some(2), "@sealed:name@"),
        (
            "rootpw @sealed:other@",
            Some(2),
            "no sealed value named \"other\"",
        ),
        ("%include /tmp/disks", Some(2), "%include"),
        ("%pre\n%include /tmp/disks\n%end", Some(3), "%include"),
        ("text\u{c}zerombr", Some(2), "control character"),
        ("part /var --size=1TB", Some(2), "not a number"),
        ("part /var --siz=100", Some(2), "spell the option out"),
        (
            "bootloader --appen=\"console=ttyS1\"",
            Some(2),
            "spell the option out",
        ),
        (
            "part /var --size=100000",
            Some(2),
            "largest disk that was asked for has 20480 MiB",
        ),
    ] {
        let problem = problem(lines);
        assert!(problem.message.contains(words), "{lines:?}: {problem}");
        assert_eq!(problem.enterprise.map(|line| line.number), number, "{lines:?}");
        assert_eq!(problem.lender, None);
    }
}

#[test]
fn all_problems_are_told_at_once() {
    let mut house = House::new();
    house.hardware.memory_bytes = 1 << 30;
    house.hardware.nics.clear();
    let found = house
        .merge(&settings("zerombr\npoweroff\nfrobnicate"))
        .unwrap_err();
    let said = found
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n");
    for words in [
        "2048 MiB of memory",
        "no card 52:54:00:4c:42:01",
        "zerombr",
        "poweroff",
        "frobnicate",
        "no part",
    ] {
        assert!(said.contains(words), "{words} in {said}");
    }
}

#[test]
fn a_boot_loader_line_is_shared() {
    let merged = House::new().merge(&settings(
        "autopart\nbootloader --timeout=3 --append=\"quiet x=\\\"a b\\\"\" # ours",
    ));
    let text = merged.unwrap().kickstart;
    let line = text.lines().find(|line| line.starts_with("bootloader")).unwrap();
    assert_eq!(
        line,
        "bootloader --location=mbr --boot-drive=disk/by-id/virtio-SMALL --timeout=3 --append=\"quiet x=\\\"a b\\\" console=tty0 console=ttyS0,115200\""
    );
    let mut silent = House::new();
    silent.console = None;
    let text = silent
        .merge(&settings("autopart\nbootloader --append quiet"))
        .unwrap()
        .kickstart;
    assert!(
        text.contains("--boot-drive=disk/by-id/virtio-SMALL --append=quiet\n"),
        "{text}"
    );
}

#[test]
fn what_a_version_does_not_know_is_refused_by_its_name() {
    for (syntax, line, words) in [
        ("RHEL10", "auth --enableshadow", "auth was removed before RHEL10"),
        ("RHEL9", "auth --enableshadow", ""),
        ("RHEL9", "install", "install was removed before RHEL9"),
        (
            "RHEL7",
            "authselect select sssd",
            "RHEL8 is the first that knows it",
        ),
        ("F40", "vnc", ""),
        ("F46", "vnc", "vnc was removed before F46"),
        ("F42", "syspurpose --role=x", "syspurpose is not known to F42"),
        (
            "RHEL10",
            "timezone UTC --isUtc",
            "timezone --isUtc was removed before RHEL10",
        ),
        (
            "RHEL8",
            "rootpw --lock --allow-ssh",
            "RHEL9 is the first that knows it",
        ),
    ] {
        let mut settings = settings(&format!("part / --size=1000\n{line}"));
        let syntax: KickstartSyntax = syntax.parse().unwrap();
        settings.installer = Installer::Kickstart { syntax };
        match House::new().merge(&settings) {
            Ok(_) => assert_eq!(words, "", "{syntax}: {line}"),
            Err(found) => {
                assert!(!words.is_empty() && found.len() == 1, "{syntax}: {found:#?}");
                assert!(found[0].message.contains(words), "{syntax}: {}", found[0]);
                assert_eq!(found[0].enterprise.as_ref().unwrap().number, 2);
            }
        }
    }
}

#[test]
fn logical_volumes_must_have_room_in_their_group() {
    let volumes = |pv: &str, root: u64, swap: u64| {
        format!(
            "part /boot --size=1000\npart pv.01 {pv}\nvolgroup vg pv.01\nlogvol / --vgname=vg --name=root --size={root}\nlogvol swap --vgname=vg --name=swap --size {swap}\n"
        )
    };
    assert!(
        House::new()
            .merge(&settings(&volumes("--size=5000", 4000, 1000)))
            .is_ok()
    );
    assert!(
        House::new()
            .merge(&settings(&volumes("--size=500 --grow", 4000, 1000)))
            .is_ok()
    );
    let found = House::new()
        .merge(&settings(&volumes("--size=5000", 4000, 1001)))
        .unwrap_err();
    assert!(
        found.len() == 1 && found[0].message.contains("need 5001 MiB"),
        "{found:#?}"
    );
    assert_eq!(found[0].enterprise.as_ref().unwrap().number, 5);
}

#[test]
fn a_name_is_added_where_none_is_said() {
    let text = House::new().merge(&settings("autopart")).unwrap().kickstart;
    assert!(text.contains("network --hostname=web-1\n"));
    assert!(text.ends_with("%end\n"));
}

proptest! {
    #[test]
    fn never_panics(text in "(?s).{0,300}") {
        let _ = House::new().merge(&settings(&text));
    }

    #[test]
    fn kickstart_like_text_never_panics_and_merges_are_stable(lines in prop::collection::vec(prop::sample::select(vec![
        "part / --size=100", "text", "reboot", "%post", "%end", "bootloader --append='a b'", "network --hostname=web-1", "zerombr", "",
        "rootpw @sealed:root_password@", "# note", "%packages", "nginx", "part --size", "bootloader --append",
    ]), 0..12)) {
        let text = lines.join("\n");
        if let Ok(merged) = House::new().merge(&settings(&text)) {
            // What was merged says what the lender owns, so that a second merge must refuse it.
            prop_assert!(House::new().merge(&settings(&merged.kickstart)).is_err());
            prop_assert_eq!(merged.kickstart.matches("# lender: a fresh partition table\nzerombr\n").count(), 1);
        }
    }
}
