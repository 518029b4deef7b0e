//! The lender's servers while the Lease Manager runs: strangers approved, tables imported, labels and maintenance changed by the real command
//! line beside it, and servers that are not what they were.

#![allow(clippy::unwrap_used)]

mod house;

use house::{House, hello, mac, run, text};
use leaseboot_lm::store::Custody;
use leaseboot_protocol::agent::{Hello, Task, Welcome};
use leaseboot_protocol::hardware::HardwareReport;
use leaseboot_protocol::lease::{LeaseState, LeaseView};
use leaseboot_protocol::leases::{LeaseList, LeaseRequest, Refusal, SearchAnswer, SearchRequest};
use leaseboot_protocol::requirements::{Group, Requirements, Take};
use leaseboot_protocol::settings::InstallSettings;
use reqwest::{Method, StatusCode};
use std::process::Command;

const POWER: &str = "{ kind = \"command\", on = [\"true\"], off = [\"true\"] }";

/// Runs `leaseboot-lm servers` beside the running one.
fn servers(house: &House, arguments: &[&str]) -> String {
    let config = house.config();
    let (command, rest) = arguments.split_first().expect("a subcommand");
    let mut words = vec!["servers", command, "--config", text(&config)];
    words.extend(rest);
    run(&words)
}

fn where_is(expression: &str) -> LeaseRequest {
    LeaseRequest {
        request_id: expression.to_owned(),
        requirements: Requirements {
            matching: Some(expression.parse().unwrap()),
            ..Requirements::default()
        },
        group: None,
        term_s: None,
    }
}

async fn borrowed(house: &House, expression: &str) -> String {
    let tenant = house.tenant("acme");
    let request = where_is(expression);
    let view: LeaseView = tenant
        .good(Method::POST, "/v1/leases", None, Some(&request))
        .await;
    view.server.to_string()
}

async fn nothing_fits(house: &House, expression: &str) -> bool {
    let tenant = house.tenant("acme");
    let request = where_is(expression);
    let (status, refusal) = tenant
        .refused(Method::POST, "/v1/leases", None, Some(&request))
        .await;
    status == StatusCode::CONFLICT && matches!(refusal, Refusal::NothingFits { .. })
}

/// A boot whose agent finds the server changed.
async fn boot_changed(house: &House, number: u8, change: impl FnOnce(&mut HardwareReport)) -> Welcome {
    let facts = house.boot(number).await.expect("the agent is booted");
    let mut hello: Hello = hello(number);
    change(&mut hello.hardware);
    let client = house.client_at(number);
    client
        .good(
            Method::POST,
            "/v1/agent/hello",
            Some(facts.boot_token.expose()),
            Some(&hello),
        )
        .await
}

#[tokio::test]
async fn a_stranger_becomes_a_server_beside_the_running_lease_manager() {
    let house = House::with(1, "").await;
    assert_eq!(house.agent(9).await.task, Task::PowerOff);
    assert!(servers(&house, &["list"]).contains(&mac(9).to_string()));
    let card = mac(9).to_string();
    let said = servers(
        &house,
        &[
            "approve",
            &card,
            "--name",
            "s9",
            "--address",
            "127.0.1.9",
            "--power",
            POWER,
            "--label",
            "rack=a9",
            "--wiped",
        ],
    );
    assert_eq!(said, "s9 has the address 127.0.1.9\n");
    let listed: serde_json::Value = serde_json::from_str(&servers(&house, &["list", "--json"])).unwrap();
    assert_eq!(listed["strangers"], serde_json::json!([]));
    assert_eq!(borrowed(&house, "rack = a9").await, "s9");
    // What it reported as a stranger is its hardware, and its card is known.
    let shown = servers(&house, &["show", "s9"]);
    assert!(
        shown.contains("2 cores") && shown.contains("approved, with the card"),
        "{shown}"
    );
}

#[tokio::test]
async fn a_table_is_imported_and_its_servers_are_booted_for_their_hardware() {
    let house = House::with(1, "").await;
    let table = house.folder().join("rack.csv");
    std::fs::write(
        &table,
        format!(
            "name,mac,address,labels.rack,power.kind,power.on,power.off\ns7,{},127.0.1.7,b7,command,[\"true\"],[\"true\"]\n",
            mac(7)
        ),
    )
    .unwrap();
    assert_eq!(
        servers(&house, &["import", text(&table)]),
        "1 servers are declared, 1 of them new\n"
    );
    let ordered = async || house.record("s7").await.inventory_boots > 0;
    house
        .wait_until("the boot for the hardware report of s7", ordered)
        .await;
    house.agent(7).await;
    assert_eq!(borrowed(&house, "rack in (b7)").await, "s7");
    merged_without_a_lease(&house);
    assert_eq!(
        servers(&house, &["import", text(&table)]),
        "1 servers are declared, 0 of them new\n"
    );
}

/// The server is in no file of the Lease Manager's, only in its store.
fn merged_without_a_lease(house: &House) {
    let (file, config) = (house.folder().join("settings.json"), house.config());
    let ask = |settings: &InstallSettings, server| {
        std::fs::write(&file, serde_json::to_string(settings).unwrap()).unwrap();
        let arguments = [
            "merge",
            "--settings",
            text(&file),
            "--server",
            server,
            "--json",
            "--config",
        ];
        let output = Command::new(env!("CARGO_BIN_EXE_leaseboot-lm"))
            .args(arguments)
            .arg(&config)
            .output()
            .unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
            errors,
        )
    };
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    let mut settings = house::settings();
    let (code, out, errors) = ask(&settings, "s7");
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    assert_eq!(json(&out)["merged"]["disk"], "virtio-DISK7");
    settings.kickstart.push_str("zerombr\n");
    let (code, out, errors) = ask(&settings, "s7");
    assert_eq!(
        (code, &json(&out)["problems"][0]["lender"]["text"]),
        (Some(1), &"zerombr".into())
    );
    assert!(errors.contains("cannot work on this server"), "{errors}");
    let (code, out, errors) = ask(&settings, "s8");
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(errors.contains("there is no server s8"), "{errors}");
}

#[tokio::test]
async fn a_card_has_one_server() {
    let house = House::with(1, "").await;
    let table = house.folder().join("rack.csv");
    let row = format!(
        "name,mac,address,power.kind,power.on,power.off\ns7,{},127.0.1.7,command,[\"true\"],[\"true\"]\n",
        mac(1)
    );
    std::fs::write(&table, row).unwrap();
    let config = house.config();
    let output = Command::new(env!("CARGO_BIN_EXE_leaseboot-lm"))
        .args(["servers", "import", text(&table), "--config", text(&config)])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{said}");
    let words = format!("the card {} of s7 belongs to the server s1 already", mac(1));
    assert!(said.contains(&words), "{said}");
}

#[tokio::test]
async fn labels_maintenance_and_retirement_are_followed() {
    let house = House::with(2, "").await;
    assert_eq!(
        servers(&house, &["label", "s2", "rack=c1", "owner=x"]),
        "s2: owner=x rack=c1\n"
    );
    assert_eq!(servers(&house, &["label", "s2", "-owner"]), "s2: rack=c1\n");
    servers(
        &house,
        &["maintenance", "s2", "on", "--reason", "its fan is loud"],
    );
    assert!(nothing_fits(&house, "rack = c1").await);
    assert!(servers(&house, &["list"]).contains("its fan is loud"));
    servers(&house, &["maintenance", "s2", "off"]);
    servers(&house, &["retire", "s2"]);
    assert!(nothing_fits(&house, "rack = c1").await);
    servers(&house, &["retire", "s2", "--undo"]);
    assert!(nothing_fits(&house, "owner").await);
    assert_eq!(borrowed(&house, "rack = c1").await, "s2");
}

#[tokio::test]
async fn a_free_server_that_is_not_what_it_was_is_quarantined_until_that_is_accepted() {
    let house = House::with(1, "[inventory]\nkinds = { disk = \"quarantine\" }\n").await;
    // Another amount of memory is noted only.
    boot_changed(&house, 1, |found| found.memory_bytes = 1 << 30).await;
    assert_eq!(house.record("s1").await.custody, Custody::Free);
    let swapped = |found: &mut HardwareReport| found.disks[0].by_id = "virtio-OTHER".to_owned();
    boot_changed(&house, 1, swapped).await;
    let record = house.record("s1").await;
    let words = "the disk virtio-DISK1 of 8 GiB was swapped for the disk virtio-OTHER of 8 GiB";
    assert_eq!(
        (record.custody, record.reason),
        (Custody::Quarantined, format!("not what it was: {words}"))
    );
    assert!(nothing_fits(&house, "!x").await);
    assert!(servers(&house, &["show", "s1"]).contains(words));
    servers(&house, &["accept", "s1"]);
    assert_eq!(house.record("s1").await.custody, Custody::Free);
    boot_changed(&house, 1, swapped).await;
    assert_eq!(house.record("s1").await.custody, Custody::Free);
    assert!(servers(&house, &["show", "s1"]).contains("the differences were accepted"));
}

#[tokio::test]
async fn a_lease_leaves_a_server_that_is_not_what_it_was() {
    let house = House::with(1, "[inventory]\non_change = \"quarantine\"\n").await;
    let lease = house.tenant("acme").boot("one").await;
    let welcome = boot_changed(&house, 1, |found| found.nics[0].mac = mac(77)).await;
    assert_eq!(welcome.task, Task::PowerOff);
    let gone = async || house.record("s1").await.custody == Custody::Quarantined;
    house.wait_until("the quarantine of s1", gone).await;
    let reason = house.record("s1").await.reason;
    assert!(
        reason.contains("the Ethernet card 52:54:00:00:00:4d is new"),
        "{reason}"
    );
    let state = house
        .driver
        .store()
        .lease(&lease)
        .await
        .unwrap()
        .unwrap()
        .lease
        .phase
        .state();
    assert_ne!(state, LeaseState::Stage1);
}

fn group(request_id: &str, count: u32, spread: Option<&str>) -> LeaseRequest {
    LeaseRequest {
        request_id: request_id.to_owned(),
        group: Some(Group {
            count: count.try_into().unwrap(),
            take: Take::AllOrNothing,
            spread: spread.map(str::to_owned),
            together: None,
        }),
        ..where_is("!x")
    }
}

#[tokio::test]
async fn several_servers_are_taken_at_once_or_none() {
    let house = House::with(3, "").await;
    for (name, rack) in [("s1", "rack=a"), ("s2", "rack=a"), ("s3", "rack=b")] {
        servers(&house, &["label", name, rack]);
    }
    let tenant = house.tenant("acme");
    let three = group("three", 3, Some("rack"));
    let question = SearchRequest {
        requirements: three.requirements.clone(),
        group: three.group.clone(),
    };
    let answer: SearchAnswer = tenant
        .good(Method::POST, "/v1/search", None, Some(&question))
        .await;
    assert_eq!((answer.servers, answer.free, answer.fitting), (0, 3, 3));
    assert_eq!(answer.offers[0].servers, 3);
    let (status, refusal) = tenant
        .refused(Method::POST, "/v1/leases", None, Some(&three))
        .await;
    assert_eq!(status, StatusCode::CONFLICT);
    let Refusal::NothingFits { shortfall, .. } = refusal else {
        panic!("{refusal:?}")
    };
    assert_eq!(
        shortfall.as_deref(),
        Some("3 servers are asked for, each with a value of its own of the label rack: 2 can be had at most")
    );
    let two = group("two", 2, Some("rack"));
    let taken: LeaseList = tenant.good(Method::POST, "/v1/leases", None, Some(&two)).await;
    let names: Vec<_> = taken.leases.iter().map(|lease| lease.server.as_str()).collect();
    assert_eq!(names, ["s1", "s3"]);
    let again: LeaseList = tenant.good(Method::POST, "/v1/leases", None, Some(&two)).await;
    assert_eq!(again, taken);
    assert_eq!(house.record("s2").await.custody, Custody::Free);
}
