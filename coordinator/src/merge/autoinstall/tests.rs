use super::super::merge;
use super::super::tests::{House, settings};
use leaseboot_protocol::hardware::Firmware;
use leaseboot_protocol::installer::Installer;
use leaseboot_protocol::leases::MergeProblem;
use leaseboot_protocol::yaml::{self, Node};
use proptest::prelude::*;

const LAYOUT: &str = include_str!("../../../tests/profiles/web-autoinstall.yaml");
const CONFIG: &str = include_str!("../../../tests/profiles/disk-autoinstall.yaml");
const START: &str = "#cloud-config\nautoinstall:\n  version: 1\n  identity: {hostname: web-1}\n";

fn merged(text: &str) -> Result<super::super::Merged, Vec<MergeProblem>> {
    let mut settings = settings(text);
    settings.installer = Installer::Autoinstall {};
    settings.kickstart_origin = "profiles/web/user-data".to_owned();
    House::new().with(|lender| merge(lender, &settings))
}

fn tree(text: &str) -> Node {
    yaml::parse(text).unwrap().remove("autoinstall").unwrap().1
}

#[test]
fn a_layout_gets_its_disk_and_no_line_is_lost() {
    let merged = merged(LAYOUT).unwrap();
    let tree = tree(&merged.kickstart);
    let layout = tree.get("storage").unwrap().get("layout").unwrap();
    assert_eq!(
        layout.get("match").unwrap().get("serial").unwrap().text(),
        Some("SMALL")
    );
    assert_eq!(layout.get("name").unwrap().text(), Some("lvm"));
    let late = tree.get("late-commands").unwrap().items();
    assert_eq!(late.len(), 3);
    assert_eq!(
        late[2].text(),
        Some("/run/leaseboot/agent member install --root /target")
    );
    assert!(late[1].text().unwrap().ends_with("index.html\n"));
    let card = tree
        .get("network")
        .unwrap()
        .get("ethernets")
        .unwrap()
        .get("lender")
        .unwrap();
    assert_eq!(
        card.get("addresses").unwrap().items()[0].text(),
        Some("10.10.0.11/24")
    );
    let mut rest = merged.kickstart.lines();
    for line in LAYOUT.lines() {
        assert!(rest.any(|found| found == line), "lost or moved: {line}");
    }
}

#[test]
fn actions_get_their_disk_in_front() {
    let merged = merged(CONFIG).unwrap();
    let tree = tree(&merged.kickstart);
    let actions = tree.get("storage").unwrap().get("config").unwrap().items();
    assert_eq!(actions.len(), 10);
    assert_eq!(actions[0].get("type").unwrap().text(), Some("disk"));
    assert_eq!(tree.get("late-commands").unwrap().items().len(), 1);
    assert_eq!(merged.disk, "virtio-LARGE");
    assert!(actions[0].get("grub_device").is_none());
    let mut bios = House::new();
    bios.hardware.firmware = Firmware::Bios;
    let mut settings = settings(CONFIG);
    settings.installer = Installer::Autoinstall {};
    let text = bios.with(|lender| merge(lender, &settings)).unwrap().kickstart;
    assert!(text.contains("grub_device: true"));
}

#[test]
fn clashes_and_mistakes_are_told_with_their_lines() {
    let storage = "  storage:\n    layout:\n      name: lvm\n";
    let rest = |lines: &str| format!("{START}{storage}{lines}");
    let disks = |lines: &str| format!("{START}  storage:\n    config:\n{lines}");
    for (text, line, lender, words) in [
        (
            rest("  network: {version: 2}\n"),
            8,
            true,
            "network is the lender's",
        ),
        (
            rest("  shutdown: poweroff\n"),
            8,
            true,
            "shutdown is the lender's",
        ),
        (
            rest("  interactive-sections: [network]\n"),
            8,
            false,
            "stop and ask",
        ),
        (rest("  frobnicate: 1\n"), 8, false, "no autoinstall key"),
        (rest("  late-commands: [reboot]\n"), 8, false, "a line of its own"),
        (rest("  user-data: {hostname: web-2}\n"), 8, false, "\"web-2\""),
        (rest("  proxy: &x y\n"), 8, false, "anchors"),
        (rest("  proxy: [[[[\n"), 9, false, "not YAML"),
        (rest("  locale: C\n  locale: D\n"), 9, false, "line 8 has the key"),
        (rest("---\na: 1\n"), 8, false, "second document"),
        (rest("  proxy: \"a\u{85}b\"\n"), 8, false, "control character"),
        (
            rest("      match: {size: largest}\n"),
            8,
            true,
            "storage.layout.match is the lender's",
        ),
        (
            format!("{START}  storage: {{layout: {{name: lvm}}}}\n"),
            5,
            false,
            "a line of its own",
        ),
        (
            disks("    - {id: a, type: disk, path: /dev/sda}\n"),
            7,
            true,
            "disks are the lender's",
        ),
        (
            disks("    - {id: a, type: partition, device: sda, size: 1G}\n"),
            7,
            false,
            "no disk \"sda\"",
        ),
        (
            disks("    - {id: a, type: partition, device: lender-disk, size: 30G}\n"),
            7,
            false,
            "largest disk",
        ),
        (
            disks("    - {id: a, type: partition, device: lender-disk, size: big}\n"),
            7,
            false,
            "a size is",
        ),
        (
            START.replace("#cloud-config", "## template: jinja"),
            1,
            false,
            "#cloud-config",
        ),
        (
            "#cloud-config\nautoinstall: {version: 1}\n".to_owned(),
            2,
            false,
            "lines of their own",
        ),
    ] {
        let found = merged(&text).unwrap_err();
        assert_eq!(found.len(), 1, "{text}: {found:#?}");
        let problem = &found[0];
        assert!(problem.message.contains(words), "{text}: {problem}");
        assert_eq!(
            problem.enterprise.as_ref().map(|line| line.number),
            Some(line),
            "{text}: {problem}"
        );
        assert_eq!(problem.lender.is_some(), lender, "{text}: {problem}");
    }
}

#[test]
fn what_the_installer_would_ask_is_refused() {
    let found = merged("#cloud-config\nautoinstall:\n  locale: C\n").unwrap_err();
    let said = found
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n");
    for words in ["no version", "neither identity", "does not name", "no storage"] {
        assert!(said.contains(words), "{words} in {said}");
    }
}

#[test]
fn logical_volumes_must_have_room() {
    let found = merged(&CONFIG.replace("name: root, size: 10G", "name: root, size: 13G")).unwrap_err();
    assert!(found[0].message.contains("logical volumes of vg"), "{found:?}");
}

proptest! {
    #[test]
    fn never_panics_and_never_loses_a_line(lines in prop::collection::vec(prop::sample::select(vec![
        "  locale: C", "  late-commands:", "  - a", "    - b", "  - |", "      x", "# note", "", "  storage:", "    layout:",
        "      name: lvm", "    config:", "    - {id: a, type: mount}", "other: 1", "  packages: [a,", "  b]", "...", "  user-data:",
    ]), 0..14)) {
        let text = format!("{START}{}", lines.join("\n"));
        if let Ok(merged) = merged(&text) {
            let mut rest = merged.kickstart.lines();
            for line in text.lines() {
                prop_assert!(rest.any(|found| found == line));
            }
        }
    }
}
