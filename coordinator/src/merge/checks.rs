//! What is checked alike in every language: size, marks, and the server's and the tenant's facts.

use super::problems::Problems;
use super::{Lender, TenantFacts};
use crate::search;
use leaseboot_protocol::marks::{self, MarkError};
use leaseboot_protocol::settings::InstallSettings;

/// Nobody writes a longer text by hand; it also bounds what a merge costs.
const MOST_BYTES: usize = 1 << 20;
const MOST_LINES: usize = 20_000;
const LONGEST_LINE: usize = 64 << 10;

/// Whether the text is small enough to be looked at.
pub(super) fn size(settings: &InstallSettings, problems: &mut Problems<'_>) {
    let text = &settings.kickstart;
    if text.len() > MOST_BYTES {
        problems.general(format!(
            "{} has {} bytes and at most {MOST_BYTES} are taken: fetch what is large from a package or a URL",
            settings.kickstart_origin,
            text.len()
        ));
        return;
    }
    let mut lines = 0;
    for (number, line) in (1..).zip(text.lines()) {
        lines = number;
        if line.len() > LONGEST_LINE {
            let message = format!(
                "the line has {} bytes and at most {LONGEST_LINE} are taken",
                line.len()
            );
            problems.line(number, line, message);
        }
    }
    if lines > MOST_LINES {
        problems.general(format!(
            "{} has {lines} lines and at most {MOST_LINES} are taken",
            settings.kickstart_origin
        ));
    }
}

pub(super) fn all(lender: &Lender<'_>, settings: &InstallSettings, problems: &mut Problems<'_>) {
    sealed_marks(settings, problems);
    memory(lender, settings, problems);
    machine(lender, settings, problems);
    card(lender, problems);
    address(&lender.tenant, settings, problems);
}

fn sealed_marks(settings: &InstallSettings, problems: &mut Problems<'_>) {
    let text = |number: usize| settings.kickstart.lines().nth(number - 1).unwrap_or_default();
    let names = match marks::names(&settings.kickstart) {
        Err(MarkError::Malformed { line }) => {
            let message =
                "a sealed mark must be written @sealed:name@, with a-z, 0-9 and _ in its name".to_owned();
            return problems.line(line, text(line), message);
        }
        Err(error) => return problems.general(error.to_string()),
        Ok(names) => names,
    };
    for name in names.iter().filter(|name| !settings.sealed.contains(name)) {
        let mark = format!("@sealed:{name}@");
        let mut lines = settings.kickstart.lines();
        let line = lines
            .position(|line| line.contains(&mark))
            .map_or(1, |index| index + 1);
        let message = format!("there is no sealed value named {name:?}: add it to [sealed] in the profile");
        problems.line(line, text(line), message);
    }
}

fn memory(lender: &Lender<'_>, settings: &InstallSettings, problems: &mut Problems<'_>) {
    let memory = search::plugged_in_mib(lender.hardware.memory_bytes);
    if memory < settings.min_memory_mib {
        problems.general(format!(
            "the boot image needs {} MiB of memory and the server {} has about {memory} MiB: ask for min_memory_mib = {} in the requirements",
            settings.min_memory_mib, lender.server, settings.min_memory_mib
        ));
    }
}

fn machine(lender: &Lender<'_>, settings: &InstallSettings, problems: &mut Problems<'_>) {
    let has = lender.hardware.architecture.as_str();
    if let Some(needs) = settings.architecture.as_deref()
        && !has.is_empty()
        && needs != has
    {
        problems.general(format!(
            "the boot image is built for {needs} and the server {} is {has}: ask for architecture = {needs:?} in the requirements",
            lender.server
        ));
    }
}

fn card(lender: &Lender<'_>, problems: &mut Problems<'_>) {
    let mac = lender.place.mac;
    if !lender.hardware.nics.iter().any(|nic| nic.mac == mac) {
        problems.general(format!(
            "the server {} has no card {mac} at present, and its address is on that card: the lender must check its cabling and records",
            lender.server
        ));
    }
}

fn address(tenant: &TenantFacts<'_>, settings: &InstallSettings, problems: &mut Problems<'_>) {
    let address = settings.tunnel.address.addr();
    if let Some((_, lease)) = tenant.taken.iter().find(|(taken, _)| *taken == address) {
        problems.general(format!(
            "the address {address} inside the enterprise is already given to the lease {lease}: give each server its own, or return that lease first"
        ));
    }
}
