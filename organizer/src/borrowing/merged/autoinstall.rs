//! A merged autoinstall text, looked at twice, because two readers of YAML may differ.
//!
//! **By lines**: the enterprise's lines are all there, in order, byte for byte; each line between them has one of a few shapes, in which
//! nothing can stand but plain words. **By meaning**: the tree of the merged text without the lender's keys is the enterprise's tree.
//! The first look leaves a hostile lender no room for what a reader could misread; the second says where its lines took effect.

use super::{MergeObjection, OutlineError};
use leaseboot_protocol::installer::Installer;
use leaseboot_protocol::yaml::{self, Node};

/// What the enterprise calls the disk that the lender gives.
const DISK_ID: &str = "lender-disk";

pub(super) fn check(ours: &str, merged: &str) -> Result<usize, MergeObjection> {
    let added = check_lines(ours, merged)?;
    let outline = |error: yaml::YamlError| OutlineError {
        line: error.line,
        problem: error.problem,
    };
    let ours = yaml::parse(ours).map_err(|error| MergeObjection::Ours(outline(error)))?;
    let mut theirs = yaml::parse(merged).map_err(|error| MergeObjection::Theirs(outline(error)))?;
    let wrong = |node: &Node, reason: &str| MergeObjection::Added {
        line: node.line,
        text: merged
            .lines()
            .nth(node.line.saturating_sub(1))
            .unwrap_or_default()
            .to_owned(),
        reason: reason.to_owned(),
    };
    let shape = theirs.clone();
    take_out(&ours, &mut theirs).map_err(|reason| wrong(&shape, reason))?;
    if theirs.means_the_same(&ours) {
        Ok(added)
    } else {
        Err(wrong(
            &shape,
            "without the lender's keys it does not mean what the enterprise wrote",
        ))
    }
}

/// The first look; tells how many lines the lender added.
fn check_lines(ours: &str, merged: &str) -> Result<usize, MergeObjection> {
    let mut expected = (1..).zip(ours.lines()).peekable();
    let mut added = 0;
    for (number, line) in (1..).zip(merged.split('\n')) {
        if expected.next_if(|(_, next)| *next == line).is_some() {
            continue;
        }
        if number > 1 && line.is_empty() && expected.peek().is_none() {
            continue;
        }
        if number == 1 || !is_lenders(line) {
            return Err(MergeObjection::Added {
                line: number,
                text: line.to_owned(),
                reason: "it is neither the enterprise's nor one that a lender may write".to_owned(),
            });
        }
        added += 1;
    }
    match expected.next() {
        Some((line, text)) => Err(MergeObjection::Lost {
            line,
            text: text.to_owned(),
        }),
        None => Ok(added),
    }
}

/// The shapes of the lender's lines. What varies in them are addresses and serial numbers, made of harmless characters.
fn is_lenders(line: &str) -> bool {
    let line = line.trim_start_matches(' ');
    if !line.bytes().all(|b| b == b' ' || b.is_ascii_graphic()) {
        return false;
    }
    let member = Installer::Autoinstall {}.member_install();
    let comment = line.strip_prefix("# lender: ");
    comment.is_some_and(|words| {
        words
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b" ',".contains(&b))
    }) || line == "late-commands:"
        || line.strip_prefix("- ") == Some(member)
        || is_match(line)
        || is_disk(line)
        || is_network(line)
}

fn is_match(line: &str) -> bool {
    let serial = line
        .strip_prefix("match: {serial: \"")
        .and_then(|rest| rest.strip_suffix("\"}"));
    serial.is_some_and(is_serial)
}

/// No `*`, `?` or `[`, by which subiquity would match more than one disk.
fn is_serial(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.:+".contains(&b))
}

fn is_disk(line: &str) -> bool {
    let start = format!("- {{id: {DISK_ID}, type: disk, match: {{serial: \"");
    let rest = line
        .strip_prefix(start.as_str())
        .and_then(|rest| rest.split_once('"'));
    rest.is_some_and(|(serial, rest)| {
        let plain = "}, ptable: gpt, wipe: superblock-recursive, preserve: false}";
        let bios = "}, ptable: gpt, wipe: superblock-recursive, preserve: false, grub_device: true}";
        is_serial(serial) && (rest == plain || rest == bios)
    })
}

fn is_network(line: &str) -> bool {
    let Some((mac, settings)) = on_the_card(line).or_else(|| on_a_tag(line)) else {
        return false;
    };
    let Some((address, rest)) = settings
        .strip_prefix("dhcp4: false, dhcp6: false, addresses: [\"")
        .and_then(|rest| rest.split_once("\"]"))
    else {
        return false;
    };
    let route = rest
        .strip_prefix(", routes: [{to: \"0.0.0.0/0\", via: \"")
        .and_then(|rest| rest.split_once("\"}]"));
    let (via, rest) = route.map_or((None, rest), |(via, rest)| (Some(via), rest));
    let mtu = rest.strip_prefix(", mtu: ").and_then(|rest| rest.split_once('}'));
    let (mtu, rest) = mtu.map_or((None, rest), |(mtu, _)| {
        (Some(mtu), &rest[", mtu: ".len() + mtu.len()..])
    });
    mac.parse::<leaseboot_protocol::network::MacAddress>().is_ok()
        && address.parse::<ipnet::Ipv4Net>().is_ok()
        && via.is_none_or(|via| via.parse::<std::net::Ipv4Addr>().is_ok())
        && mtu.is_none_or(|mtu| mtu.parse::<u16>().is_ok())
        && rest == "}}}"
}

/// The card's address, and the settings of an interface that is the card itself.
fn on_the_card(line: &str) -> Option<(&str, &str)> {
    let rest = line.strip_prefix("network: {version: 2, ethernets: {lender: {match: {macaddress: \"")?;
    rest.split_once("\"}, ")
}

/// The card's address, and the settings of an interface above it, for frames with a tag.
fn on_a_tag(line: &str) -> Option<(&str, &str)> {
    let rest = line.strip_prefix("network: {version: 2, ethernets: {card: {match: {macaddress: \"")?;
    let (mac, rest) = rest.split_once("\"}, dhcp4: false, dhcp6: false}}, vlans: {lender: {id: ")?;
    let (tag, settings) = rest.split_once(", link: card, ")?;
    let tag: u16 = tag.parse().ok()?;
    (1..=4094).contains(&tag).then_some((mac, settings))
}

/// The second look: takes the lender's keys out of the merged tree, from the places where they belong and from no others.
fn take_out(ours: &Node, theirs: &mut Node) -> Result<(), &'static str> {
    let member = Installer::Autoinstall {}.member_install();
    let ours = ours
        .get("autoinstall")
        .ok_or("the enterprise's text has no autoinstall")?;
    let theirs = theirs.get_mut("autoinstall").ok_or("it has no autoinstall")?;
    if ours.get("network").is_none() {
        theirs
            .remove("network")
            .ok_or("it does not say what the network is")?;
    }
    if let Some(storage) = theirs.get_mut("storage") {
        if let Some(layout) = storage.get_mut("layout") {
            layout
                .remove("match")
                .ok_or("it does not say which disk the layout is for")?;
        }
        if let Some(config) = storage.get_mut("config") {
            let disk = |action: &Node| action.get("id").and_then(Node::text) == Some(DISK_ID);
            config
                .remove_item(disk)
                .ok_or("it does not say which disk is used")?;
        }
    }
    let late = theirs
        .get_mut("late-commands")
        .ok_or("it does not leave the member's tunnel")?;
    let last = late.items().last().and_then(Node::text);
    if last != Some(member) {
        return Err("the last of the late commands is not the member's tunnel");
    }
    let count = late.items().len();
    match ours.get("late-commands") {
        Some(_) => {
            let mut index = 0;
            late.remove_item(|_| {
                index += 1;
                index == count
            });
        }
        None if count == 1 => {
            theirs.remove("late-commands");
        }
        None => return Err("it has more late commands than the member's tunnel"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OURS: &str = "#cloud-config\nautoinstall:\n  version: 1\n  identity:\n    password: \"@sealed:root@\"\n  storage:\n    layout:\n      name: lvm\n  late-commands:\n    - echo a\n    - |\n      echo b\n  shutdown: reboot\n";
    const NETWORK: &str = "  network: {version: 2, ethernets: {lender: {match: {macaddress: \"52:54:00:4c:42:01\"}, dhcp4: false, dhcp6: false, addresses: [\"10.10.0.11/24\"], routes: [{to: \"0.0.0.0/0\", via: \"10.10.0.1\"}], mtu: 9000}}}\n";
    const MATCH: &str = "      match: {serial: \"LAB0001\"}\n";
    const TUNNEL: &str = "    - /run/leaseboot/agent member install --root /target\n";

    fn honest() -> String {
        OURS.replace("  version", &format!("  # lender: its wire\n{NETWORK}  version"))
            .replace("      name: lvm\n", &format!("{MATCH}      name: lvm\n"))
            .replace("  shutdown", &format!("{TUNNEL}  shutdown"))
    }

    #[test]
    fn an_honest_merge_is_agreed_to() {
        assert_eq!(check(OURS, &honest()), Ok(4));
        let without = OURS.replace("  late-commands:\n    - echo a\n    - |\n      echo b\n", "");
        let merged = honest().replace(
            "  late-commands:\n    - echo a\n    - |\n      echo b\n    - /run",
            "  late-commands:\n  - /run",
        );
        assert_eq!(check(&without, &merged), Ok(5));
        let no_router = honest().replace(
            ", routes: [{to: \"0.0.0.0/0\", via: \"10.10.0.1\"}], mtu: 9000",
            "",
        );
        assert_eq!(check(OURS, &no_router), Ok(4));
        let tagged = |tag: &str| {
            let card =
                "ethernets: {card: {match: {macaddress: \"52:54:00:4c:42:01\"}, dhcp4: false, dhcp6: false}}";
            let above = format!("{card}, vlans: {{lender: {{id: {tag}, link: card, dhcp4");
            let untagged = "ethernets: {lender: {match: {macaddress: \"52:54:00:4c:42:01\"}, dhcp4";
            honest().replace(untagged, &above)
        };
        assert_eq!(check(OURS, &tagged("20")), Ok(4));
        for tag in ["0", "4095", "20, link: card, x: 1", "x"] {
            assert!(check(OURS, &tagged(tag)).is_err(), "{tag}");
        }
    }

    #[test]
    fn the_lenders_lines_count_only_where_they_belong() {
        let honest = honest();
        for (from, to) in [
            ("version: 1", "version: 2"),
            ("echo a", "echo evil"),
            ("      name: lvm\n", ""),
            (TUNNEL, ""),
            (MATCH, ""),
            (NETWORK, ""),
            (
                TUNNEL,
                "    - /run/leaseboot/agent member install --root /target; evil\n",
            ),
            (
                TUNNEL,
                "    - evil\n    - /run/leaseboot/agent member install --root /target\n",
            ),
            (
                "    - echo a\n",
                "    - /run/leaseboot/agent member install --root /target\n    - echo a\n",
            ),
            ("      echo b\n", "      echo b\n      late-commands:\n"),
            ("LAB0001", "*"),
            ("LAB0001\"}", "LAB0001\", size: largest}"),
            ("dhcp4: false", "dhcp4: true"),
            ("mtu: 9000", "mtu: 9000, nameservers: {addresses: [10.10.0.1]}"),
            (
                "# lender: its wire",
                "# lender: its wire\n  early-commands: [evil]",
            ),
            ("# lender: its wire", "# lender: &x"),
            ("#cloud-config", "## template: jinja"),
            ("@sealed:root@", "hunter2"),
            (
                "  shutdown: reboot\n",
                "  shutdown: reboot\n---\nautoinstall: {}\n",
            ),
            ("  shutdown: reboot\n", "  shutdown: reboot\nruncmd: [evil]\n"),
        ] {
            let changed = honest.replacen(from, to, 1);
            assert_ne!(changed, honest, "{from}");
            assert!(check(OURS, &changed).is_err(), "{from} -> {to}");
        }
        assert!(check(OURS, &format!("# lender: first\n{honest}")).is_err());
    }

    #[test]
    fn a_disk_action_is_the_lenders() {
        let ours = "#cloud-config\nautoinstall:\n  storage:\n    config:\n    - {id: a, type: partition, device: lender-disk}\n";
        let disk = "    - {id: lender-disk, type: disk, match: {serial: \"X\"}, ptable: gpt, wipe: superblock-recursive, preserve: false}\n";
        let merged = format!(
            "#cloud-config\nautoinstall:\n{NETWORK}  late-commands:\n  - /run/leaseboot/agent member install --root /target\n  storage:\n    config:\n{disk}    - {{id: a, type: partition, device: lender-disk}}\n"
        );
        assert_eq!(check(ours, &merged), Ok(4));
        assert!(check(ours, &merged.replace(disk, "")).is_err());
        assert!(check(ours, &merged.replace("preserve: false", "preserve: true")).is_err());
        assert!(check(ours, &merged.replace(disk, &format!("{disk}{disk}"))).is_err());
    }

    proptest! {
        #[test]
        fn a_line_more_anywhere_changes_the_verdict_or_means_nothing(at in 0usize..17, line in prop::sample::select(vec![
            "# lender: note", "      match: {serial: \"X\"}", "  late-commands:", "    - /run/leaseboot/agent member install --root /target", "", "x: y",
        ])) {
            let mut lines: Vec<String> = honest().lines().map(str::to_owned).collect();
            lines.insert(at.min(lines.len()), line.to_owned());
            let looked = check(OURS, &lines.join("\n"));
            prop_assert!(looked.is_err() || line.starts_with('#') || line.is_empty());
        }
    }
}
