use super::*;
use crate::config::Server;
use crate::lease::{Effect, Event, Lease, Phase, Rules};
use crate::power::PowerOrder;
use leaseboot_protocol::digest::Sha256;
use leaseboot_protocol::ids::{LeaseId, ServerId, TenantId};
use leaseboot_protocol::settings::Requirements;
use std::net::IpAddr;

const NOW: Timestamp = Timestamp(1_000);

/// Runs each test on both back ends.
macro_rules! on_both_back_ends {
    ($($test:ident),* $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test]
            async fn $test() {
                super::$test(super::Scratch::sqlite().await).await;
            })*
        }
        mod on_postgres {
            $(#[tokio::test]
            async fn $test() {
                super::$test(super::Scratch::postgres().await).await;
            })*
        }
    };
}
pub(super) use on_both_back_ends;

mod dumps;
mod groups;
mod several;
mod tls;

on_both_back_ends!(
    a_server_is_lent_once_and_a_request_brings_one_lease,
    whoever_comes_second_changes_nothing,
    power_orders_outlive_a_restart_and_are_answered_once,
    a_server_that_failed_is_held_until_somebody_says_that_it_is_erased,
    a_lease_moves_to_another_server_in_one_transaction_or_not_at_all,
    a_boot_token_is_good_once_for_its_own_server_in_its_time,
    own_drivers_failed_when_their_boot_stayed_silent,
    a_newer_store_is_not_touched,
    requests_at_once_bring_one_lease_for_each_server,
);

mod tenants;

/// A store of one test, with two free servers `a` and `b`.
pub(super) struct Scratch {
    _folder: tempfile::TempDir,
    pub(super) place: Location,
    pub(super) store: Store,
}

impl Scratch {
    pub(super) async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = Location::Sqlite(folder.path().join("lm 100%.sqlite"));
        Self::with(folder, place).await
    }

    pub(super) async fn postgres() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let address = leaseboot_tests::postgres::Cluster::shared().database();
        let place = Location::parse(folder.path(), &address, None, None).unwrap();
        Self::with(folder, place).await
    }

    async fn with(folder: tempfile::TempDir, place: Location) -> Self {
        let store = Store::open(&place).await.unwrap();
        let servers = [server("a", 201), server("b", 202)];
        store.declare_servers(&servers, true, NOW).await.unwrap();
        Self {
            _folder: folder,
            place,
            store,
        }
    }

    pub(super) async fn reopen(&mut self) {
        self.store.close().await;
        self.store = Store::open(&self.place).await.unwrap();
    }

    pub(super) async fn take(&self, request: &str, server: &str) -> Taken {
        self.store.take(new_lease(request, server), NOW).await.unwrap()
    }
}

/// A declared server with a card and an address of its own.
pub(super) fn server(name: &str, last: u8) -> Server {
    let text = format!(
        r#"{{"name": "{name}", "place": {{"mac": "52:54:00:00:01:{last:02x}", "address": "10.10.0.{last}/24", "router": null, "mtu": 1500}},
            "console": null, "kernel_words": [], "labels": {{"rack": "a"}}, "wiped": true, "folder": "/",
            "power": {{"kind": "command", "on": ["true"], "off": ["true"]}}}}"#
    );
    serde_json::from_str(&text).unwrap()
}

pub(super) fn new_lease(request: &str, server: &str) -> NewLease {
    NewLease {
        id: format!("l-{}", request.replace('#', "-")).parse().unwrap(),
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
        deeds: Vec::new(),
        at: NOW,
    }
}

fn taken(taken: Taken) -> LeaseRecord {
    match taken {
        Taken::New(lease) => lease,
        other => panic!("{other:?}"),
    }
}

async fn a_server_is_lent_once_and_a_request_brings_one_lease(scratch: Scratch) {
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

async fn whoever_comes_second_changes_nothing(scratch: Scratch) {
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

async fn power_orders_outlive_a_restart_and_are_answered_once(mut scratch: Scratch) {
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

async fn a_server_that_failed_is_held_until_somebody_says_that_it_is_erased(scratch: Scratch) {
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

async fn a_lease_moves_to_another_server_in_one_transaction_or_not_at_all(scratch: Scratch) {
    let store = &scratch.store;
    let mut lease = taken(scratch.take("one", "a").await);
    for event in [Event::SettingsMerged, Event::BootOrdered] {
        assert!(store.commit(&lease, change(&lease, event)).await.unwrap());
        lease = store.lease(&lease.id).await.unwrap().unwrap();
    }
    // The server fails and another is found: one change of two steps, as the driver makes it.
    let moves = |lease: &LeaseRecord| {
        let mut first = change(lease, Event::Unfit("broken".to_owned()));
        let found = Event::ServerFound(name("b"));
        let second = first.lease.step(found, NOW, &Rules::default()).unwrap();
        let state = second.lease.phase.state();
        first
            .effects
            .extend(second.effects.into_iter().map(|effect| (state, effect)));
        Change {
            lease: second.lease,
            ..first
        }
    };
    let custody = async |server: &str| store.server(&name(server)).await.unwrap().unwrap().custody;
    let other = taken(scratch.take("two", "b").await);
    assert!(
        !store.commit(&lease, moves(&lease)).await.unwrap(),
        "the other server is lent"
    );
    assert_eq!(store.lease(&lease.id).await.unwrap().unwrap(), lease);
    assert_eq!(custody("a").await, Custody::Lent);
    assert!(
        store
            .commit(&other, change(&other, Event::Released))
            .await
            .unwrap()
    );

    assert!(store.commit(&lease, moves(&lease)).await.unwrap());
    let moved = store.lease(&lease.id).await.unwrap().unwrap();
    assert_eq!(
        (moved.lease.server.as_str(), moved.lease.failed.as_slice()),
        ("b", [name("a")].as_slice())
    );
    assert_eq!(
        (custody("a").await, custody("b").await),
        (Custody::Quarantined, Custody::Lent)
    );
    let orders = store.power_orders().await.unwrap();
    assert_eq!(
        (orders.len(), orders[0].server.as_str(), orders[0].order),
        (1, "a", PowerOrder::Off)
    );
    assert_eq!(
        orders[0].lease, None,
        "the lease has another server now and hears of that one's power alone"
    );
    assert!(store.leases_that_move().await.unwrap().is_empty());
}

async fn a_boot_token_is_good_once_for_its_own_server_in_its_time(scratch: Scratch) {
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
        drivers: DriverSet::All,
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

async fn own_drivers_failed_when_their_boot_stayed_silent(scratch: Scratch) {
    let (mac, from): (_, IpAddr) = (
        "52:54:00:00:00:01".parse().unwrap(),
        "10.10.0.11".parse().unwrap(),
    );
    let [lease, other]: [LeaseId; 2] = ["l-one", "l-two"].map(|id| id.parse().unwrap());
    let boot = async |text: &str, drivers| {
        let ticket = BootTicket {
            mac,
            server: Some(name("a")),
            lease: Some(lease.clone()),
        };
        let token = NewBootToken {
            sha256: Sha256::of(text.as_bytes()),
            ticket,
            address: from,
            expires: Timestamp(2_000),
            drivers,
        };
        scratch.store.save_boot_token(&token).await.unwrap();
    };
    let failed = async |lease| scratch.store.own_drivers_failed(mac, lease).await.unwrap();
    assert!(!failed(&lease).await);
    boot("first", DriverSet::Own).await;
    assert!(failed(&lease).await && !failed(&other).await);
    let session = Sha256::of(b"session");
    let hello = scratch
        .store
        .redeem(&Sha256::of(b"first"), mac, from, &session, NOW)
        .await;
    assert!(matches!(hello.unwrap(), Redeemed::Good(_)));
    assert!(!failed(&lease).await);
    boot("second", DriverSet::All).await;
    assert!(!failed(&lease).await);
    boot("third", DriverSet::AllAfterOwn).await;
    assert!(failed(&lease).await);
}

#[tokio::test]
async fn neither_tokens_nor_their_sessions_stand_in_the_file() {
    let scratch = Scratch::sqlite().await;
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
        drivers: DriverSet::All,
    };
    scratch.store.save_boot_token(&new).await.unwrap();
    scratch
        .store
        .redeem(&new.sha256, mac, from, &Sha256::of(b"very-secret-session"), NOW)
        .await
        .unwrap();
    scratch.store.close().await;
    for file in std::fs::read_dir(scratch._folder.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(11).any(|window| window == b"very-secret"));
    }
}

async fn a_newer_store_is_not_touched(scratch: Scratch) {
    let sql = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) SELECT 9999, 'x', success, checksum, 0 FROM _sqlx_migrations WHERE version = 1";
    scratch
        .store
        .execute("make it newer", sqlx::query(sql))
        .await
        .unwrap();
    scratch.store.close().await;
    let refused = Store::open(&scratch.place).await.unwrap_err();
    assert!(
        matches!(refused, StoreError::Newer { found: 9999, .. }),
        "{refused:?}"
    );
}

async fn requests_at_once_bring_one_lease_for_each_server(scratch: Scratch) {
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..24 {
        let (store, server) = (scratch.store.clone(), ["a", "b"][number % 2]);
        // Each request is made twice, for two servers: another Lease Manager may have found another.
        let new = new_lease(&format!("r{}", number / 2), server);
        tasks.spawn(async move { store.take(new, NOW).await.unwrap() });
    }
    let outcomes = tasks.join_all().await;
    let taken = outcomes
        .iter()
        .filter(|taken| matches!(taken, Taken::New(_)))
        .count();
    let leases = scratch.store.leases().await.unwrap();
    assert_eq!(leases.len(), taken);
    for server in scratch.store.servers().await.unwrap() {
        let holders: Vec<_> = leases
            .iter()
            .filter(|lease| lease.lease.server == server.name)
            .collect();
        assert!(holders.len() <= 1, "{holders:?}");
        assert_eq!(server.lease.as_ref(), holders.first().map(|lease| &lease.id));
    }
}
