//! What the store promises, whatever the order of events: an address and a name belong to one living borrowing.
#![allow(missing_docs, clippy::unwrap_used)]

use leaseboot_po::borrowing::machine::{Outcome, State};
use leaseboot_po::borrowing::{BorrowingId, Heard, Order};
use leaseboot_po::policy::decide::{Action, Verdict};
use leaseboot_po::policy::{Matcher, Policy, Stage};
use leaseboot_po::progress::Note;
use leaseboot_po::store::{CreateError, Place, Record, Store};
use leaseboot_protocol::ids::Hostname;
use leaseboot_protocol::timestamp::Timestamp;
use proptest::prelude::*;
use serde_json::json;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

fn order(place: Place) -> Order {
    let key = leaseboot_protocol::network::WireguardPublicKey([0; 32]);
    let blob = json!({ "path": "/x", "size": 1, "sha256": "0".repeat(64) });
    serde_json::from_value(json!({
        "request_id": "r", "requirements": {}, "kernel": "k", "initrd": "i", "sealed": {},
        "settings": {
            "profile": "web", "hostname": place.hostname, "kickstart": "", "kickstart_origin": "", "sealed": [],
            "tunnel": {
                "address": format!("{}/24", place.address), "gateway_endpoint": "198.51.100.2:51820",
                "gateway_public_key": key, "allowed_ips": [], "gateway_service": "10.99.0.1:80", "mtu": 1420,
                "keepalive_s": 15
            },
            "image": { "kernel": blob, "initrd": blob, "command_line": "" }, "min_memory_mib": 1
        }
    }))
    .unwrap()
}

fn pool() -> impl Iterator<Item = Ipv4Addr> {
    (10..14).map(|last| Ipv4Addr::new(10, 99, 0, last))
}

async fn create(store: &Store) -> Result<Record, CreateError> {
    let name = |taken: &dyn Fn(&Hostname) -> bool| {
        let mut names = (1..).map(|n| format!("web-{n}").parse().unwrap());
        Ok(names.find(|name| !taken(name)).unwrap())
    };
    store.create(pool(), name, order, Timestamp(1)).await
}

fn over() -> State {
    State::Over {
        lease: None,
        outcome: Outcome::Released,
        erasure: None,
    }
}

async fn end(store: &Store, id: &BorrowingId) {
    let note = Note::Over {
        outcome: Outcome::Released,
    };
    store
        .advance(id, &over(), Heard::default(), &[note], Timestamp(2))
        .await
        .unwrap();
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn an_address_is_never_given_twice(steps in prop::collection::vec(0usize..8, 1..24)) {
        let folder = tempfile::tempdir().unwrap();
        block_on(async {
            let store = Store::open(&folder.path().join("po.sqlite")).await.unwrap();
            let mut living: Vec<Record> = Vec::new();
            for step in steps {
                if step < 5 {
                    match create(&store).await {
                        Ok(record) => living.push(record),
                        Err(CreateError::NoAddress(4)) => assert_eq!(living.len(), 4),
                        Err(error) => panic!("{error}"),
                    }
                } else if !living.is_empty() {
                    let record = living.remove(step % living.len());
                    end(&store, &record.id).await;
                }
                let addresses: BTreeSet<_> = living.iter().map(|record| record.order.address()).collect();
                let names: BTreeSet<_> = living.iter().map(|record| &record.order.settings.hostname).collect();
                assert_eq!((addresses.len(), names.len()), (living.len(), living.len()));
            }
        });
    }
}

#[tokio::test]
async fn what_was_written_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("po.sqlite");
    let store = Store::open(&path).await.unwrap();
    let record = create(&store).await.unwrap();
    let state = State::Preparing {
        lease: "l-1".parse().unwrap(),
        server: "s-1".parse().unwrap(),
    };
    let heard = Heard {
        cursor: 7,
        expires: Some(Timestamp(9)),
        ends_soon: true,
    };
    let last = store
        .advance(
            &record.id,
            &state,
            heard,
            &[Note::Ordered, Note::LenderBack],
            Timestamp(5),
        )
        .await;
    assert_eq!(last.unwrap(), 3);
    store.close().await;

    let store = Store::open(&path).await.unwrap();
    let found = store.all().await.unwrap();
    let expected = Record {
        state,
        since: Timestamp(5),
        heard,
        ..record
    };
    assert_eq!(found, [expected]);
    let notes = store.progress(&found[0].id, 1, 10).await.unwrap();
    let sequences: Vec<_> = notes.iter().map(|progress| progress.sequence).collect();
    assert_eq!(sequences, [2, 3]);
    assert_eq!(
        create(&store).await.unwrap().order.address().to_string(),
        "10.99.0.11"
    );
}

#[tokio::test]
async fn what_a_policy_wants_is_borrowed_for_once_whenever_the_process_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("po.sqlite");
    let store = Store::open(&path).await.unwrap();
    let policy = Policy {
        name: "shop".to_owned(),
        on: Matcher::default(),
        profile: "web".to_owned(),
        lenders: vec!["north".to_owned()],
        servers: 2,
        limit: 2,
        stands: Duration::ZERO,
        quiet: Duration::ZERO,
        cooldown: Duration::ZERO,
        expire: None,
        drain: None,
    };
    let verdict = Verdict {
        policy: "shop".to_owned(),
        sees: Vec::new(),
        action: Action::Borrow { servers: 2 },
        reason: "a test".to_owned(),
        wake: None,
    };
    store.decided(&verdict, &policy, &[], Timestamp(7)).await.unwrap();
    store.close().await;

    let store = Store::open(&path).await.unwrap();
    let wants = store.wants().await.unwrap();
    let stages: Vec<_> = wants
        .iter()
        .map(|want| (want.key.as_str(), &want.stage))
        .collect();
    assert_eq!(stages, [("d1-1", &Stage::Wanted), ("d1-2", &Stage::Wanted)]);
    assert_eq!(store.last_decisions().await.unwrap()["shop"], Timestamp(7));
    let name = |_: &dyn Fn(&Hostname) -> bool| Ok("web-1".parse().unwrap());
    let key = Some(&wants[0].key);
    let record = store
        .create_for(key, pool(), name, order, Timestamp(8))
        .await
        .unwrap();
    let other = |_: &dyn Fn(&Hostname) -> bool| Ok("web-2".parse().unwrap());
    let twice = store.create_for(key, pool(), other, order, Timestamp(9)).await;
    assert!(matches!(twice, Err(CreateError::NotWanted(_))), "{twice:?}");
    store.close().await;

    let store = Store::open(&path).await.unwrap();
    let wants = store.wants().await.unwrap();
    assert_eq!(
        (wants[0].borrowing.as_ref(), &wants[0].stage),
        (Some(&record.id), &Stage::Borrowed)
    );
    assert_eq!(
        (wants[1].borrowing.as_ref(), &wants[1].stage),
        (None, &Stage::Wanted)
    );
    assert_eq!(
        store.all().await.unwrap().len(),
        1,
        "the second attempt left nothing"
    );
}
