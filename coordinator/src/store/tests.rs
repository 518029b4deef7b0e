use super::*;
use crate::lease::{Effect, Event, Lease, Phase, Rules};
use crate::power::PowerOrder;
use leaseboot_protocol::digest::Sha256;
use leaseboot_protocol::hardware::HardwareReport;
use leaseboot_protocol::ids::{LeaseId, ServerId, TenantId};
use leaseboot_protocol::settings::Requirements;
use std::net::IpAddr;

const NOW: Timestamp = Timestamp(1_000);

struct Scratch {
    _folder: tempfile::TempDir,
    path: PathBuf,
    store: Store,
}

impl Scratch {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lm.sqlite");
        let store = Store::open(&path).await.unwrap();
        let server = |name: &str| NewServer {
            name: name.parse().unwrap(),
            wiped: true,
            hardware: None,
        };
        store
            .adopt_servers(&[server("a"), server("b")], NOW)
            .await
            .unwrap();
        Self {
            _folder: folder,
            path,
            store,
        }
    }

    async fn reopen(&mut self) {
        self.store.close().await;
        self.store = Store::open(&self.path).await.unwrap();
    }

    async fn take(&self, request: &str, server: &str) -> Taken {
        self.store.take(new_lease(request, server), NOW).await.unwrap()
    }
}

fn new_lease(request: &str, server: &str) -> NewLease {
    NewLease {
        id: format!("l-{request}").parse().unwrap(),
        tenant: tenant(),
        request_id: request.to_owned(),
        requirements: Requirements::default(),
        first: Lease::begin(server.parse().unwrap(), None, NOW, &Rules::default()),
    }
}

fn tenant() -> TenantId {
    "acme".parse().unwrap()
}

fn name(text: &str) -> ServerId {
    text.parse().unwrap()
}

fn change(before: &LeaseRecord, event: Event) -> Change {
    let step = before.lease.clone().step(event, NOW, &Rules::default()).unwrap();
    let state = step.lease.phase.state();
    Change {
        lease: step.lease,
        effects: step.effects.into_iter().map(|effect| (state, effect)).collect(),
        kickstart: None,
        erasure: None,
        answered: None,
        at: NOW,
    }
}

fn taken(taken: Taken) -> LeaseRecord {
    match taken {
        Taken::New(lease) => lease,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_server_is_lent_once_and_a_request_brings_one_lease() {
    let scratch = Scratch::new().await;
    let first = taken(scratch.take("one", "a").await);
    assert!(matches!(scratch.take("two", "a").await, Taken::ServerGone));
    match scratch.take("one", "b").await {
        Taken::Known(known) => assert_eq!(known, first),
        other => panic!("{other:?}"),
    }
    let server = scratch.store.server(&name("a")).await.unwrap().unwrap();
    assert_eq!(
        (server.custody, server.lease),
        (Custody::Lent, Some(first.id.clone()))
    );
    assert_eq!(
        scratch.store.server(&name("b")).await.unwrap().unwrap().custody,
        Custody::Free
    );
    assert_eq!(scratch.store.lease(&first.id).await.unwrap(), Some(first));
}

#[tokio::test]
async fn whoever_comes_second_changes_nothing() {
    let scratch = Scratch::new().await;
    let lease = taken(scratch.take("one", "a").await);
    assert!(
        scratch
            .store
            .commit(&lease, change(&lease, Event::SettingsMerged))
            .await
            .unwrap()
    );
    assert!(
        !scratch
            .store
            .commit(&lease, change(&lease, Event::Released))
            .await
            .unwrap()
    );
    let events = scratch.store.events(&lease.id, 0).await.unwrap();
    assert_eq!(
        events.iter().map(|event| event.sequence).collect::<Vec<_>>(),
        [1, 2]
    );
    assert_eq!(scratch.store.events(&lease.id, 1).await.unwrap().len(), 1);
    assert_eq!(
        scratch.store.lease(&lease.id).await.unwrap().unwrap().lease.phase,
        Phase::Prepared
    );
}

#[tokio::test]
async fn power_orders_outlive_a_restart_and_are_answered_once() {
    let mut scratch = Scratch::new().await;
    let lease = taken(scratch.take("one", "a").await);
    scratch
        .store
        .commit(&lease, change(&lease, Event::SettingsMerged))
        .await
        .unwrap();
    let lease = scratch.store.lease(&lease.id).await.unwrap().unwrap();
    scratch
        .store
        .commit(&lease, change(&lease, Event::BootOrdered))
        .await
        .unwrap();
    scratch.reopen().await;
    let orders = scratch.store.power_orders().await.unwrap();
    assert_eq!((orders.len(), orders[0].order), (1, PowerOrder::NetworkBootOnce));
    let lease = scratch.store.lease(&lease.id).await.unwrap().unwrap();
    let answer = || Change {
        answered: Some(orders[0].id),
        ..change(&lease, Event::PowerDone(PowerOrder::NetworkBootOnce))
    };
    assert!(scratch.store.commit(&lease, answer()).await.unwrap());
    let lease = scratch.store.lease(&lease.id).await.unwrap().unwrap();
    let answer = Change {
        answered: Some(orders[0].id),
        ..change(&lease, Event::PowerDone(PowerOrder::NetworkBootOnce))
    };
    assert!(!scratch.store.commit(&lease, answer).await.unwrap());
    assert!(scratch.store.power_orders().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_server_that_failed_is_held_until_somebody_says_that_it_is_erased() {
    let scratch = Scratch::new().await;
    let lease = taken(scratch.take("one", "a").await);
    let ended = Change {
        effects: vec![(
            lease.lease.phase.state(),
            Effect::LetGo(crate::lease::Release::Quarantined("broken".to_owned())),
        )],
        ..change(&lease, Event::Released)
    };
    assert!(scratch.store.commit(&lease, ended).await.unwrap());
    assert_eq!(
        scratch.store.server(&name("a")).await.unwrap().unwrap().custody,
        Custody::Quarantined
    );
    assert!(matches!(scratch.take("two", "a").await, Taken::ServerGone));
    assert!(scratch.store.set_free(&name("a"), "erased", NOW).await.unwrap());
    assert!(!scratch.store.set_free(&name("a"), "erased", NOW).await.unwrap());
    taken(scratch.take("two", "a").await);
}

#[tokio::test]
async fn a_boot_token_is_good_once_for_its_own_server_in_its_time() {
    let scratch = Scratch::new().await;
    let lease: LeaseId = "l-one".parse().unwrap();
    let (mac, from): (_, IpAddr) = (
        "52:54:00:00:00:01".parse().unwrap(),
        "10.10.0.11".parse().unwrap(),
    );
    let token = |text: &str| NewBootToken {
        sha256: Sha256::of(text.as_bytes()),
        ticket: BootTicket {
            mac,
            server: Some(name("a")),
            lease: Some(lease.clone()),
        },
        address: from,
        expires: Timestamp(2_000),
    };
    let redeem = async |text: &str, mac, from, at| {
        let session = Sha256::of(format!("session of {text}").as_bytes());
        scratch
            .store
            .redeem(&Sha256::of(text.as_bytes()), mac, from, &session, Timestamp(at))
            .await
            .unwrap()
    };
    scratch.store.save_boot_token(&token("first")).await.unwrap();
    scratch.store.save_boot_token(&token("second")).await.unwrap();
    let bad = |redeemed: Redeemed, words: &str| {
        assert!(matches!(redeemed, Redeemed::Bad(why) if why.contains(words)))
    };
    bad(redeem("first", mac, from, 1_500).await, "not known");
    bad(redeem("second", mac, from, 2_000).await, "too old");
    bad(
        redeem("second", mac, "10.10.0.12".parse().unwrap(), 1_500).await,
        "another server",
    );
    bad(
        redeem("second", "52:54:00:00:00:02".parse().unwrap(), from, 1_500).await,
        "another server",
    );
    assert!(
        matches!(redeem("second", mac, from, 1_500).await, Redeemed::Good(ticket) if ticket.lease == Some(lease.clone()))
    );
    bad(redeem("second", mac, from, 1_500).await, "used before");
    let session = scratch
        .store
        .session(&Sha256::of(b"session of second"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!((session.lease, session.address), (Some(lease), from));
}

#[tokio::test]
async fn neither_tokens_nor_their_sessions_stand_in_the_file() {
    let scratch = Scratch::new().await;
    let mac = "52:54:00:00:00:01".parse().unwrap();
    let from: IpAddr = "10.10.0.11".parse().unwrap();
    let new = NewBootToken {
        sha256: Sha256::of(b"very-secret-token"),
        ticket: BootTicket {
            mac,
            server: None,
            lease: None,
        },
        address: from,
        expires: Timestamp(2_000),
    };
    scratch.store.save_boot_token(&new).await.unwrap();
    scratch
        .store
        .redeem(&new.sha256, mac, from, &Sha256::of(b"very-secret-session"), NOW)
        .await
        .unwrap();
    scratch.store.close().await;
    let folder = scratch.path.parent().unwrap();
    for file in std::fs::read_dir(folder).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(11).any(|window| window == b"very-secret"));
    }
}

#[tokio::test]
async fn a_report_goes_before_what_the_lender_wrote_down() {
    let scratch = Scratch::new().await;
    let report = |cores| HardwareReport {
        cpu: leaseboot_protocol::hardware::Cpu {
            cores,
            ..Default::default()
        },
        ..HardwareReport::default()
    };
    scratch.store.save_hardware(&name("a"), &report(8)).await.unwrap();
    let written = |server: &str| NewServer {
        name: name(server),
        wiped: false,
        hardware: Some(report(4)),
    };
    scratch
        .store
        .adopt_servers(&[written("a"), written("c")], NOW)
        .await
        .unwrap();
    let servers = scratch.store.servers().await.unwrap();
    let seen: Vec<_> = servers
        .iter()
        .map(|server| {
            (
                server.name.as_str(),
                server.custody,
                server.hardware.as_ref().map(|report| report.cpu.cores),
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("a", Custody::Free, Some(8)),
            ("b", Custody::Free, None),
            ("c", Custody::Held, Some(4))
        ]
    );
}

#[tokio::test]
async fn a_newer_store_is_not_touched() {
    let scratch = Scratch::new().await;
    let sql = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (9999, 'x', 1, x'00', 0)";
    sqlx::query(sql).execute(&scratch.store.pool).await.unwrap();
    scratch.store.close().await;
    assert!(matches!(
        Store::open(&scratch.path).await,
        Err(StoreError::Migrate { .. })
    ));
}
