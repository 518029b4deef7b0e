//! Tenants: enrolment, revocation, quotas, rates, isolation, the audit log and the switch hook, over the real API and the real commands.

#![allow(clippy::unwrap_used)]

mod house;

use house::{House, Tenant, settings};
use leaseboot_lm::pki::{self, Authority};
use leaseboot_lm::store::Custody;
use leaseboot_protocol::enrolment::{EnrolRequest, Enrolled, InvitationCode};
use leaseboot_protocol::lease::LeaseState;
use leaseboot_protocol::leases::{BootOrder, LeaseList, LeaseRequest, Refusal};
use leaseboot_protocol::secret::Secret;
use leaseboot_protocol::settings::Requirements;
use reqwest::{Method, StatusCode};
use serde_json::Value;
use std::process::Command;

/// Runs a command of the lender's operator; gives what it printed, or its error.
fn operator(house: &House, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(env!("CARGO_BIN_EXE_leaseboot-lm"))
        .args(arguments)
        .arg("--config")
        .arg(house.config())
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(text(&output.stderr))
    }
}

fn invite(house: &House, name: &str) -> InvitationCode {
    operator(house, &["tenant", "invite", name])
        .unwrap()
        .parse()
        .unwrap()
}

/// A key, and its signing request, whose subject claims to be somebody else.
fn request() -> (rcgen::KeyPair, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, "acme");
    let pem = params.serialize_request(&key).unwrap().pem().unwrap();
    (key, pem)
}

fn order(code: &InvitationCode, request: String) -> EnrolRequest {
    EnrolRequest {
        invitation: code.name.clone(),
        secret: code.secret.clone(),
        request,
    }
}

fn lease_request(request_id: &str) -> LeaseRequest {
    LeaseRequest {
        request_id: request_id.to_owned(),
        requirements: Requirements::default(),
        term_s: None,
        group: None,
    }
}

async fn refused_borrow(tenant: &Tenant, request_id: &str) -> (StatusCode, Refusal) {
    tenant
        .refused(Method::POST, "/v1/leases", None, Some(&lease_request(request_id)))
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_brings_one_certificate_for_a_key_that_stays_at_home() {
    let house = House::new().await;
    let code = invite(&house, "fresh");
    let ca = pki::ca_digest(&house.folder().join("lm/ca.pem")).unwrap();
    assert!(code.is_of_ca(&ca));
    let (key, pem) = request();
    let stranger = house.client_at(9);
    let enrolled: Enrolled = stranger
        .good(Method::POST, "/v1/enrol", None, Some(&order(&code, pem.clone())))
        .await;
    // Whatever the request's subject says, the certificate is for whom the lender invited.
    assert_eq!(enrolled.tenant.as_str(), "fresh");
    let bundle = house.folder().join("fresh");
    std::fs::create_dir(&bundle).unwrap();
    std::fs::write(bundle.join("client.pem"), &enrolled.certificate).unwrap();
    std::fs::write(bundle.join("client.key"), key.serialize_pem()).unwrap();
    assert_eq!(house.tenant("fresh").borrow("one").await.tenant.as_str(), "fresh");
    let (status, _) = stranger
        .refused(Method::POST, "/v1/enrol", None, Some(&order(&code, pem)))
        .await;
    assert_eq!(status, StatusCode::UNAUTHORIZED, "a code is good once");
    assert!(
        operator(&house, &["audit"])
            .unwrap()
            .contains("tenant fresh: enrol")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_does_not_bear_guessing_and_a_bad_request_does_not_cost_it() {
    let house = House::new().await;
    let code = invite(&house, "fresh");
    let stranger = house.client_at(9);
    let ask = async |order: EnrolRequest| {
        let (status, text) = stranger.ask(Method::POST, "/v1/enrol", None, Some(&order)).await;
        assert!(!text.contains(code.secret.expose()), "{text}");
        status
    };
    let malformed = ask(order(&code, "not a request".to_owned())).await;
    assert_eq!(malformed, StatusCode::UNPROCESSABLE_ENTITY);
    for _ in 0..5 {
        let mut guess = order(&code, request().1);
        guess.secret = Secret::new("00112233445566778899aabbccddeeff");
        assert_eq!(ask(guess).await, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(ask(order(&code, request().1)).await, StatusCode::UNAUTHORIZED);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_tenant_is_refused_at_once_on_its_open_connection() {
    let house = House::new().await;
    let tenant = house.tenant("acme");
    let lease = tenant.borrow("one").await.id;
    operator(&house, &["tenant", "revoke", "acme"]).unwrap();
    let (status, refusal) = tenant
        .refused(Method::GET, &format!("/v1/leases/{lease}"), None, None::<&()>)
        .await;
    assert!(matches!(refusal, Refusal::Unauthorized { .. }));
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    house.tenant("other").borrow("one").await;
    assert!(operator(&house, &["tenant", "list"]).unwrap().contains("revoked"));
    // Whoever is invited again comes with a new certificate; the old one stays refused.
    let (_, pem) = request();
    let again = order(&invite(&house, "acme"), pem);
    let _: Enrolled = house
        .client_at(9)
        .good(Method::POST, "/v1/enrol", None, Some(&again))
        .await;
    assert_eq!(refused_borrow(&tenant, "two").await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_not_on_record_is_refused_although_the_ca_made_it() {
    let house = House::new().await;
    let lm = house.folder().join("lm");
    let authority = Authority::load(&lm.join("ca.pem"), &lm.join("ca.key")).unwrap();
    let issued = authority.tenant(&"acme".parse().unwrap()).unwrap();
    let bundle = house.folder().join("copied");
    std::fs::create_dir(&bundle).unwrap();
    std::fs::write(bundle.join("client.pem"), &issued.certificate).unwrap();
    std::fs::write(bundle.join("client.key"), issued.key.as_bytes()).unwrap();
    assert_eq!(
        refused_borrow(&house.tenant("copied"), "one").await.0,
        StatusCode::UNAUTHORIZED
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn quotas_and_labels_bound_what_a_tenant_gets() {
    let house = House::with(3, "").await;
    let set = |arguments: &[&str]| {
        let command = [&["tenant", "set", "acme"], arguments].concat();
        operator(&house, &command).unwrap()
    };
    let tenant = house.tenant("acme");
    set(&["--servers", "1"]);
    tenant.borrow("one").await;
    let (status, refusal) = refused_borrow(&tenant, "two").await;
    assert!(
        matches!(&refusal, Refusal::Quota { message } if message.contains("1 servers")),
        "{refusal}"
    );
    assert_eq!(status, StatusCode::FORBIDDEN);
    // The same request as before is no new one.
    tenant.borrow("one").await;
    // Each server has two cores.
    set(&["--servers", "none", "--cores", "3"]);
    assert!(matches!(
        refused_borrow(&tenant, "two").await.1,
        Refusal::Quota { .. }
    ));
    set(&["--cores", "4"]);
    tenant.borrow("two").await;
    set(&["--cores", "none", "--labels", "rack = nowhere"]);
    assert!(matches!(
        refused_borrow(&tenant, "three").await.1,
        Refusal::NothingFits { .. }
    ));
    set(&["--labels", "none"]);
    tenant.borrow("three").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_must_be_sealed_where_the_tenants_terms_say_so() {
    let house = House::new().await;
    let tenant = house.tenant("acme");
    let lease = tenant.borrow("one").await.id;
    let mut open = settings();
    open.kickstart = open.kickstart.replace("@sealed:root_password@", "$6$salt$hash");
    open.sealed.clear();
    operator(&house, &["tenant", "set", "acme", "--sealed-secrets", "true"]).unwrap();
    let path = format!("/v1/leases/{lease}/settings");
    let (status, refusal) = tenant.refused(Method::PUT, &path, None, Some(&open)).await;
    assert!(matches!(refusal, Refusal::Merge { .. }), "{refusal}");
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    tenant.prepare(&lease).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_too_often_is_told_when_to_come_again() {
    let house = House::new().await;
    operator(&house, &["tenant", "set", "acme", "--rate", "1", "--burst", "2"]).unwrap();
    let (tenant, other) = (house.tenant("acme"), house.tenant("other"));
    for _ in 0..2 {
        let _: LeaseList = tenant.get("/v1/leases").await;
    }
    let answer = tenant
        .client
        .get(format!("{}/v1/leases", tenant.base))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
    let wait: u64 = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    let _: LeaseList = other.get("/v1/leases").await;
}

/// What an answer says when the lease's name and the request's number are taken out.
fn plain(answer: (StatusCode, String), lease: &str) -> (StatusCode, String) {
    let (status, text) = answer;
    let mut body: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    body.as_object_mut().unwrap().remove("instance");
    (status, body.to_string().replace(lease, "LEASE"))
}

#[tokio::test(flavor = "multi_thread")]
async fn another_tenants_lease_is_as_one_that_does_not_exist_on_every_route() {
    let house = House::new().await;
    let theirs = house.tenant("acme").borrow("one").await;
    let prepared = house.tenant("acme").prepare(&theirs.id).await;
    let nobodys = "l-00000000";
    let other = house.tenant("other");
    let description = serde_json::to_value(leaseboot_lm::api::openapi()).unwrap();
    let mut asked = 0;
    for (path, operations) in description["paths"].as_object().unwrap() {
        if !path.starts_with("/v1/leases/{id}") {
            continue;
        }
        for method in operations.as_object().unwrap().keys() {
            let Ok(method) = Method::from_bytes(method.to_uppercase().as_bytes()) else {
                continue;
            };
            let body = match path.rsplit('/').next().unwrap() {
                "settings" => serde_json::to_value(settings()).unwrap(),
                "boot" => serde_json::to_value(BootOrder {
                    kickstart_sha256: prepared.kickstart_sha256,
                })
                .unwrap(),
                "renew" => serde_json::json!({ "term_s": 3600 }),
                _ => Value::Null,
            };
            let ask = async |lease: &str| {
                let path = path.replace("{id}", lease);
                assert!(
                    !path.contains('{'),
                    "{path} has another parameter: teach this test about it"
                );
                plain(other.ask(method.clone(), &path, None, Some(&body)).await, lease)
            };
            let (foreign, missing) = (ask(theirs.id.as_str()).await, ask(nobodys).await);
            assert_eq!(foreign, missing, "{method} {path}");
            assert!(foreign.0.is_client_error(), "{method} {path}: {foreign:?}");
            asked += 1;
        }
    }
    assert!(asked >= 7, "only {asked} routes were found");
    let list: LeaseList = other.get("/v1/leases").await;
    assert!(list.leases.is_empty());
    // The same name of a request means another request.
    assert_ne!(other.borrow("one").await.id, theirs.id);
    let untouched = house.tenant("acme").view(&theirs.id).await;
    assert_eq!(untouched.state, LeaseState::Prepared);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_log_tells_who_did_what_and_shows_where_it_was_changed() {
    let house = House::new().await;
    let tenant = house.tenant("acme");
    let lease = tenant.boot("one").await;
    house
        .wait_until("the boot", async || house.power().contains(&"on 1".to_owned()))
        .await;
    tenant.release(&lease).await;
    house.wait_for_state(&lease, LeaseState::Returning).await;
    operator(&house, &["servers", "maintenance", "s2", "on"]).unwrap();
    let log = operator(&house, &["audit"]).unwrap();
    for deed in [
        "maintenance on, server s2".to_owned(),
        "add a tenant (acme".to_owned(),
        format!("tenant acme: borrow, lease {lease}, server s1"),
        format!("tenant acme: send settings, lease {lease}"),
        format!("tenant acme: order the boot, lease {lease}"),
        format!("lease manager: order power network boot, lease {lease}, server s1"),
        format!("tenant acme: give back, lease {lease}"),
    ] {
        assert!(log.contains(&deed), "{deed:?} is not in:\n{log}");
    }
    assert!(operator(&house, &["audit", "verify"]).unwrap().contains("whole"));
    let first = operator(&house, &["audit", "--json"]).unwrap();
    let first: Value = serde_json::from_str(first.lines().next().unwrap()).unwrap();
    assert_eq!(first["sequence"], 1);
    for (tamper, found) in [
        (
            "UPDATE audit SET actor = 'tenant other' WHERE sequence = 3",
            "entry 3",
        ),
        ("DELETE FROM audit WHERE sequence = 2", "entry 2"),
    ] {
        sql(&house, tamper);
        let error = operator(&house, &["audit", "verify"]).unwrap_err();
        assert!(error.contains(found), "{tamper}: {error}");
    }
}

fn sql(house: &House, statement: &str) {
    let status = Command::new("sqlite3")
        .args(["-cmd", ".timeout 10000"])
        .arg(house.folder().join("lm/lm.sqlite"))
        .arg(statement)
        .status()
        .expect("sqlite3 is needed");
    assert!(status.success());
}

/// One server at port `p7`, and a program that writes its environment down and then ends as `outcome` does.
async fn house_with_switch(outcome: &str) -> House {
    let server = House::server(1, "true").replace("console =", "labels = { port = \"p7\" }\nconsole =");
    let words = "$LEASEBOOT_ACTION $LEASEBOOT_TENANT $LEASEBOOT_LEASE $LEASEBOOT_SERVER $LEASEBOOT_MAC $LEASEBOOT_PORT";
    let place = tempfile::NamedTempFile::new()
        .unwrap()
        .into_temp_path()
        .keep()
        .unwrap();
    let script = format!("echo {words} >> $0; {outcome}");
    let switch = format!(
        "attempts = 1\n[switch]\ncommand = [\"/bin/sh\", \"-c\", {script:?}, {:?}]\n",
        place.display().to_string()
    );
    let house = House::build(&server, &switch).await;
    std::fs::write(house.folder().join("switch"), place.display().to_string()).unwrap();
    house
}

fn switched(house: &House) -> Vec<String> {
    let place = std::fs::read_to_string(house.folder().join("switch")).unwrap();
    let log = std::fs::read_to_string(place).unwrap_or_default();
    log.lines().map(str::to_owned).collect()
}

/// The server reports itself first, so that it can be lent.
async fn take_inventory(house: &House) {
    house
        .wait_until("the inventory boot", async || house.power() == ["off 1", "on 1"])
        .await;
    let agent = house.agent(1).await;
    agent
        .reports(
            house,
            vec![house::finished(leaseboot_protocol::lease::Step::Hello)],
        )
        .await;
    assert!(switched(house).is_empty(), "an inventory is nobody's");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_port_is_attached_before_the_power_goes_on_and_detached_after_it_went_off() {
    let house = house_with_switch("true").await;
    take_inventory(&house).await;
    let tenant = house.tenant("acme");
    let lease = tenant.boot("one").await;
    let words = |action: &str| format!("{action} acme {lease} s1 52:54:00:00:00:01 p7");
    house
        .wait_until("the boot", async || house.power().len() == 4)
        .await;
    assert_eq!(switched(&house), [words("attach")]);
    // The agent that erases the disks still works for the lease; then the server is switched off and belongs to nobody.
    tenant.release(&lease).await;
    house
        .wait_until("the boot into wipe mode", async || house.power().len() == 6)
        .await;
    house.agent(1).await.erasure(&house, &house::erasure(true)).await;
    house.wait_for_state(&lease, LeaseState::Ended).await;
    assert_eq!(
        switched(&house),
        [words("attach"), words("attach"), words("detach")]
    );
    assert_eq!(house.power().last().map(String::as_str), Some("off 1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_cannot_be_attached_keeps_the_server_from_being_booted() {
    let house = house_with_switch("exit 1").await;
    take_inventory(&house).await;
    house.tenant("acme").boot("one").await;
    house
        .wait_until("the failed attach", async || !switched(&house).is_empty())
        .await;
    let quarantined = async || house.record("s1").await.custody == Custody::Quarantined;
    house.wait_until("the quarantine", quarantined).await;
    let reason = house.record("s1").await.reason;
    assert!(reason.contains("port"), "{reason}");
    let ons = house
        .power()
        .iter()
        .filter(|order| order.starts_with("on"))
        .count();
    assert_eq!(ons, 1, "only the inventory's: {:?}", house.power());
}
