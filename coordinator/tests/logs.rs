//! A whole life of a lease in the log: each line that concerns it names lease and server, and none has a secret.

// A test that cannot go on says so by panicking, its helpers too.
#![allow(clippy::unwrap_used)]

mod house;

use house::{House, erasure, finished, mac};
use leaseboot_lm::logs::{LogFormat, subscriber};
use leaseboot_protocol::agent::{Directive, Welcome};
use leaseboot_protocol::lease::{LeaseState, Step};
use reqwest::Method;
use serde_json::Value;
use std::io;
use std::sync::{Arc, Mutex};
use tracing_subscriber::EnvFilter;

/// What was written so far.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Written {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// A member of the line itself or of a span around it.
fn member<'a>(line: &'a Value, name: &str) -> Option<&'a str> {
    let spans = line["spans"].as_array().into_iter().flatten();
    std::iter::once(line)
        .chain(spans)
        .find_map(|object| object[name].as_str())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_life_is_told_with_lease_and_server_and_without_secrets() {
    let written = Written::default();
    let (writer, everything) = (written.clone(), EnvFilter::new("leaseboot_lm=trace"));
    let made = subscriber(LogFormat::Json, everything, false, move || writer.clone());
    tracing::subscriber::set_global_default(made).unwrap();

    let house = House::new().await;
    let tenant = house.tenant("acme");
    let lease = tenant.boot("one").await;
    house
        .wait_until("power", async || house.power() == ["off 1", "on 1"])
        .await;
    let facts = house.boot(1).await.unwrap();
    let hello = house::hello(1);
    let boot_token = facts.boot_token.expose().to_owned();
    let client = house.client_at(1);
    let welcome: Welcome = client
        .good(Method::POST, "/v1/agent/hello", Some(&boot_token), Some(&hello))
        .await;
    let again = client
        .refused(Method::POST, "/v1/agent/hello", Some(&boot_token), Some(&hello))
        .await;
    assert_eq!(again.0, 401);
    let installer = house::Agent {
        number: 1,
        token: welcome.session_token.expose().to_owned(),
        task: welcome.task,
        name: welcome.server.to_string(),
    };
    installer.key(&house).await;
    for step in [Step::Tunnel, Step::Initrd, Step::Wrapper] {
        installer.reports(&house, vec![finished(step)]).await;
    }
    installer
        .reports(&house, vec![house::failed(Step::Kexec, "no")])
        .await;
    tenant.release(&lease).await;
    // The wipe boot: the server is switched off and on again, and its agent's word ends the lease.
    house
        .wait_until("the wipe boot", async || {
            house.power().ends_with(&["off 1".to_owned(), "on 1".to_owned()])
                && tenant.view(&lease).await.state == LeaseState::Returning
        })
        .await;
    let agent = house.agent(1).await;
    assert_eq!(agent.erasure(&house, &erasure(true)).await, Directive::PowerOff);
    house.wait_for_state(&lease, LeaseState::Ended).await;

    let text = written.text();
    for secret in [
        boot_token.as_str(),
        installer.token.as_str(),
        agent.token.as_str(),
        "BEGIN PRIVATE KEY",
        "rootpw",
    ] {
        assert!(!text.contains(secret), "the log has {secret:?}");
    }
    let card = mac(1).to_string();
    let mut concerned = 0;
    for line in text.lines() {
        let object: Value = serde_json::from_str(line).unwrap();
        if line.contains(lease.as_str()) {
            assert_eq!(member(&object, "lease"), Some(lease.as_str()), "{line}");
            assert_eq!(member(&object, "server"), Some("s1"), "{line}");
            concerned += 1;
        } else if line.contains(&card) {
            assert_eq!(member(&object, "server"), Some("s1"), "{line}");
        }
    }
    assert!(
        concerned > 10,
        "only {concerned} lines concern the lease:\n{text}"
    );
}
