//! What a step of the machine changes for others: peers at the gateway, and notes for people. Pure.

use super::machine::{Event, Outcome, Peer, State};
use super::{Order, merged};
use crate::progress::Note;
use leaseboot_protocol::hardware::HardwareReport;
use leaseboot_protocol::network::WireguardPublicKey;

/// Keys that leave, and peers that come or change.
pub(super) fn difference(before: &[Peer], after: &[Peer]) -> (Vec<WireguardPublicKey>, Vec<Peer>) {
    let stays = |key: &WireguardPublicKey| after.iter().any(|peer| peer.key == *key);
    let leaving = before
        .iter()
        .map(|peer| peer.key)
        .filter(|key| !stays(key))
        .collect();
    let coming = after
        .iter()
        .filter(|peer| !before.contains(peer))
        .copied()
        .collect();
    (leaving, coming)
}

/// What people hear of a step.
pub(super) fn tell(order: &Order, before: &State, event: &Event, after: &State) -> Vec<Note> {
    let mut notes = Vec::new();
    match event {
        Event::Granted(view) => notes.push(Note::Granted {
            lease: view.id.clone(),
            server: view.server.clone(),
            hardware: summary(&view.hardware),
        }),
        Event::Merged(prepared) if matches!(after, State::Ordering { .. }) => notes.push(Note::Agreed {
            kickstart_sha256: prepared.kickstart_sha256,
            lender_lines: lender_lines(order, &prepared.kickstart),
        }),
        Event::Ordered => notes.push(Note::Ordered),
        Event::Erasure(erasure) => notes.push(Note::Erasure {
            summary: erasure.to_string(),
        }),
        Event::Drained { error: None } => notes.push(Note::Drained),
        Event::Drained { error: Some(error) } => notes.push(Note::DrainFailed { error: error.clone() }),
        Event::MemberKey(_) => notes.push(Note::MemberKey),
        Event::MemberSeen => notes.push(Note::MemberSeen),
        Event::MemberHello => notes.push(Note::InService {
            hostname: order.settings.hostname.clone(),
            address: order.address(),
        }),
        _ => {}
    }
    if let (Event::Lender(_), State::Preparing { server, .. }) = (event, after) {
        notes.push(Note::Moved {
            server: server.clone(),
        });
    }
    match after.outcome() {
        Some(Outcome::Failed { reason }) if before.outcome().is_none() => notes.push(Note::Failed {
            reason: reason.clone(),
        }),
        Some(Outcome::Released) if before.outcome().is_none() => notes.push(Note::Releasing),
        _ => {}
    }
    notes
}

/// That sealed values go out, which changes no state: an answer that was lost is given again, and told again.
pub(super) fn tell_of_values(order: &Order, state: &State, event: &Event) -> Option<Note> {
    let goes = matches!(event, Event::Unsealing) && state.may_unseal() && !order.sealed.is_empty();
    goes.then(|| Note::Unsealed {
        names: order.sealed.keys().cloned().collect(),
    })
}

fn lender_lines(order: &Order, merged: &str) -> usize {
    merged::check(&order.settings, merged).unwrap_or_default()
}

pub(super) fn last_note(state: &State) -> Option<Note> {
    match state {
        State::Over { outcome, .. } => Some(Note::Over {
            outcome: outcome.clone(),
        }),
        _ => None,
    }
}

/// A server in a few words.
fn summary(hardware: &HardwareReport) -> String {
    const MIB: u64 = 1 << 20;
    let gib = |bytes: u64| bytes.div_ceil(1 << 30);
    let disks: Vec<_> = hardware
        .disks
        .iter()
        .map(|disk| format!("{} GiB", gib(disk.size_bytes)))
        .collect();
    let disks = match disks.as_slice() {
        [] => "no disk".to_owned(),
        disks => format!("disks {}", disks.join(" + ")),
    };
    format!(
        "{} cores, {} MiB, {disks}",
        hardware.cpu.cores,
        hardware.memory_bytes / MIB
    )
}
