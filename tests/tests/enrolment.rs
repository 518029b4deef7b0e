//! A new tenant becomes known to a running lender by the code of an invitation; no server is needed.

use anyhow::{Context as _, Result, ensure};
use leaseboot_tests::folders::Folders;
use leaseboot_tests::managers::{LeaseManager, Organizer};
use leaseboot_tests::network::{LM_ADDRESS, Network};
use std::path::Path;

#[tokio::test]
async fn an_invitation_makes_one_tenant_whose_bundle_is_good_for_requests() -> Result<()> {
    let folders = Folders::find()?;
    let run = folders.scenario("enrolment")?;
    let network = Network::build().await?;
    let mut lm = LeaseManager::prepare(&network, &folders, run.path()).await?;
    lm.start().await?;

    let code = lm.invite("newcomer").await?;
    let site = &network.rival;
    let bundle = run.path().join("newcomer");
    let said = Organizer::enrol(site, &folders, &code, &bundle).await?;
    ensure!(said.contains("the lender knows us as newcomer"), "{said}");

    // A foreign client with that bundle, and then the enterprise's own program.
    let leases = ask(&network, &bundle, "GET", "/v1/leases", "").await?;
    assert_eq!(leases["leases"], serde_json::json!([]));
    let answer = ask(&network, &bundle, "POST", "/v1/search", "{\"requirements\": {}}").await?;
    assert_eq!(answer["servers"], 0);
    let mut po = Organizer::prepare_rival(&network, &folders, run.path(), &bundle).await?;
    po.start().await?;
    po.stop().await?;

    let other = run.path().join("other");
    let again = Organizer::enrol(site, &folders, &code, &other).await;
    let error = again.err().context("one code made two tenants")?;
    ensure!(format!("{error:#}").contains("it may be used"), "{error:#}");
    ensure!(
        !other.join("client.pem").exists(),
        "a certificate for a used code"
    );
    lm.stop().await
}

/// A request of curl to the lender's API; anything but success is an error.
async fn ask(
    network: &Network,
    bundle: &Path,
    method: &str,
    path: &str,
    body: &str,
) -> Result<serde_json::Value> {
    let file = |name: &str| bundle.join(name).display().to_string();
    let (ca, certificate, key) = (file("lm-ca.pem"), file("client.pem"), file("client.key"));
    let url = format!("https://{LM_ADDRESS}:8443{path}");
    let tls = ["--cacert", &ca, "--cert", &certificate, "--key", &key];
    let request = [
        "--silent",
        "--show-error",
        "--fail-with-body",
        "--request",
        method,
    ];
    let sent = ["--header", "content-type: application/json", "--data", body, &url];
    let text = network
        .rival
        .run("curl", &[&request[..], &tls[..], &sent[..]].concat())
        .await?;
    serde_json::from_str(&text).with_context(|| format!("{path} is not answered in JSON: {text}"))
}
