use super::super::merge;
use super::super::tests::{House, settings};
use leaseboot_protocol::installer::Installer;
use leaseboot_protocol::leases::MergeProblem;
use proptest::prelude::*;

const EXAMPLE: &str = include_str!("../../../tests/profiles/web.preseed");

fn merged(text: &str) -> Result<super::super::Merged, Vec<MergeProblem>> {
    let mut settings = settings(text);
    settings.installer = Installer::Preseed {};
    settings.kickstart_origin = "profiles/web/web.cfg".to_owned();
    House::new().with(|lender| merge(lender, &settings))
}

/// The one problem of a preseed that is otherwise in order.
fn problem(lines: &str) -> MergeProblem {
    let found = merged(&format!("d-i partman-auto/method string regular\n{lines}")).unwrap_err();
    assert_eq!(found.len(), 1, "{lines:?}: {found:#?}");
    found.into_iter().next().unwrap()
}

#[test]
fn the_example_merges_and_no_line_is_lost() {
    let merged = merged(EXAMPLE).unwrap();
    let text = &merged.kickstart;
    for line in [
        "d-i netcfg/get_ipaddress string 10.10.0.11",
        "d-i partman-auto/disk string /dev/disk/by-id/virtio-LARGE",
        "d-i grub-installer/bootdev string /dev/disk/by-id/virtio-LARGE",
        "d-i finish-install/reboot_in_progress note",
    ] {
        assert_eq!(
            text.lines().filter(|found| *found == line).count(),
            1,
            "{line}\n{text}"
        );
    }
    for line in EXAMPLE
        .lines()
        .filter(|line| !line.contains("late_command") && !line.contains("enable nginx"))
    {
        assert!(text.lines().any(|found| found == line), "lost: {line}");
    }
    assert!(text.contains("string ( in-target sh -c"), "{text}");
    assert!(
        text.contains(" ) && /leaseboot/init member install --root /target\n"),
        "{text}"
    );
}

#[test]
fn clashes_and_mistakes_are_told_with_their_lines() {
    for (lines, lender, words) in [
        (
            "d-i netcfg/get_gateway string 10.0.0.1",
            Some("d-i netcfg/get_gateway string 10.10.0.1"),
            "lender's to say",
        ),
        (
            "d-i netcfg/choose_interface select eth7",
            Some("d-i netcfg/choose_interface"),
            "lender's to say",
        ),
        (
            "d-i netcfg/wireless_essid string x",
            Some("d-i netcfg/choose_interface"),
            "lender's to say",
        ),
        (
            "d-i partman-auto/disk string /dev/sda",
            Some("d-i partman-auto/disk"),
            "lender's to say",
        ),
        (
            "d-i partman/confirm boolean false",
            Some("d-i partman/confirm boolean true"),
            "lender's to say",
        ),
        (
            "d-i debian-installer/exit/poweroff boolean true",
            Some("d-i partman-auto/disk"),
            "lender's to say",
        ),
        (
            "d-i debian-installer/add-kernel-opts string quiet console=ttyS1",
            Some("d-i grub-installer/bootdev"),
            "console=ttyS1",
        ),
        ("d-i netcfg/get_hostname string web-2", None, "\"web-2\""),
        ("d-i preseed/include string http://x/y", None, "cannot look at"),
        (
            "d-i preseed/late_command string true # done",
            None,
            "take the comment out",
        ),
        (
            "d-i time/zone string UTC\nd-i time/zone string CET",
            None,
            "line 2 answers time/zone already",
        ),
        (
            "d-i passwd/root-password-crypted password @sealed:other@",
            None,
            "no sealed value",
        ),
        (
            "d-i partman-auto/expert_recipe string one :: 30000 50 -1 ext4 .",
            None,
            "largest disk",
        ),
        ("d-i partman-auto/expert_recipe string one", None, "name :: min"),
    ] {
        let problem = problem(lines);
        assert!(problem.message.contains(words), "{lines}: {problem}");
        assert!(
            problem.enterprise.as_ref().unwrap().number >= 2,
            "{lines}: {problem}"
        );
        assert_eq!(problem.enterprise.unwrap().origin, "profiles/web/web.cfg");
        match (lender, problem.lender) {
            (Some(words), Some(line)) => assert!(line.text.starts_with(words), "{lines}: {line}"),
            (None, None) => {}
            (_, found) => panic!("{lines}: {found:?}"),
        }
    }
}

#[test]
fn the_same_word_of_both_is_no_clash() {
    let merged = merged("d-i partman-auto/method string lvm\nd-i partman/confirm boolean true\nd-i finish-install/reboot_in_progress note\n").unwrap();
    assert_eq!(merged.kickstart.matches("partman/confirm boolean").count(), 1);
    assert_eq!(merged.kickstart.matches("reboot_in_progress").count(), 1);
    assert!(
        merged
            .kickstart
            .contains("d-i netcfg/get_hostname string web-1\n")
    );
    assert!(
        merged
            .kickstart
            .ends_with("d-i preseed/late_command string /leaseboot/init member install --root /target\n")
    );
}

proptest! {
    #[test]
    fn never_panics_and_a_merge_is_not_merged_again(lines in prop::collection::vec(prop::sample::select(vec![
        "d-i partman-auto/method string lvm", "d-i time/zone string UTC", "# note", "", "d-i a/b string x \\", "y",
        "d-i preseed/late_command string a; \\", "d-i preseed/late_command string", "tasksel tasksel/first multiselect",
    ]), 0..10)) {
        if let Ok(first) = merged(&lines.join("\n")) {
            prop_assert!(merged(&first.kickstart).is_err());
        }
    }
}
