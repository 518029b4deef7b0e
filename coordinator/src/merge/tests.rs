//! What holds in every language. The languages' own tests stand beside them and borrow this file's house.

use super::*;
use leaseboot_protocol::hardware::{Cpu, Disk, Nic};
use leaseboot_protocol::requirements::DiskRequirement;
use std::net::IpAddr;

const MAC: &str = "52:54:00:4c:42:01";
const EXAMPLES: [(&str, &str); 5] = [
    ("kickstart", include_str!("../../../tests/installer/example.ks")),
    ("preseed", include_str!("../../tests/profiles/web.preseed")),
    (
        "autoinstall",
        include_str!("../../tests/profiles/web-autoinstall.yaml"),
    ),
    (
        "autoinstall",
        include_str!("../../tests/profiles/disk-autoinstall.yaml"),
    ),
    ("fai", include_str!("../../../tests/fai/web.var")),
];

/// A lender with one server: 2 GiB, disks of 1 and 20 GiB.
pub(super) struct House {
    pub(super) server: ServerId,
    pub(super) place: LenderAddress,
    pub(super) console: Option<KernelWord>,
    pub(super) hardware: HardwareReport,
    pub(super) requirements: Requirements,
    pub(super) taken: Vec<(IpAddr, LeaseId)>,
    pub(super) sealed_secrets: bool,
}

impl House {
    pub(super) fn new() -> Self {
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
                vlan: None,
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
            taken: Vec::new(),
            sealed_secrets: false,
        }
    }

    pub(super) fn merge(&self, settings: &InstallSettings) -> Result<Merged, Vec<MergeProblem>> {
        self.with(|lender| merge(lender, settings))
    }

    pub(super) fn with<T>(&self, act: impl FnOnce(&Lender<'_>) -> T) -> T {
        act(&Lender {
            server: &self.server,
            place: &self.place,
            console: self.console.as_ref(),
            hardware: &self.hardware,
            requirements: &self.requirements,
            tenant: TenantFacts {
                taken: &self.taken,
                sealed_secrets: self.sealed_secrets,
            },
        })
    }
}

pub(super) fn settings(kickstart: &str) -> InstallSettings {
    let sample = include_str!("../../../protocol/samples/settings.json");
    InstallSettings {
        kickstart: kickstart.to_owned(),
        kickstart_origin: "profiles/web/web.ks".to_owned(),
        min_memory_mib: 2048,
        ..serde_json::from_str(sample).unwrap()
    }
}

/// Settings with a text in one of the languages, named as in [`EXAMPLES`].
fn in_language(language: &str, text: &str) -> InstallSettings {
    let installer = match language {
        "preseed" => Installer::Preseed {},
        "autoinstall" => Installer::Autoinstall {},
        "fai" => Installer::Fai {},
        _ => Installer::default(),
    };
    InstallSettings {
        installer,
        ..settings(text)
    }
}

#[test]
fn each_line_knows_where_it_comes_from_and_none_of_the_enterprise_is_lost() {
    for (language, text) in EXAMPLES {
        let merged = House::new().merge(&in_language(language, text)).unwrap();
        let lines: Vec<_> = text.lines().collect();
        let mut of_the_file = Vec::new();
        for line in &merged.lines {
            if matches!(line.owner, LineOwner::Enterprise | LineOwner::Both)
                && line.origin == "profiles/web/web.ks"
            {
                of_the_file.push(line.origin_line);
                let ours = lines[line.origin_line - 1];
                assert!(
                    line.owner == LineOwner::Both || line.text == ours,
                    "{ours} became {}",
                    line.text
                );
            }
        }
        // Every line once, in order: nothing is lost, moved or repeated.
        assert_eq!(of_the_file, (1..=lines.len()).collect::<Vec<_>>(), "{language}");
        let numbers: Vec<_> = merged.lines.iter().map(|line| line.number).collect();
        assert_eq!(numbers, (1..=merged.lines.len()).collect::<Vec<_>>());
        let texts: Vec<_> = merged.lines.iter().map(|line| line.text.as_str()).collect();
        assert_eq!(merged.kickstart, texts.join("\n") + "\n");
        assert!(merged.lines.iter().any(|line| line.owner == LineOwner::Lender));
        // FAI's variables hold no commands: there a class script of the enterprise's leaves the member (docs/installers.md).
        let leaves_the_member = merged
            .lines
            .iter()
            .any(|line| line.text.contains("member install"));
        assert_eq!(leaves_the_member, language != "fai", "{language}");
    }
}

#[test]
fn a_merge_is_repeatable_and_leaves_marks_alone() {
    for (language, text) in EXAMPLES {
        let settings = in_language(language, text);
        let first = House::new().merge(&settings).unwrap();
        assert_eq!(first, House::new().merge(&settings).unwrap(), "{language}");
        assert!(first.kickstart.contains("@sealed:root_password@"));
        // What was merged says what the lender owns, so a second merge refuses it.
        assert!(
            House::new()
                .merge(&in_language(language, &first.kickstart))
                .is_err(),
            "{language}"
        );
    }
}

#[test]
fn secrets_in_the_open_are_refused_when_the_tenant_demands_seals() {
    for (language, text, secrets) in [
        (
            "kickstart",
            "part / --size=1000\nrootpw --iscrypted $6$open\nuser --name=a --password=hunter2\nuser --name=b --password=@sealed:root_password@\nrootpw --lock\n",
            2,
        ),
        (
            "preseed",
            "d-i partman-auto/method string lvm\nd-i passwd/root-password-crypted password $6$open\nx x/y password hunter2\n",
            2,
        ),
        (
            "autoinstall",
            "#cloud-config\nautoinstall:\n  version: 1\n  identity: {hostname: web-1, password: $6$open}\n  storage:\n    layout:\n      name: lvm\n      password: hunter2\n",
            2,
        ),
    ] {
        let mut house = House::new();
        let settings = in_language(language, text.replace("rootpw --lock\n", "").as_str());
        assert!(
            house.merge(&settings).is_ok(),
            "{language}: {:?}",
            house.merge(&settings)
        );
        house.sealed_secrets = true;
        let found = house.merge(&settings).unwrap_err();
        assert_eq!(found.len(), secrets, "{language}: {found:#?}");
        let said = found.iter().map(ToString::to_string).collect::<String>();
        assert!(
            said.contains("demands a seal") && !said.contains("hunter2") && !said.contains("$6$"),
            "{said}"
        );
    }
    let mut strict = House::new();
    strict.sealed_secrets = true;
    for (language, text) in EXAMPLES {
        assert!(strict.merge(&in_language(language, text)).is_ok(), "{language}");
    }
}

#[test]
fn the_servers_and_the_tenants_facts_are_checked_in_every_language() {
    for (language, text) in EXAMPLES {
        let mut house = House::new();
        house.hardware.architecture = "aarch64".to_owned();
        house.hardware.memory_bytes = 1 << 30;
        house.hardware.nics.clear();
        house.taken = vec![("10.99.0.10".parse().unwrap(), "l-other".parse().unwrap())];
        let mut settings = in_language(language, text);
        settings.architecture = Some("x86_64".to_owned());
        let found = house.merge(&settings).unwrap_err();
        let said = found
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("\n");
        for words in [
            "built for x86_64",
            "2048 MiB of memory",
            "no card 52:54",
            "already given to the lease l-other",
        ] {
            assert!(said.contains(words), "{language}: {words} in {said}");
        }
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
fn what_is_too_large_is_refused_with_its_place() {
    let long = format!("autopart\n# {}\n", "x".repeat(70_000));
    for (text, words) in [
        ("#\n".repeat(600_000), "1200000 bytes and at most"),
        ("#\n".repeat(30_000), "30000 lines and at most"),
        (long, "bytes and at most 65536 are taken"),
    ] {
        let found = House::new().merge(&settings(&text)).unwrap_err();
        assert!(found.len() == 1 && found[0].message.contains(words), "{found:?}");
    }
    let many = "frobnicate\n".repeat(10_000);
    let found = House::new().merge(&settings(&many)).unwrap_err();
    assert_eq!(found.len(), 101);
    assert!(found[100].message.contains("more"), "{}", found[100]);
}
