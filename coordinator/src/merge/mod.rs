//! The merge of install settings: what the enterprise wants installed, joined with what the lender knows of its hardware and wire.
//!
//! Pure, and far below a millisecond, so that it is made anew for every lease. The enterprise's text stays as it is, line by line;
//! the lender's lines go between its lines at places that each language fixes, and every line of the result knows whose it is, where
//! that is written and why it stands there ([`MergedLine`]).
//!
//! ```text
//! settings ─► limits, marks ─► kickstart │ preseed │ autoinstall │ FAI │ disk image: read, check, place ─┐
//! hardware ─► disk, memory, machine, card, address ─────────────────────────────────────────────────────┴─► Merged, or every problem
//! ```
//!
//! Nothing is ever overridden: a clash is a problem that names both lines, and all problems are told at once, before any power goes
//! on. Who owns which setting in which language stands in `docs/merge.md` and in the `ownership` of each language's module.

mod autoinstall;
mod checks;
mod disk;
mod disk_image;
mod fai;
mod kickstart;
mod preseed;
mod problems;
mod provenance;
mod sealing;

use crate::boot::KernelWord;
use leaseboot_protocol::hardware::HardwareReport;
use leaseboot_protocol::ids::{LeaseId, ServerId};
use leaseboot_protocol::installer::Installer;
use leaseboot_protocol::leases::MergeProblem;
use leaseboot_protocol::network::LenderAddress;
use leaseboot_protocol::requirements::Requirements;
use leaseboot_protocol::settings::InstallSettings;
use problems::Problems;
pub use provenance::{LineOwner, MergedLine};
use std::net::IpAddr;

/// What the lender knows.
#[derive(Clone, Copy, Debug)]
pub struct Lender<'a> {
    /// The server.
    pub server: &'a ServerId,
    /// Its place on the lender's wire.
    pub place: &'a LenderAddress,
    /// Its console.
    pub console: Option<&'a KernelWord>,
    /// What it is made of.
    pub hardware: &'a HardwareReport,
    /// What the tenant asked for when it took the server: says which disk is meant.
    pub requirements: &'a Requirements,
    /// What the tenant's policy and its other leases add.
    pub tenant: TenantFacts<'a>,
}

/// What the merge must know of the tenant beyond this one lease.
#[derive(Clone, Copy, Debug, Default)]
pub struct TenantFacts<'a> {
    /// Addresses inside the enterprise that its other live leases hold.
    pub taken: &'a [(IpAddr, LeaseId)],
    /// Whether every password and key must be sealed.
    pub sealed_secrets: bool,
}

/// A merge that can work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merged {
    /// The text, sealed marks in place.
    pub kickstart: String,
    /// The same, line by line, each with its origin.
    pub lines: Vec<MergedLine>,
    /// The disk that is installed on, as `/dev/disk/by-id` names it.
    pub disk: String,
}

/// The consoles of a server's kernels: the screen, and the serial line as the one that programs write to.
pub fn console_words(console: Option<&KernelWord>) -> String {
    console.map_or_else(String::new, |console| format!("console=tty0 console={console}"))
}

/// Merges, or says everything that is in the way.
///
/// # Errors
/// Every problem at once, at most a hundred.
pub fn merge(lender: &Lender<'_>, settings: &InstallSettings) -> Result<Merged, Vec<MergeProblem>> {
    let mut problems = Problems::new(&settings.kickstart_origin);
    checks::size(settings, &mut problems);
    if !problems.is_empty() {
        // What is too large is not read any further.
        return Err(problems.finish());
    }
    checks::all(lender, settings, &mut problems);
    let origin = format!("lender's settings of {}", lender.server);
    let merged = match settings.installer {
        Installer::Kickstart { syntax } => kickstart::merge(lender, settings, syntax, &origin, &mut problems),
        Installer::Preseed {} => preseed::merge(lender, settings, &origin, &mut problems),
        Installer::Autoinstall {} => autoinstall::merge(lender, settings, &origin, &mut problems),
        Installer::DiskImage {} => disk_image::merge(lender, settings, &origin, &mut problems),
        Installer::Fai {} => fai::merge(lender, settings, &origin, &mut problems),
    };
    match merged {
        Some(Placed { lines, disk }) if problems.is_empty() => Ok(Merged {
            kickstart: provenance::text_of(&lines),
            lines,
            disk,
        }),
        _ => Err(problems.finish()),
    }
}

/// What a language's module gives back; worth something only when there are no problems.
struct Placed {
    lines: Vec<MergedLine>,
    disk: String,
}

#[cfg(test)]
mod tests;
