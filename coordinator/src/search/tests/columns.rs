//! Columns and postings against what a check says of one shape, or an expression of one set of labels.

use super::*;
use crate::search::check::{Check, LabelCheck};
use crate::search::columns::Columns;
use crate::search::postings::Postings;
use crate::search::shape::Shape;
use leaseboot_protocol::labels::Labels;

fn any_kind() -> impl Strategy<Value = DiskKind> {
    prop::sample::select(vec![DiskKind::Nvme, DiskKind::Ssd, DiskKind::Rotating])
}

fn any_function() -> impl Strategy<Value = PciDevice> {
    let device = (
        prop::sample::select(vec!["10de:2330", "8086:1"]),
        prop::sample::select(vec!["030200", "020000"]),
    );
    device.prop_map(|(id, class)| PciDevice {
        address: String::new(),
        id: id.replace(":1", ":0001"),
        class: class.to_owned(),
    })
}

fn any_report() -> impl Strategy<Value = HardwareReport> {
    let disk = (1u64..5, any_kind()).prop_map(|(gib, kind)| Disk {
        size_bytes: gib * GIB,
        kind,
        ..Disk::default()
    });
    let nics = prop::collection::vec(prop::sample::select(vec![0u32, 1000, 10_000]), 0..4);
    let flags = prop::sample::subsequence(vec!["aes".to_owned(), "avx".to_owned(), "vmx".to_owned()], 0..=3);
    let tpm = prop::sample::select(vec!["", "1.2", "2.0"]);
    let firmware = prop::sample::select(vec![Firmware::Bios, Firmware::Uefi, Firmware::UefiSecureBoot]);
    let parts = (
        prop::collection::vec(disk, 0..5),
        nics,
        flags,
        prop::collection::vec(any_function(), 0..5),
        tpm,
        firmware,
    );
    (parts, 1u32..4, 1u64..4, any::<bool>(), any::<bool>()).prop_map(
        |((disks, nics, flags, pci, tpm_version, firmware), cores, memory, arm, tpm)| HardwareReport {
            architecture: if arm { "aarch64" } else { "x86_64" }.to_owned(),
            cpu: Cpu {
                cores,
                threads: cores * 2,
                flags,
                ..Cpu::default()
            },
            memory_bytes: memory * GIB,
            disks,
            nics: nics.into_iter().map(nic).collect(),
            pci,
            firmware,
            tpm,
            tpm_version: tpm_version.to_owned(),
            ..HardwareReport::default()
        },
    )
}

fn any_check() -> impl Strategy<Value = Check> {
    let small = 0u32..5;
    prop_oneof![
        Just(Check::Report),
        Just(Check::Architecture("aarch64".to_owned())),
        Just(Check::Architecture("riscv64".to_owned())),
        small.clone().prop_map(Check::Cores),
        small.clone().prop_map(|threads| Check::Threads(2 * threads)),
        prop::sample::subsequence(vec!["aes".to_owned(), "avx".to_owned(), "amx".to_owned()], 1..=3)
            .prop_map(Check::Flags),
        (0u64..5).prop_map(|gib| Check::MemoryMib(gib * 1024)),
        (small.clone(), 0u64..5, prop::option::of(any_kind())).prop_map(|(count, min_size_gib, kind)| {
            Check::Disk(DiskRequirement {
                count,
                min_size_gib,
                kind,
            })
        }),
        small.clone().prop_map(Check::Nics),
        (small.clone(), prop::sample::select(vec![0u32, 1000, 5000])).prop_map(|(count, min_speed_mbps)| {
            Check::Nic(NicRequirement {
                count,
                min_speed_mbps,
            })
        }),
        (small, any::<bool>(), any::<bool>()).prop_map(|(count, device, class)| Check::Pci(PciRequirement {
            count,
            device: device.then(|| "10de:2330".parse().unwrap()),
            class: class.then(|| "03".parse().unwrap()),
        })),
        Just(Check::Firmware(FirmwareRequirement::Uefi)),
        Just(Check::Tpm(TpmRequirement::Any)),
        Just(Check::Tpm(TpmRequirement::V2)),
    ]
}

fn any_labels() -> impl Strategy<Value = Labels> {
    let word = |words: [&str; 3]| prop::sample::select(words.map(str::to_owned).to_vec());
    prop::collection::btree_map(word(["rack", "row", "owner"]), word(["a", "b", "c"]), 0..3)
}

proptest! {
    /// Numbers are given up and used again, as the index does.
    #[test]
    fn a_column_says_what_the_check_says(
        steps in prop::collection::vec((0u32..70, prop::option::of(prop::option::of(any_report()))), 1..40),
        checks in prop::collection::vec(any_check(), 1..8),
    ) {
        let (mut columns, mut there) = (Columns::default(), BTreeMap::<u32, Shape>::new());
        for (number, step) in steps {
            if let Some(old) = there.remove(&number) {
                columns.remove(number, &old);
            }
            if let Some(report) = step {
                let shape = Shape::from(report.as_ref());
                columns.put(number, &shape);
                there.insert(number, shape);
            }
        }
        for check in checks {
            let met = columns.meeting(&check).unwrap();
            for (number, shape) in &there {
                prop_assert_eq!(met.get(*number as usize), check.is_met(shape), "{:?} of {:?}", check, shape);
            }
        }
    }

    #[test]
    fn postings_say_what_the_expression_says(
        steps in prop::collection::vec((0u32..70, prop::option::of(any_labels())), 1..40),
        expression in prop::sample::select(vec![
            "rack", "!rack", "rack = a", "rack != a and row", "rack in (a, b) or owner = c", "not (rack not in (a, c) and !row)",
        ]),
    ) {
        let (mut postings, mut there) = (Postings::default(), BTreeMap::<u32, Labels>::new());
        for (number, step) in steps {
            if let Some(old) = there.remove(&number) {
                postings.remove(number, &old);
            }
            if let Some(labels) = step {
                postings.put(number, &labels);
                there.insert(number, labels);
            }
        }
        let expression: leaseboot_protocol::labels::LabelExpression = expression.parse().unwrap();
        let met = postings.meeting(&LabelCheck::Where(expression.clone()));
        let is = postings.meeting(&LabelCheck::Is("rack".to_owned(), "a".to_owned()));
        for (number, labels) in &there {
            prop_assert_eq!(met.get(*number as usize), expression.matches(labels), "{} of {:?}", expression, labels);
            prop_assert_eq!(is.get(*number as usize), labels.get("rack").is_some_and(|rack| rack == "a"));
        }
    }
}
