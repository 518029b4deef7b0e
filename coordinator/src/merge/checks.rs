//! What is checked alike in every language: size, marks, and the server's and the tenant's facts.

use super::problems::Problems;
use super::{Lender, TenantFacts};
use crate::search;
use leaseboot_protocol::marks::{self, MarkError};
use leaseboot_protocol::settings::InstallSettings;
use std::collections::BTreeSet;

/// Nobody writes a longer text by hand; it also bounds what a merge costs.
const MOST_BYTES: usize = 1 << 20;
const MOST_LINES: usize = 20_000;
const LONGEST_LINE: usize = 64 << 10;
/// The name of the text stands at each line of the merge.
const LONGEST_ORIGIN: usize = 256;

/// Whether the text is small enough to be looked at.
pub(super) fn size(settings: &InstallSettings, problems: &mut Problems<'_>) {
    let text = &settings.kickstart;
    let origin = settings.kickstart_origin.len();
    if origin > LONGEST_ORIGIN {
        let message = format!(
            "kickstart_origin has {origin} bytes and at most {LONGEST_ORIGIN} are taken: name the file"
        );
        return problems.general(message);
    }
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
    let mut unknown = match marks::names(&settings.kickstart) {
        Err(MarkError::Malformed { line }) => {
            let message =
                "a sealed mark must be written @sealed:name@, with a-z, 0-9 and _ in its name".to_owned();
            return problems.line(line, text(line), message);
        }
        Err(error) => return problems.general(error.to_string()),
        Ok(names) => names,
    };
    let known: BTreeSet<&str> = settings.sealed.iter().map(String::as_str).collect();
    unknown.retain(|name| !known.contains(name.as_str()));
    // Once through the text for all of them: a tenant may write thousands.
    for (number, line) in (1..).zip(settings.kickstart.lines()) {
        if unknown.is_empty() {
            return;
        }
        for name in marks::names(line).unwrap_or_default() {
            if unknown.remove(&name) {
                let message =
                    format!("there is no sealed value named {name:?}: add it to [sealed] in the profile");
                problems.line(number, line, message);
            }
        }
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
