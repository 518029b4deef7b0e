use super::*;
use leaseboot_protocol::digest::Sha256;
use leaseboot_protocol::hardware::{Cpu, Disk, Nic};
use leaseboot_protocol::settings::{Blob, BootImage, DiskRequirement};
use proptest::prelude::*;

const EXAMPLE: &str = include_str!("../../../tests/installer/example.ks");
const MAC: &str = "52:54:00:4c:42:01";

/// A lender with one server: 2 GiB, disks of 1 and 20 GiB.
struct House {
    server: ServerId,
    place: LenderAddress,
    console: Option<KernelWord>,
    hardware: HardwareReport,
    requirements: Requirements,
}

impl House {
    fn new() -> Self {
        let disk = |name: &str, serial: &str, gib: u64| Disk {
            name: name.to_owned(),
            by_id: format!("virtio-{serial}"),
            size_bytes: gib << 30,
            ..Disk::default()
        };
        let mac = MAC.parse().unwrap();
        Self {
            server: "lab0001".parse().unwrap(),
            place: LenderAddress {
                mac,
                address: "10.10.0.11/24".parse().unwrap(),
                router: Some("10.10.0.1".parse().unwrap()),
                mtu: 1500,
            },
            console: Some("ttyS0,115200".parse().unwrap()),
            hardware: HardwareReport {
                cpu: Cpu {
                    cores: 2,
                    ..Cpu::default()
                },
                memory_bytes: 1984 << 20,
                disks: vec![disk("vda", "SMALL", 1), disk("vdb", "LARGE", 20)],
                nics: vec![Nic {
                    name: "eth0".to_owned(),
                    mac,
                    driver: String::new(),
                    speed_mbps: None,
                    max_speed_mbps: None,
                    carrier: true,
                }],
                ..HardwareReport::default()
            },
            requirements: Requirements::default(),
        }
    }

    fn merge(&self, settings: &InstallSettings) -> Result<Merged, Vec<MergeProblem>> {
        let lender = Lender {
            server: &self.server,
            place: &self.place,
            console: self.console.as_ref(),
            hardware: &self.hardware,
            requirements: &self.requirements,
        };
        merge(&lender, settings)
    }
}

fn settings(kickstart: &str) -> InstallSettings {
    let blob = || Blob {
        path: "/v1/image/kernel".to_owned(),
        size: 1,
        sha256: Sha256::of(b"x"),
    };
    InstallSettings {
        profile: "web".to_owned(),
        hostname: "web-1".parse().unwrap(),
        kickstart: kickstart.to_owned(),
        kickstart_origin: "profiles/web/web.ks".to_owned(),
        sealed: vec!["root_password".to_owned()],
        tunnel: leaseboot_protocol::network::TunnelSettings {
            address: "10.99.0.10/24".parse().unwrap(),
            gateway_endpoint: "198.51.100.2:51820".parse().unwrap(),
            gateway_public_key: leaseboot_protocol::network::WireguardPublicKey([7; 32]),
            allowed_ips: vec!["10.99.0.0/24".parse().unwrap()],
            gateway_service: "10.99.0.1:80".parse().unwrap(),
            mtu: 1420,
            keepalive_s: 25,
        },
        image: BootImage {
            kernel: blob(),
            initrd: blob(),
            command_line: String::new(),
        },
        min_memory_mib: 2048,
    }
}

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
fn a_merge_is_repeatable_and_quick() {
    let (house, settings) = (House::new(), settings(EXAMPLE));
    let fastest = (0..50).map(|_| {
        let begun = std::time::Instant::now();
        let merged = house.merge(&settings).unwrap();
        (begun.elapsed(), merged)
    });
    let fastest: Vec<_> = fastest.collect();
    assert!(fastest.iter().all(|(_, merged)| *merged == fastest[0].1));
    let took = fastest.iter().map(|(took, _)| *took).min().unwrap();
    assert!(took.as_micros() < 1000, "{took:?}");
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
fn the_disk_that_was_asked_for_is_taken() {
    let mut house = House::new();
    let wanted = |gib| {
        vec![DiskRequirement {
            count: 1,
            min_size_gib: gib,
            kind: None,
        }]
    };
    let merge = |house: &House| house.merge(&settings("autopart")).map(|merged| merged.disk);
    assert_eq!(merge(&house).unwrap(), "virtio-SMALL");
    house.requirements.disks = wanted(10);
    assert_eq!(merge(&house).unwrap(), "virtio-LARGE");
    house.requirements.disks = wanted(50);
    assert!(
        merge(&house).unwrap_err()[0]
            .message
            .contains("no disk of the kind")
    );
    house.requirements.disks = wanted(10);
    house.hardware.disks[1].by_id.clear();
    assert!(
        merge(&house).unwrap_err()[0]
            .message
            .contains("no name below /dev/disk/by-id")
    );
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
