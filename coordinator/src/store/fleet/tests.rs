use super::super::Taken;
use super::super::tests::{Scratch, on_both_back_ends, server};
use super::*;
use crate::fleet::DifferenceKind;

on_both_back_ends!(
    each_change_is_followed,
    cards_and_addresses_change_hands_within_one_declaration,
    what_is_withheld_is_never_lent,
    a_report_goes_before_what_the_lender_wrote_down,
    a_difference_is_kept_until_it_is_accepted,
);

const NOW: Timestamp = Timestamp(1_000);

fn name(text: &str) -> ServerId {
    text.parse().unwrap()
}

async fn declare(store: &Store, servers: &[Server]) -> Result<Vec<ServerId>, DeclareError> {
    store.declare_servers(servers, true, NOW).await
}

fn names(rows: &[FleetRow]) -> Vec<&str> {
    rows.iter().map(|row| row.declared.name.as_str()).collect()
}

/// On PostgreSQL a row may come again as long as an older transaction runs, also one of another database of the cluster.
async fn settled(store: &Store, mut since: i64) -> i64 {
    for _ in 0..500 {
        let (rows, next) = store.fleet_changes(since).await.unwrap();
        if rows.is_empty() {
            return next;
        }
        since = next;
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the same rows come again and again")
}

async fn each_change_is_followed(scratch: Scratch) {
    let store = &scratch.store;
    assert_eq!(
        declare(store, &[server("x", 1), server("y", 2)]).await.unwrap(),
        [name("x"), name("y")]
    );
    let (rows, next) = store.fleet_changes(0).await.unwrap();
    assert_eq!(names(&rows), ["a", "b", "x", "y"]);
    let next = settled(store, next).await;
    // The same declaration again is no change.
    assert_eq!(declare(store, &[server("x", 1)]).await.unwrap(), []);
    assert_eq!(names(&store.fleet_changes(next).await.unwrap().0), [""; 0]);
    let labels = LabelChanges::from([
        ("rack".to_owned(), None),
        ("row".to_owned(), Some("1".to_owned())),
    ]);
    assert!(store.set_labels(&name("y"), &labels).await.unwrap());
    assert!(!store.set_labels(&name("z"), &labels).await.unwrap());
    let (rows, _) = store.fleet_changes(next).await.unwrap();
    assert_eq!(names(&rows), ["y"]);
    assert_eq!(rows[0].labels, labels);
}

async fn cards_and_addresses_change_hands_within_one_declaration(scratch: Scratch) {
    let store = &scratch.store;
    declare(store, &[server("x", 1), server("y", 2)]).await.unwrap();
    declare(store, &[server("x", 2), server("y", 1)]).await.unwrap();
    let error = declare(store, &[server("z", 1)]).await.unwrap_err();
    let words = "the card 52:54:00:00:01:01 of z belongs to the server y already: give each server its own, or retire y";
    assert_eq!(error.to_string(), words);
    assert!(store.retire(&name("y"), NOW).await.unwrap());
    declare(store, &[server("z", 1)]).await.unwrap();
    assert!(matches!(
        declare(store, &[server("y", 3)]).await,
        Err(DeclareError::Retired { .. })
    ));
    assert!(matches!(
        store.unretire(&server("y", 1)).await,
        Err(DeclareError::Taken { .. })
    ));
}

async fn what_is_withheld_is_never_lent(scratch: Scratch) {
    let store = &scratch.store;
    declare(store, &[server("x", 1), server("y", 2)]).await.unwrap();
    store.set_maintenance(&name("x"), Some("loud")).await.unwrap();
    store.retire(&name("y"), NOW).await.unwrap();
    for withheld in ["x", "y"] {
        assert!(matches!(
            scratch.take(withheld, withheld).await,
            Taken::ServerGone
        ));
    }
    store.set_maintenance(&name("x"), None).await.unwrap();
    assert!(matches!(scratch.take("x2", "x").await, Taken::New(_)));
    // What is lent is not retired.
    assert!(!store.retire(&name("x"), NOW).await.unwrap());
}

async fn a_report_goes_before_what_the_lender_wrote_down(scratch: Scratch) {
    let report = |cores| HardwareReport {
        cpu: leaseboot_protocol::hardware::Cpu {
            cores,
            ..Default::default()
        },
        ..HardwareReport::default()
    };
    let store = &scratch.store;
    store
        .save_report(&name("a"), &report(8), &[], None, NOW)
        .await
        .unwrap();
    let written = |name: &str, last| Server {
        wiped: false,
        hardware: Some(report(4)),
        ..server(name, last)
    };
    declare(store, &[written("a", 201), written("c", 203)])
        .await
        .unwrap();
    let servers = store.servers().await.unwrap();
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

async fn a_difference_is_kept_until_it_is_accepted(scratch: Scratch) {
    let store = &scratch.store;
    declare(store, &[server("x", 1)]).await.unwrap();
    let x = name("x");
    let report = |cores| {
        let mut report = HardwareReport::default();
        report.cpu.cores = cores;
        report
    };
    assert!(store.baseline(&x).await.unwrap().is_none());
    store.save_report(&x, &report(2), &[], None, NOW).await.unwrap();
    let difference = [Difference {
        kind: DifferenceKind::Cpu,
        words: "fewer cores".to_owned(),
    }];
    for _ in 0..2 {
        store
            .save_report(&x, &report(1), &difference, Some("not what it was"), NOW)
            .await
            .unwrap();
    }
    let row = store.fleet_server(&x).await.unwrap().unwrap();
    assert_eq!((row.custody, row.differences.len()), (Custody::Quarantined, 1));
    assert_eq!(row.hardware.unwrap().cpu.cores, 1);
    assert_eq!(store.baseline(&x).await.unwrap().unwrap().hardware.cpu.cores, 2);
    assert!(store.accept_differences(&x, NOW).await.unwrap());
    assert!(!store.accept_differences(&x, NOW).await.unwrap());
    let row = store.fleet_server(&x).await.unwrap().unwrap();
    assert_eq!((row.custody, row.differences.len()), (Custody::Free, 0));
    assert_eq!(store.baseline(&x).await.unwrap().unwrap().hardware.cpu.cores, 1);
    // A difference that stays the same is written down once.
    let history: Vec<_> = store
        .history(&x)
        .await
        .unwrap()
        .into_iter()
        .map(|(_, what)| what)
        .collect();
    assert_eq!(history, ["fewer cores", "the differences were accepted"]);
}
