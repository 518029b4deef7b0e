//! `leaseboot-lm backup` and `restore` as an operator gives them: a fleet with leases is saved while its Lease Manager serves, and goes on at
//! another place, on either back end.

// A test that cannot go on says so by panicking, its helpers too.
#![allow(clippy::unwrap_used)]

mod house;

use house::{House, fails, run, text};
use leaseboot_protocol::ids::LeaseId;
use leaseboot_protocol::lease::LeaseState;
use leaseboot_tests::postgres::Cluster;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// What a lender that lost its machine puts at another place: the folder of a Lease Manager with its keys and without its store, which is to be
/// at `store`.
fn moved(house: &House, store: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for part in ["lm", "acme", "other"] {
        std::fs::create_dir(folder.path().join(part)).unwrap();
        for file in std::fs::read_dir(house.folder().join(part)).unwrap() {
            let file = file.unwrap();
            let name = file.file_name().into_string().unwrap();
            if !name.starts_with("lm.sqlite") {
                std::fs::copy(file.path(), folder.path().join(part).join(name)).unwrap();
            }
        }
    }
    std::fs::write(folder.path().join("power.log"), "").unwrap();
    let config = config(&folder);
    let lm = std::fs::read_to_string(&config).unwrap();
    let old = lm.lines().find(|line| line.starts_with("store = ")).unwrap();
    std::fs::write(&config, lm.replacen(old, &format!("store = {store:?}"), 1)).unwrap();
    folder
}

fn config(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("lm/lm.toml")
}

fn back_up(house: &House, name: &str) -> PathBuf {
    let file = house.folder().join(name);
    let said = run(&["backup", text(&file), "--config", text(&house.config())]);
    assert!(said.contains("rows of"), "{said}");
    file
}

fn restore<'a>(file: &'a Path, config: &'a Path) -> [&'a str; 4] {
    ["restore", text(file), "--config", text(config)]
}

/// The restored one knows what the first one knew, and goes on with it.
async fn goes_on(first: &House, restored: &House, leases: &[LeaseId; 2]) {
    let (before, after) = (first.tenant("acme"), restored.tenant("acme"));
    for lease in leases {
        assert_eq!(after.view(lease).await, before.view(lease).await);
        assert_eq!(
            after.events(lease, 0, 0).await.events,
            before.events(lease, 0, 0).await.events
        );
    }
    assert_eq!(restored.record("s1").await, first.record("s1").await);
    let kickstart = restored.agent(1).await.kickstart(restored).await;
    assert!(kickstart.contains("nginx"), "{kickstart}");
    assert_eq!(after.view(&leases[0]).await.state, LeaseState::Stage1);
    // Who did what, from the first entry on.
    let whole = run(&["audit", "verify", "--config", text(&restored.config())]);
    assert!(whole.contains("entries, whole"), "{whole}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_goes_on_at_another_place_and_on_the_other_back_end() {
    let house = House::new().await;
    let tenant = house.tenant("acme");
    let booting = tenant.boot("one").await;
    house
        .wait_until("power", async || house.power() == ["off 1", "on 1"])
        .await;
    let carried_out = async || house.driver.store().power_orders().await.unwrap().is_empty();
    house.wait_until("the end of the orders", carried_out).await;
    let prepared = tenant.borrow("two").await.id;
    tenant.prepare(&prepared).await;
    let leases = [booting, prepared];

    let file = back_up(&house, "backup");
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "it holds what tenants sent");
    let again = fails(&["backup", text(&file), "--config", text(&house.config())]);
    assert!(again.contains("is there already"), "{again}");

    let sqlite = moved(&house, "elsewhere.sqlite");
    run(&restore(&file, &config(&sqlite)));
    let sqlite = House::open(sqlite).await;
    goes_on(&house, &sqlite, &leases).await;

    let postgres = moved(&house, &Cluster::shared().database());
    run(&restore(&file, &config(&postgres)));
    let postgres = House::open(postgres).await;
    goes_on(&house, &postgres, &leases).await;

    // And back again, from the database into a file.
    let file = back_up(&postgres, "backup of the database");
    let back = moved(&house, "back.sqlite");
    run(&restore(&file, &config(&back)));
    let back = House::open(back).await;
    let state = back.tenant("acme").view(&leases[0]).await.state;
    assert_eq!(state, LeaseState::Stage1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_restored_over_a_store_that_is_used_or_that_holds_something() {
    let house = House::with(1, "").await;
    let lease = house.tenant("acme").borrow("one").await.id;
    let file = back_up(&house, "backup");
    for store in ["elsewhere.sqlite".to_owned(), Cluster::shared().database()] {
        let folder = moved(&house, &store);
        let config = config(&folder);
        run(&restore(&file, &config));
        let full = fails(&restore(&file, &config));
        assert!(
            full.contains("is not empty") && full.contains("--replace"),
            "{full}"
        );
        let replaced = [&restore(&file, &config)[..], &["--replace"]].concat();
        run(&replaced);
        let mut serving = House::open(folder).await;
        let used = fails(&replaced);
        assert!(used.contains("is in use"), "{used}");
        serving.tenant("acme").view(&lease).await;
        serving.stop().await;

        // A text that was cut short leaves all as it was.
        let short = house.folder().join("short");
        let whole = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&short, whole.rsplit_once("{\"rows\"").unwrap().0).unwrap();
        let cut = fails(&[&restore(&short, &config)[..], &["--replace"]].concat());
        assert!(cut.contains("was cut short"), "{cut}");
        serving.restart().await;
        serving.tenant("acme").view(&lease).await;
    }
}
