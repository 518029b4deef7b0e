//! Erasing by an ATA disk's own means, through the SCSI layer: ATA PASS-THROUGH (16) of SCSI/ATA Translation 4 (SAT-4), with the commands of ACS-4
//! ("SECURITY SET PASSWORD", "SECURITY ERASE PREPARE", "SECURITY ERASE UNIT", "SECURITY DISABLE PASSWORD").
//!
//! ```text
//!            frozen ───────────────► error: only another power cycle or other firmware settings help
//!            locked, expired ──────► error: only the maker's master password helps
//! identify ──┴─► set a password ─► prepare ─► erase unit ─► the password is gone with the data
//!                                                └─ failed: disable the password, so that the disk is not locked after a power cycle
//! ```
//!
//! The password is no secret: it lives for as long as the erasure, and a person who finds the server without power in the middle of it
//! must be able to unlock the disk.

pub(super) mod pages;

use super::EraseError;
use super::system_calls::{ScsiEnd, Transfer, scsi};
use pages::{Identity, PAGE_BYTES};
use std::fs::File;
use std::time::Duration;

const IDENTIFY_DEVICE: u8 = 0xec;
const READ_NATIVE_MAX_EXT: u8 = 0x27;
const DEVICE_CONFIGURATION: u8 = 0xb1;
const CONFIGURATION_IDENTIFY: u8 = 0xc2;
const SET_PASSWORD: u8 = 0xf1;
const ERASE_PREPARE: u8 = 0xf3;
const ERASE_UNIT: u8 = 0xf4;
const DISABLE_PASSWORD: u8 = 0xf6;

const PASSWORD: &[u8] = b"leaseboot-erasure";
const ENHANCED: u8 = 0b10;
const QUICK: Duration = Duration::from_secs(60);
/// Disks are late by their own estimate.
const MARGIN: Duration = Duration::from_secs(30 * 60);

/// Sense data in the descriptor format, and the descriptor of ATA status in them (SPC-5, "Descriptor format sense data"; SAT-4, "ATA Status
/// Return sense data descriptor").
const DESCRIPTOR_SENSE: u8 = 0x72;
const ATA_STATUS_DESCRIPTOR: u8 = 0x09;

/// What the disk says of itself.
pub(super) fn identify(disk: &File) -> Result<Identity, EraseError> {
    let mut page = [0; PAGE_BYTES];
    let what = "identify the disk";
    send(
        disk,
        what,
        Command::new(IDENTIFY_DEVICE),
        Transfer::In(&mut page),
        QUICK,
    )?;
    pages::identity(&page).ok_or(EraseError::Nonsense { what })
}

/// How many sectors are hidden from us, by a host protected area or by device configuration.
pub(super) fn hidden_sectors(disk: &File, identity: &Identity) -> u64 {
    let native = identity.protected_area.then(|| native_sectors(disk)).flatten();
    let configured = identity.configuration.then(|| configured_sectors(disk)).flatten();
    pages::hidden_sectors(identity.sectors, native, configured)
}

fn native_sectors(disk: &File) -> Option<u64> {
    let command = Command {
        extended: true,
        wants_registers: true,
        device: 1 << 6,
        ..Command::new(READ_NATIVE_MAX_EXT)
    };
    let end = send(disk, "read the native size", command, Transfer::None, QUICK).ok()?;
    lba(&end.sense)?.checked_add(1)
}

fn configured_sectors(disk: &File) -> Option<u64> {
    let mut page = [0; PAGE_BYTES];
    let command = Command {
        feature: CONFIGURATION_IDENTIFY,
        ..Command::new(DEVICE_CONFIGURATION)
    };
    send(
        disk,
        "read the configuration",
        command,
        Transfer::In(&mut page),
        QUICK,
    )
    .ok()?;
    pages::configured_sectors(&page)
}

/// Erases the disk by SECURITY ERASE UNIT.
pub(super) fn security_erase(disk: &File, enhanced: bool) -> Result<(), EraseError> {
    let identity = identify(disk)?;
    if identity.frozen {
        return Err(EraseError::Frozen);
    }
    if identity.locked || identity.expired {
        return Err(EraseError::Locked);
    }
    let (mode, takes) = match enhanced {
        true => (ENHANCED, identity.takes_enhanced),
        false => (0, identity.takes),
    };
    with_password(disk, "set the password of the erasure", SET_PASSWORD, 0, QUICK)?;
    let prepared = send(
        disk,
        "prepare the secure erase",
        Command::new(ERASE_PREPARE),
        Transfer::None,
        QUICK,
    );
    let erased = prepared
        .and_then(|_| with_password(disk, "erase the disk securely", ERASE_UNIT, mode, takes + MARGIN));
    if erased.is_err() {
        // The error that counts is that of the erasure; a disk that keeps the password shows itself as locked the next time.
        let _ = with_password(disk, "take the password away", DISABLE_PASSWORD, 0, QUICK);
    }
    erased
}

/// A command whose data are the user's password: word 0 is its mode, words 1 to 16 are the password.
fn with_password(
    disk: &File,
    what: &'static str,
    command: u8,
    mode: u8,
    patience: Duration,
) -> Result<(), EraseError> {
    let mut page = [0; PAGE_BYTES];
    page[0] = mode;
    page[2..2 + PASSWORD.len()].copy_from_slice(PASSWORD);
    send(
        disk,
        what,
        Command::new(command),
        Transfer::Out(&mut page),
        patience,
    )
    .map(drop)
}

#[derive(Clone, Copy, Default)]
struct Command {
    command: u8,
    feature: u8,
    device: u8,
    /// With 48-bit registers.
    extended: bool,
    /// The registers come back as sense data, after a success too.
    wants_registers: bool,
}

impl Command {
    fn new(command: u8) -> Self {
        Self {
            command,
            ..Self::default()
        }
    }

    /// The bytes of ATA PASS-THROUGH (16): one block of 512 bytes in or out, or none.
    fn bytes(self, transfer: &Transfer<'_>) -> [u8; 16] {
        // Protocols: 3 is without data, 4 is PIO in, 5 is PIO out. T_LENGTH 2 says that the count field is the length, in blocks.
        let (protocol, direction_and_length, count) = match transfer {
            Transfer::None => (3, 0, 0),
            Transfer::In(_) => (4, 0b1110, 1),
            Transfer::Out(_) => (5, 0b0110, 1),
        };
        let mut bytes = [0; 16];
        bytes[0] = 0x85;
        bytes[1] = protocol << 1 | u8::from(self.extended);
        bytes[2] = u8::from(self.wants_registers) << 5 | direction_and_length;
        bytes[4] = self.feature;
        bytes[6] = count;
        bytes[13] = self.device;
        bytes[14] = self.command;
        bytes
    }
}

fn send(
    disk: &File,
    what: &'static str,
    command: Command,
    transfer: Transfer<'_>,
    patience: Duration,
) -> Result<ScsiEnd, EraseError> {
    let bytes = command.bytes(&transfer);
    let end = scsi(disk, &bytes, transfer, patience).map_err(|source| EraseError::Call { what, source })?;
    // CHECK CONDITION with registers that were asked for is a success when the ATA status has no error bit.
    let good = end.host_status == 0
        && match ata_status(&end.sense) {
            Some(status) => status & 0x21 == 0,
            None => end.status == 0,
        };
    match good {
        true => Ok(end),
        false => Err(EraseError::AtaStatus {
            what,
            scsi: end.status,
            host: end.host_status,
            sense: hex(&end.sense),
        }),
    }
}

fn descriptor(sense: &[u8]) -> Option<&[u8; 14]> {
    let found = sense.first().is_some_and(|code| code & 0x7f == DESCRIPTOR_SENSE);
    let descriptor: &[u8; 14] = sense.get(8..22)?.first_chunk()?;
    (found && descriptor[0] == ATA_STATUS_DESCRIPTOR).then_some(descriptor)
}

fn ata_status(sense: &[u8]) -> Option<u8> {
    descriptor(sense).map(|descriptor| descriptor[13])
}

/// The 48-bit address of the registers that came back.
fn lba(sense: &[u8]) -> Option<u64> {
    let d = descriptor(sense)?;
    Some(u64::from_be_bytes([0, 0, d[10], d[8], d[6], d[11], d[9], d[7]]))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn commands_are_laid_out_as_sat_says() {
        let identify = Command::new(IDENTIFY_DEVICE).bytes(&Transfer::In(&mut []));
        assert_eq!(
            identify,
            [0x85, 0x08, 0x0e, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0xec, 0]
        );
        let prepare = Command::new(ERASE_PREPARE).bytes(&Transfer::None);
        assert_eq!(prepare, [0x85, 0x06, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xf3, 0]);
        let set = Command::new(SET_PASSWORD).bytes(&Transfer::Out(&mut []));
        assert_eq!(set[..3], [0x85, 0x0a, 0x06]);
    }

    #[test]
    fn registers_come_out_of_sense_data() {
        let mut sense = vec![
            0x72, 1, 0, 0x1d, 0, 0, 0, 14, 0x09, 0x0c, 1, 0, 0, 0, 0x44, 0x11, 0x55, 0x22, 0x66, 0x33, 0x40,
            0x50,
        ];
        assert_eq!(lba(&sense), Some(0x6655_4433_2211));
        assert_eq!(ata_status(&sense), Some(0x50));
        sense[8] = 0;
        assert_eq!(lba(&sense), None);
    }

    proptest! {
        #[test]
        fn no_sense_is_too_strange(sense in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = (lba(&sense), ata_status(&sense));
        }
    }
}
