//! The state machine's promises, on a smooth transfer and on any sequence of events.

use super::*;
use crate::borrowing::Order;
use leaseboot_protocol::lease::EventKind;
use proptest::prelude::*;
use std::collections::BTreeMap;

const OURS: &str = "lang C\nrootpw --iscrypted @sealed:root@\n";

/// An order for web-1 at 10.99.0.10.
pub(crate) fn order() -> Order {
    let tunnel = serde_json::json!({
        "address": "10.99.0.10/24", "gateway_endpoint": "198.51.100.2:51820",
        "gateway_public_key": key(0), "allowed_ips": ["10.99.0.0/24"],
        "gateway_service": "10.99.0.1:80", "mtu": 1420, "keepalive_s": 15
    });
    let blob = |path: &str| serde_json::json!({ "path": path, "size": 3, "sha256": Sha256::of(b"abc") });
    let settings = serde_json::json!({
        "profile": "web", "hostname": "web-1", "kickstart": OURS, "kickstart_origin": "profiles/web/web.ks",
        "sealed": ["root"], "tunnel": tunnel, "min_memory_mib": 512,
        "image": { "kernel": blob("/v1/image/kernel"), "initrd": blob("/v1/image/initrd"), "command_line": "quiet" }
    });
    Order {
        request_id: "r".to_owned(),
        requirements: leaseboot_protocol::settings::Requirements::default(),
        settings: serde_json::from_value(settings).unwrap(),
        lenders: Vec::new(),
        files: crate::config::ImageFiles::Installer {
            kernel: "vmlinuz".into(),
            initrd: "initrd.img".into(),
        },
        sealed: BTreeMap::from([("root".to_owned(), "root.sealed".into())]),
        term_s: None,
        renew: false,
        install_servers: None,
        membership: Default::default(),
    }
}

fn key(n: u8) -> WireguardPublicKey {
    WireguardPublicKey([n; 32])
}

fn granted() -> Event {
    let view = serde_json::json!({
        "id": "l-1", "tenant": "acme", "server": "s-1", "state": "leased", "since": 0, "reason": "", "attempt": 0,
        "agent_key": null, "hardware": {}
    });
    Event::Granted(Box::new(serde_json::from_value(view).unwrap()))
}

fn merged(kickstart: &str) -> Event {
    Event::Merged(Prepared {
        kickstart: kickstart.to_owned(),
        kickstart_sha256: Sha256::of(kickstart.as_bytes()),
    })
}

fn lender(state: LeaseState, what: EventKind) -> Event {
    Event::Lender(Box::new(LeaseEvent {
        sequence: 1,
        at: Timestamp(0),
        state,
        what,
    }))
}

fn moved(state: LeaseState) -> Event {
    let reason = "because".to_owned();
    lender(state, EventKind::Transition { reason })
}

fn another_server() -> Event {
    let (from, to) = ("s-1".parse().unwrap(), "s-2".parse().unwrap());
    lender(LeaseState::Prepared, EventKind::Moved { from, to })
}

fn agent(n: u8) -> Event {
    lender(LeaseState::Stage1, EventKind::AgentKey { key: key(n) })
}

fn run(events: &[Event]) -> State {
    let step = |state: State, event: &Event| state.next(&order(), event).unwrap_or(state);
    events.iter().fold(State::Searching, step)
}

fn smooth() -> Vec<Event> {
    vec![
        granted(),
        merged(&format!("{OURS}zerombr\n")),
        Event::Ordered,
        moved(LeaseState::Booting),
        moved(LeaseState::Stage1),
        agent(1),
        moved(LeaseState::TunnelUp),
        moved(LeaseState::Chained),
        moved(LeaseState::Installing),
        Event::MemberKey(key(2)),
        Event::Told(Word::Installed),
        Event::MemberSeen,
        Event::MemberHello,
        Event::Told(Word::InService),
    ]
}

fn owners(state: &State) -> Vec<u8> {
    let peers = state.peers();
    peers
        .iter()
        .filter(|peer| peer.has_address)
        .map(|peer| peer.key.0[0])
        .collect()
}

#[test]
fn a_smooth_transfer() {
    let events = smooth();
    let at = |n: usize| run(&events[..n]);
    assert_eq!(at(0).duty(), Duty::Request);
    assert!(matches!(at(1).duty(), Duty::Prepare(_)));
    assert!(matches!(at(2).duty(), Duty::Boot(..)));
    assert_eq!(owners(&at(5)), [0u8; 0]);
    assert_eq!(owners(&at(6)), [1]);
    let gathers: Vec<_> = (0..=events.len()).filter(|n| at(*n).may_gather()).collect();
    assert_eq!(
        gathers,
        [6, 7],
        "sealed values and image only between agent's key and chain"
    );
    let registers: Vec<_> = (0..=events.len())
        .filter(|n| at(*n).may_register(key(2)))
        .collect();
    assert_eq!(registers, [8, 9, 10, 11]);
    assert_eq!(owners(&at(10)), [1], "the installer keeps the address");
    assert_eq!(at(10).peers().len(), 2, "and the member may shake hands");
    assert!(matches!(at(10).duty(), Duty::Tell(_, Word::Installed)));
    assert_eq!(owners(&at(12)), [2]);
    assert_eq!(at(12).peers().len(), 1);
    assert!(!at(11).may_greet() && at(12).may_greet());
    assert!(matches!(at(13).duty(), Duty::Tell(_, Word::InService)));
    assert!(matches!(at(14).duty(), Duty::Follow(_)));
}

#[test]
fn a_server_that_failed_is_followed_by_another_whose_merge_is_looked_at_anew() {
    for cut in 3..=12 {
        let mut events = smooth()[..cut].to_vec();
        events.push(moved(LeaseState::Moving));
        let state = run(&events);
        assert_eq!(
            (state.peers(), state.server()),
            (Vec::new(), None),
            "after {cut} events"
        );
        assert!(matches!(state.duty(), Duty::Follow(_)));
        events.push(another_server());
        let state = run(&events);
        assert!(matches!(state.duty(), Duty::Prepare(_)), "{state:?}");
        assert_eq!(state.server().unwrap().as_str(), "s-2");
        events.push(merged(&format!("{OURS}user --name=x\n")));
        assert!(
            matches!(run(&events), State::Returning { .. }),
            "no consent by habit"
        );
    }
}

#[test]
fn a_server_that_went_back_is_waited_for_until_its_erasure_is_known() {
    let mut events = smooth();
    events.extend([Event::Release, Event::Withdrawn, Event::Returned]);
    assert!(matches!(run(&events).duty(), Duty::AwaitErasure(_)));
    events.push(moved(LeaseState::Returning));
    events.push(moved(LeaseState::Wiping));
    assert!(matches!(run(&events).duty(), Duty::AwaitErasure(_)));
    events.push(moved(LeaseState::Ended));
    assert!(matches!(run(&events).duty(), Duty::Collect(_)));
    let erasure = Erasure::None {
        reason: "x".to_owned(),
    };
    events.push(Event::Erasure(Box::new(erasure.clone())));
    let state = run(&events);
    assert_eq!(
        (state.outcome(), state.erasure()),
        (Some(&Outcome::Released), Some(&erasure))
    );
}

#[test]
fn a_server_that_serves_is_drained_then_unnamed_then_put_out_and_only_then_given_back() {
    let drained = || Event::Drained { error: None };
    let mut order = order();
    let state = run(&smooth());
    assert!(state.is_announced());
    let at_once = state.next(&order, &Event::Release).unwrap();
    assert_eq!(
        at_once.duty(),
        Duty::Withdraw,
        "without a command there is nothing to drain"
    );

    let command = vec!["drain".to_owned()];
    order.membership.drain = Some(crate::borrowing::membership::Drain {
        command,
        deadline_s: 1,
    });
    let state = state.next(&order, &Event::Release).unwrap();
    assert_eq!((state.duty(), owners(&state)), (Duty::Drain, vec![2]));
    assert!(state.is_announced() && state.may_greet());
    assert_eq!(state.next(&order, &Event::Release), None, "it is asked for once");
    assert_eq!(state.next(&order, &Event::Withdrawn), None, "the load goes first");
    let now = state.next(&order, &Event::ReleaseNow).unwrap();
    assert!(matches!(now, State::Returning { .. }), "{now:?}");
    for (word, event) in [("moved", another_server()), ("ended", moved(LeaseState::Ended))] {
        let next = state.next(&order, &event).unwrap();
        assert_eq!(
            (next.peers(), next.outcome()),
            (Vec::new(), Some(&Outcome::Released)),
            "{word}"
        );
    }
    let json = serde_json::to_string(&state).unwrap();
    assert_eq!(serde_json::from_str::<State>(&json).unwrap(), state);

    let state = state.next(&order, &drained()).unwrap();
    assert_eq!((state.duty(), owners(&state)), (Duty::Withdraw, vec![2]));
    assert!(!state.is_announced());
    let state = state.next(&order, &Event::Withdrawn).unwrap();
    assert!(matches!(state.duty(), Duty::Return(_)));
    assert_eq!(state.peers(), []);
}

#[test]
fn a_merge_that_the_po_does_not_agree_to_is_given_back() {
    for kickstart in [format!("{OURS}user --name=x\n"), "lang C\n".to_owned()] {
        let state = run(&[granted(), merged(&kickstart)]);
        assert!(matches!(state, State::Returning { .. }), "{state:?}");
    }
    let lie = Event::Merged(Prepared {
        kickstart: OURS.to_owned(),
        kickstart_sha256: Sha256::of(b""),
    });
    assert!(matches!(run(&[granted(), lie]), State::Returning { .. }));
}

#[test]
fn a_new_boot_attempt_takes_the_old_peers_away() {
    for (cut, word) in (6..=12).flat_map(|cut| [(cut, LeaseState::Booting), (cut, LeaseState::Stage1)]) {
        let mut events = smooth()[..cut].to_vec();
        events.push(moved(word));
        let state = run(&events);
        assert_eq!(state.peers(), [], "after {cut} events");
        assert!(!state.may_gather() && !state.may_register(key(2)));
        events.push(agent(3));
        assert_eq!(owners(&run(&events)), [3]);
        assert!(run(&events).may_gather());
    }
}

#[test]
fn sealed_values_are_given_until_the_server_goes_on_to_its_image_and_anew_in_the_next_attempt() {
    let mut events = smooth()[..6].to_vec();
    assert!(run(&events).may_unseal());
    // An answer that was lost is asked for again.
    events.extend([Event::Unsealing, Event::Unsealing]);
    assert!(run(&events).may_unseal());
    events.push(Event::Gathering);
    let state = run(&events);
    assert!(state.may_gather() && !state.may_unseal());
    assert_eq!(state.peers().len(), 1);
    // Neither the lender's words about the same attempt nor the agent's repetitions open it again.
    for word in [
        moved(LeaseState::TunnelUp),
        agent(1),
        Event::Unsealing,
        Event::Gathering,
    ] {
        events.push(word);
        assert!(!run(&events).may_unseal(), "{events:?}");
    }
    events.push(agent(3));
    assert!(
        run(&events).may_unseal(),
        "a new boot attempt, with a key of its own"
    );
    for cut in [0, 3, 9, 12] {
        let mut events = smooth()[..cut].to_vec();
        events.push(Event::Gathering);
        assert_eq!(
            run(&events),
            run(&events[..cut]),
            "means nothing after {cut} events"
        );
    }
}

#[test]
fn the_lender_cannot_reopen_what_is_closed() {
    let mut events = smooth()[..9].to_vec();
    events.push(lender(
        LeaseState::Stage1,
        EventKind::StepStarted {
            step: leaseboot_protocol::lease::Step::Kernel,
        },
    ));
    events.push(agent(1));
    assert!(!run(&events).may_gather());
    for word in [moved(LeaseState::Booting), agent(5)] {
        let mut events = smooth();
        events.push(word);
        let state = run(&events);
        assert!(
            matches!(state, State::Returning { .. }),
            "a server in service is not the lender's to boot"
        );
        assert_eq!(state.peers(), []);
    }
}

#[test]
fn the_members_key_may_be_made_again_but_is_not_the_agents() {
    let events = smooth();
    let state = run(&events[..11]);
    assert!(!run(&events[..9]).may_register(key(1)));
    let again = state.next(&order(), &Event::MemberKey(key(7))).unwrap();
    assert_eq!(again.awaited_member(), Some(key(7)));
    assert!(!again.peers().iter().any(|peer| peer.key == key(2)));
    assert!(
        !run(&events[..12]).may_register(key(8)),
        "not after the member was seen"
    );
}

#[test]
fn what_may_have_been_granted_is_asked_for_and_given_back() {
    let gave_up = |maybe_granted| Event::GaveUp {
        reason: "silent".to_owned(),
        maybe_granted,
    };
    assert!(run(&[gave_up(false)]).is_over());
    for leaving in [gave_up(true), Event::Release] {
        let state = run(std::slice::from_ref(&leaving));
        assert_eq!(state.duty(), Duty::Request);
        assert!(matches!(run(&[leaving, granted()]).duty(), Duty::Return(_)));
    }
}

#[test]
fn a_state_survives_json() {
    for n in 0..=smooth().len() {
        let state = run(&smooth()[..n]);
        let json = serde_json::to_string(&state).unwrap();
        assert_eq!(serde_json::from_str::<State>(&json).unwrap(), state);
    }
}

fn any_event() -> impl Strategy<Value = Event> {
    let lease_state = prop::sample::select(vec![
        LeaseState::Moving,
        LeaseState::Ended,
        LeaseState::Booting,
        LeaseState::Stage1,
        LeaseState::TunnelUp,
        LeaseState::Chained,
        LeaseState::Installing,
        LeaseState::Installed,
        LeaseState::InService,
        LeaseState::Returning,
        LeaseState::Failed,
        LeaseState::Unknown,
    ]);
    let word = prop::sample::select(vec![Word::Installed, Word::InService]);
    prop_oneof![
        4 => prop::sample::select(smooth()),
        3 => lease_state.prop_map(moved),
        3 => (1u8..6).prop_map(agent),
        2 => (1u8..6).prop_map(|n| Event::MemberKey(key(n))),
        1 => word.prop_map(Event::Told),
        1 => Just(Event::Release),
        1 => Just(Event::ReleaseNow),
        1 => Just(Event::Drained { error: None }),
        1 => Just(Event::Withdrawn),
        1 => Just(Event::Returned),
        1 => Just(another_server()),
        1 => Just(Event::Erasure(Box::new(Erasure::None { reason: "x".to_owned() }))),
        1 => Just(Event::Refused("no".to_owned())),
        1 => Just(Event::LeaseGone("gone".to_owned())),
        1 => any::<bool>().prop_map(|maybe_granted| Event::GaveUp { reason: "x".to_owned(), maybe_granted }),
    ]
}

proptest! {
    #[test]
    fn any_sequence_keeps_the_promises(start in 0usize..14, events in prop::collection::vec(any_event(), 0..40)) {
        let mut state = run(&smooth()[..start]);
        for event in &events {
            let before = state.clone();
            if let Some(next) = state.next(&order(), event) {
                state = next;
            }
            let peers = state.peers();
            prop_assert!(owners(&state).len() <= 1, "one owner: {state:?}");
            prop_assert!(peers.len() <= 2);
            let drains = matches!(state, State::Draining { .. });
            if state.lease().is_none() || (state.outcome().is_some() && !drains) {
                prop_assert!(peers.is_empty(), "no peer without a lease: {state:?}");
            }
            if state.may_gather() {
                prop_assert_eq!(peers.len(), 1);
            }
            prop_assert!(state.may_gather() || !state.may_unseal());
            if before.may_gather() && !before.may_unseal() && state.may_unseal() {
                prop_assert!(owners(&state) != owners(&before), "values again without a new key: {event:?}");
            }
            if before.is_over() {
                prop_assert_eq!(&state, &before, "over is over");
            }
            if before.outcome().is_some() {
                prop_assert!(state.outcome().is_some(), "who leaves does not come back");
            }
            let _ = (state.duty(), state.to_string());
        }
    }
}
