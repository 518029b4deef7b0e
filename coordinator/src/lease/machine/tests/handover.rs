//! The two ways into the second kernel, and what makes a lease change from one to the other.

use super::*;
use leaseboot_protocol::digest::Sha256;
use leaseboot_protocol::handover::StagingId;

pub(super) fn files() -> StagedFiles {
    StagedFiles {
        id: StagingId::from_random([7; 16]),
        kernel: Sha256::of(b"kernel"),
        ramdisk: Sha256::of(b"ramdisk"),
        start: Sha256::of(b"start"),
    }
}

fn to_chained() -> Vec<Event> {
    let mut events = to_booting().to_vec();
    events.extend([
        Event::Hello,
        finished(AgentStep::Tunnel),
        finished(AgentStep::Initrd),
    ]);
    events
}

/// The same by way of the disk, up to the power order.
fn to_staged() -> Life {
    let life = Life::begin().on(to_chained()).until_deadline();
    let again = [
        Event::Hello,
        finished(AgentStep::Tunnel),
        finished(AgentStep::Initrd),
        finished(AgentStep::Stage),
        Event::Staged(files()),
    ];
    life.on(again)
}

fn handover(life: &Life) -> Handover {
    life.lease.phase.boot().expect("a boot is under way").handover
}

fn shown(life: &Life) -> Vec<Handover> {
    let works = |effect: &Effect| match effect {
        Effect::Works(handover) => Some(*handover),
        _ => None,
    };
    life.effects.iter().filter_map(works).collect()
}

#[test]
fn a_second_kernel_that_gives_no_sign_is_entered_by_way_of_the_disk() {
    let life = Life::begin().on(to_chained());
    assert_eq!(handover(&life), Handover::Kexec);
    let life = life.until_deadline();
    assert!(
        life.lease.reason.contains("by way of the server's own disk"),
        "{}",
        life.lease.reason
    );
    let life = life.on([Event::Hello]);
    assert_eq!(handover(&life), Handover::Disk);
}

#[test]
fn a_server_that_restarts_out_of_kexec_takes_the_other_way_at_once() {
    let life = Life::begin().on(to_chained()).on([Event::Hello]);
    assert_eq!(handover(&life), Handover::Disk);
}

#[test]
fn staging_orders_a_start_and_keeps_the_tokens() {
    let life = to_staged();
    assert_eq!(life.state(), LeaseState::Chained);
    assert_eq!(life.lease.phase.staged(), Some(&files()));
    assert_eq!(life.ordered(), [PowerOrder::NetworkBootOnce]);
    assert!(
        !life.effects.contains(&Effect::RevokeTokens),
        "the wrapper speaks with them"
    );
    let again = life.on([Event::Staged(files())]);
    assert!(
        again.ordered().is_empty(),
        "an answer that was lost costs no second start"
    );
}

#[test]
fn the_first_sign_of_stage_2_shows_that_the_way_works_once() {
    let life = to_staged().on([report(AgentStep::Wrapper, Outcome::Started)]);
    assert_eq!(shown(&life), [Handover::Disk]);
    assert_eq!(life.lease.phase.staged(), None, "it is removed by now");
    let life = life.on([finished(AgentStep::Wrapper)]);
    assert_eq!(life.state(), LeaseState::Installing);
    assert_eq!(shown(&life), []);
    let lost = to_staged().on([finished(AgentStep::Wrapper)]);
    assert_eq!(shown(&lost), [Handover::Disk]);
}

#[test]
fn a_sign_speaks_for_the_way_whatever_comes_after() {
    let entered = report(AgentStep::Wrapper, Outcome::Started);
    let life = Life::begin().on(to_chained()).on([entered]).until_deadline();
    assert_eq!(handover(&life.on([Event::Hello])), Handover::Kexec);
}

#[test]
fn when_the_disk_leads_nowhere_either_kexec_has_another_try() {
    let life = to_staged().until_deadline().on([Event::Hello]);
    assert_eq!(handover(&life), Handover::Kexec);
    assert_eq!(life.lease.phase.attempt(), 3);
}

#[test]
fn what_other_servers_have_shown_counts_for_a_first_boot() {
    let life = Life::begin().on(to_booting());
    assert_eq!(life.lease.phase.next_handover(), None);
    let life = life.on([Event::Hello, Event::Handover(Handover::Disk)]);
    assert_eq!(handover(&life), Handover::Disk);
}

#[test]
fn a_phase_that_an_older_lease_manager_wrote_is_read() {
    let booting: Phase = serde_json::from_str(r#"{"phase":"booting","attempt":2}"#).unwrap();
    assert_eq!(booting.next_handover(), None);
    let chained: Phase = serde_json::from_str(r#"{"phase":"chained","attempt":1,"key":null}"#).unwrap();
    assert_eq!(chained.next_handover(), Some(Handover::Disk));
}
