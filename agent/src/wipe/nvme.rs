//! Erasing by an NVMe controller's own means (NVM Express Base Specification 2.0: "Identify", "Sanitize", "Format NVM", "Get Log Page").
//!
//! A sanitize works in the background, on all namespaces, and goes on through a loss of power; its end is seen in a log page. It is
//! asked for with unrestricted exit, so that after a failure the media can be used again and the next method gets its turn.

pub(super) mod pages;

use super::EraseError;
use super::system_calls::{NvmeCommand, nvme_admin};
use super::time::Limit;
use pages::{Offers, Sanitize, SecureErase};
use std::fs::File;
use std::thread::sleep;
use std::time::Duration;

const IDENTIFY: u8 = 0x06;
const GET_LOG_PAGE: u8 = 0x02;
const FORMAT: u8 = 0x80;
const SANITIZE: u8 = 0x84;
const EVERY_NAMESPACE: u32 = 0xffff_ffff;
const SANITIZE_STATUS: u32 = 0x81;

const QUICK: Duration = Duration::from_secs(60);
const FORMAT_DEADLINE: Duration = Duration::from_secs(60 * 60);
const SANITIZE_DEADLINE: Duration = Duration::from_secs(4 * 60 * 60);
const POLL: Duration = Duration::from_millis(500);

/// The actions of Sanitize (command dword 10, bits 2:0).
#[derive(Clone, Copy, Debug)]
pub(super) enum Action {
    LeaveFailure = 1,
    Block = 2,
    Crypto = 4,
}

/// Allow unrestricted sanitize exit (command dword 10, bit 3).
const UNRESTRICTED: u32 = 1 << 3;

/// What the controller of this namespace offers.
pub(super) fn offers(disk: &File) -> Result<Offers, EraseError> {
    let mut page = vec![0; pages::IDENTIFY_BYTES];
    let identify = NvmeCommand {
        opcode: IDENTIFY,
        dword10: 1,
        patience: QUICK,
        ..NvmeCommand::default()
    };
    send(disk, "identify the controller", &identify, &mut page)?;
    Ok(pages::offers(&page))
}

/// Sanitizes all of the controller's media, and waits for the end. `told` hears of the part that is done, in 65,536ths.
pub(super) fn sanitize(disk: &File, action: Action, mut told: impl FnMut(u16)) -> Result<(), EraseError> {
    let limit = Limit::of("sanitize the media", SANITIZE_DEADLINE);
    // An agent that lost its power in the middle finds the old operation at work, and another cannot begin before its end.
    if let Sanitize::Running(_) = status(disk)? {
        wait(disk, &limit, &mut told)?;
    }
    if status(disk)? == Sanitize::Failed {
        start(disk, Action::LeaveFailure)?;
    }
    start(disk, action)?;
    wait(disk, &limit, &mut told)
}

fn start(disk: &File, action: Action) -> Result<(), EraseError> {
    let sanitize = NvmeCommand {
        opcode: SANITIZE,
        dword10: action as u32 | UNRESTRICTED,
        patience: QUICK,
        ..NvmeCommand::default()
    };
    send(disk, "start a sanitize operation", &sanitize, &mut [])
}

fn wait(disk: &File, limit: &Limit, told: &mut impl FnMut(u16)) -> Result<(), EraseError> {
    loop {
        match status(disk)? {
            Sanitize::Done => return Ok(()),
            Sanitize::Running(part) => told(part),
            other => return Err(EraseError::Sanitize { status: other }),
        }
        limit.check()?;
        sleep(POLL);
    }
}

fn status(disk: &File) -> Result<Sanitize, EraseError> {
    let mut page = vec![0; pages::SANITIZE_STATUS_BYTES];
    let dwords = u32::try_from(pages::SANITIZE_STATUS_BYTES / 4).unwrap_or(1) - 1;
    let log = NvmeCommand {
        opcode: GET_LOG_PAGE,
        namespace: EVERY_NAMESPACE,
        dword10: SANITIZE_STATUS | dwords << 16,
        patience: QUICK,
        ..NvmeCommand::default()
    };
    send(disk, "read the sanitize status", &log, &mut page)?;
    Ok(pages::sanitize_status(&page))
}

/// Formats this namespace in the format that it has, with a secure erase.
pub(super) fn format(disk: &File, namespace: u32, erase: SecureErase) -> Result<(), EraseError> {
    let mut page = vec![0; pages::IDENTIFY_BYTES];
    let identify = NvmeCommand {
        opcode: IDENTIFY,
        namespace,
        patience: QUICK,
        ..NvmeCommand::default()
    };
    send(disk, "identify the namespace", &identify, &mut page)?;
    let number = u32::from(pages::lba_format(&page).unwrap_or(0));
    let setting = match erase {
        SecureErase::UserData => 1,
        SecureErase::Cryptographic => 2,
    };
    let format = NvmeCommand {
        opcode: FORMAT,
        namespace,
        // Bits 3:0 and 13:12 number the format, bits 11:9 are the secure erase setting.
        dword10: number & 0xf | (number >> 4) << 12 | setting << 9,
        patience: FORMAT_DEADLINE,
        ..NvmeCommand::default()
    };
    send(disk, "format the namespace", &format, &mut [])
}

fn send(disk: &File, what: &'static str, command: &NvmeCommand, data: &mut [u8]) -> Result<(), EraseError> {
    match nvme_admin(disk, command, data) {
        Ok(0) => Ok(()),
        Ok(status) => Err(EraseError::NvmeStatus { what, status }),
        Err(source) => Err(EraseError::Call { what, source }),
    }
}
