use super::*;
use proptest::prelude::*;

const MIB: u64 = 1 << 20;

/// The first megabyte of an image with these partitions (first and last sector each), as the specification describes it.
fn head(size: u64, partitions: &[(u64, u64)]) -> Vec<u8> {
    let mut head = vec![0; HEAD];
    let sectors = size / SECTOR;
    head[446..462].copy_from_slice(&[
        0, 0, 2, 0, PROTECTIVE, 0xff, 0xff, 0xff, 1, 0, 0, 0, 0xff, 0xff, 0, 0,
    ]);
    head[510..512].copy_from_slice(&[0x55, 0xaa]);
    for (number, (first, last)) in partitions.iter().enumerate() {
        let at = 1024 + ENTRY * number;
        head[at..at + 16].fill(0x11);
        head[at + 32..at + 40].copy_from_slice(&first.to_le_bytes());
        head[at + 40..at + 48].copy_from_slice(&last.to_le_bytes());
    }
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(SIGNATURE);
    header[8..16].copy_from_slice(&[0, 0, 1, 0, 92, 0, 0, 0]);
    for (at, value) in [(24, 1), (32, sectors - 1), (40, 34), (48, sectors - 34), (72, 2)] {
        header[at..at + 8].copy_from_slice(&u64::to_le_bytes(value));
    }
    header[80..84].copy_from_slice(&128u32.to_le_bytes());
    header[84..88].copy_from_slice(&128u32.to_le_bytes());
    header[88..92].copy_from_slice(&crc32fast::hash(&head[1024..1024 + 128 * 128]).to_le_bytes());
    seal(&mut header);
    head[512..512 + HEADER].copy_from_slice(&header);
    head
}

fn image() -> Vec<u8> {
    head(8 * MIB, &[(4096, 14_335), (2048, 4095)])
}

#[test]
fn the_last_partition_takes_the_rest_of_the_disk_and_both_tables_say_so() {
    let mut table = Gpt::read(&image(), 8 * MIB).unwrap();
    let grown = table.grow(64 * MIB).unwrap();
    assert_eq!((grown.number, grown.first), (1, 4096));
    // The last whole megabyte before the copy of the table.
    assert_eq!(grown.last, 63 * 2048 - 1);
    let mut disk = vec![0; 64 * MIB as usize];
    disk[..HEAD].copy_from_slice(&image());
    table.write_primary((&mut disk[..HEAD]).try_into().unwrap());
    let (at, copy) = table.backup();
    assert_eq!(at + copy.len() as u64, 64 * MIB);
    disk[at as usize..].copy_from_slice(&copy);
    let again = Gpt::read(&disk, 64 * MIB).unwrap();
    assert_eq!(again, table);
    // A program that finds the first table damaged reads the copy by its own header.
    let header: [u8; HEADER] = disk[disk.len() - 512..][..HEADER].try_into().unwrap();
    assert_eq!(header_checksum(&header), u32_at(&header, 16));
    assert_eq!(u64_at(&header, 72) * SECTOR, at);
}

#[test]
fn a_disk_of_the_images_own_size_is_enough_and_a_smaller_one_is_not() {
    let mut table = Gpt::read(&image(), 8 * MIB).unwrap();
    assert_eq!(table.grow(8 * MIB).unwrap().last, 14_335);
    assert_eq!(
        table.grow(8 * MIB - 512),
        Err(GptError::TooLarge {
            image: 16_384,
            disk: 16_383
        })
    );
}

#[test]
fn what_was_changed_is_not_believed() {
    let good = image();
    for at in [513, 520, 600, 1024 + 33, 1024 + 128 * 100] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert!(Gpt::read(&bad, 8 * MIB).is_err(), "byte {at}");
    }
    assert_eq!(Gpt::read(&[0; 512], 8 * MIB), Err(GptError::None));
    assert!(Gpt::read(&good, 7 * MIB).is_err(), "an image that was cut");
}

#[test]
fn partitions_that_overlap_or_lie_outside_are_refused() {
    for wrong in [
        &[(2048, 4096), (4096, 5000)][..],
        &[(20, 4096)],
        &[(5000, 4096)],
        &[(2048, 16_383)],
        &[],
    ] {
        assert!(
            matches!(
                Gpt::read(&head(8 * MIB, wrong), 8 * MIB),
                Err(GptError::Unsound(_))
            ),
            "{wrong:?}"
        );
    }
}

proptest! {
    /// Whoever forges a table also forges its checksums.
    #[test]
    fn a_forged_table_is_refused_or_stays_within_the_disk(
        places in prop::collection::vec((0usize..92, any::<u8>()), 0..6),
        entries in prop::collection::vec((0usize..512, any::<u8>()), 0..6),
        disk in 0u64..(1 << 40),
    ) {
        let mut bytes = image();
        for (at, value) in entries { bytes[1024 + at] = value; }
        let checksum = crc32fast::hash(&bytes[1024..1024 + 128 * 128]);
        bytes[512 + 88..512 + 92].copy_from_slice(&checksum.to_le_bytes());
        for (at, value) in places { bytes[512 + at] = value; }
        let mut header: [u8; HEADER] = bytes[512..512 + HEADER].try_into().unwrap();
        seal(&mut header);
        bytes[512..512 + HEADER].copy_from_slice(&header);
        if let Ok(mut table) = Gpt::read(&bytes, 8 * MIB)
            && let Ok(grown) = table.grow(disk)
        {
            prop_assert!(grown.bytes().end <= disk);
            let (at, copy) = table.backup();
            prop_assert!(grown.bytes().end <= at && at + copy.len() as u64 <= disk);
            table.write_primary((&mut bytes[..HEAD]).try_into().unwrap());
        }
    }
}
