//! From an event to borrowed servers and back, against a scripted lender; the events come by the CLI, from a real Alertmanager, and over HTTP.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use leaseboot_console::socket;
use leaseboot_po::config::PoConfig;
use leaseboot_po::control::server;
use leaseboot_po::events::listener::{self, Admission};
use leaseboot_po::gateway;
use leaseboot_po::policy::desk::Desk;
use leaseboot_po::policy::{control, driver};
use leaseboot_protocol::secret::Secret;
use serde_json::Value;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use support::{Enterprise, PATIENCE, Running};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const POLICY: &str = r#"
[[policy]]
name = "shop"
event = "Load"
labels = { service = "shop" }
profile = "web"
servers = 2
for = "1s"
quiet = "1s"
cooldown = "1s"
"#;

/// A PO that acts by policies, with its control socket and a listener for events.
struct Acting {
    po: Running,
    desk: Arc<Desk>,
    config: PathBuf,
    events: SocketAddr,
    tasks: JoinSet<()>,
    stop: CancellationToken,
}

async fn acting(enterprise: &Enterprise, token: Option<&str>) -> Acting {
    let path = enterprise.folder.path().join("po.toml");
    fs::write(&path, support::PO_TOML).unwrap();
    let config = PoConfig::load(&path).unwrap();
    let po = enterprise.serve().await;
    let desk = po.organizer.desk(&config);
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    tasks.spawn(driver::run(
        Arc::clone(&desk),
        Arc::clone(&po.organizer),
        stop.clone(),
    ));
    let socket = socket::bind(config.control_socket()).await.unwrap();
    let served = server::run_with(
        socket,
        Arc::clone(&po.organizer),
        control::router(Arc::clone(&desk)),
        stop.clone(),
    );
    tasks.spawn(async move { served.await.unwrap() });
    let door = listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let events = door.local_addr().unwrap();
    let admission = Admission {
        token: token.map(Secret::new),
        tunnel: config.gateway.tunnel,
    };
    tasks.spawn(gateway::listener::run(
        door,
        listener::router(Arc::clone(&desk), admission),
        stop.clone(),
    ));
    Acting {
        po,
        desk,
        config: path,
        events,
        tasks,
        stop,
    }
}

impl Acting {
    /// Runs the program as a person would; gives what it printed.
    async fn cli(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_leaseboot-po"));
        command.args(arguments).arg("--config").arg(&self.config);
        let output = command.output().await.unwrap();
        let said = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{arguments:?}: {said}");
        said
    }

    /// Waits until what `explain` tells of the policy is as it should be.
    async fn explains(&self, as_it_should: impl Fn(&str) -> bool) -> String {
        let mut last = String::new();
        let told = async {
            loop {
                last = self.desk.explain(None).await.unwrap().text();
                if as_it_should(&last) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, told).await;
        assert!(
            waited.is_ok(),
            "explain never said what was awaited, but:\n{last}"
        );
        last
    }

    async fn names(&self) -> Vec<(String, bool)> {
        let views = self.po.organizer.list().await.unwrap();
        views
            .into_iter()
            .map(|view| (view.hostname.to_string(), view.over))
            .collect()
    }

    async fn stop(mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
        drop(self.desk);
        self.po.stop().await;
    }
}

fn policies(enterprise: &Enterprise, text: &str) {
    fs::write(enterprise.folder.path().join("policies.toml"), text).unwrap();
}

fn has_two(text: &str) -> bool {
    text.matches("on its way").count() == 2
}

#[tokio::test]
async fn an_event_borrows_what_its_policy_says_and_its_end_gives_it_back() {
    let enterprise = Enterprise::new().await;
    policies(&enterprise, POLICY);
    let po = acting(&enterprise, None).await;
    po.cli(&["event", "raise", "Load", "--label", "service=mail"])
        .await;
    po.cli(&["event", "raise", "Load", "--label", "service=shop"])
        .await;
    po.explains(has_two).await;
    enterprise
        .lender
        .ordered_so(|orders| orders.iter().filter(|order| order.starts_with("boot ")).count() == 2)
        .await;
    let told = po.cli(&["explain", "shop"]).await;
    assert!(
        told.contains("decided  borrow 2 servers") && told.contains("Load{service=\"shop\"} stands since"),
        "{told}"
    );
    assert!(!told.contains("mail"), "{told}");
    let json: Value = serde_json::from_str(&po.cli(&["explain", "--json"]).await).unwrap();
    assert_eq!(json["policies"][0]["has"].as_array().unwrap().len(), 2, "{json}");

    po.cli(&["event", "resolve", "Load", "--label", "service=shop"])
        .await;
    enterprise.lender.ordered("delete l-1").await;
    enterprise.lender.ordered("delete l-2").await;
    let told = po
        .explains(|text| text.contains("decided  give 2 servers back"))
        .await;
    assert!(told.contains("nothing stands for"), "{told}");
    po.stop().await;
}

#[tokio::test]
async fn a_restart_borrows_nothing_twice() {
    let enterprise = Enterprise::new().await;
    policies(&enterprise, &POLICY.replace("quiet = \"1s\"", "quiet = \"1h\""));
    let po = acting(&enterprise, None).await;
    po.cli(&["event", "raise", "Load", "--label", "service=shop"])
        .await;
    po.explains(has_two).await;
    po.stop().await;
    let po = acting(&enterprise, None).await;
    po.cli(&["event", "raise", "Load", "--label", "service=shop"])
        .await;
    let told = po.explains(|text| text.contains("it has its 2 servers")).await;
    assert_eq!(told.matches("decided").count(), 1, "{told}");
    assert_eq!(
        po.names().await,
        [("web-1".to_owned(), false), ("web-2".to_owned(), false)]
    );
    po.stop().await;
}

#[tokio::test]
async fn a_broken_file_is_told_of_and_the_last_good_one_stays_in_force() {
    let enterprise = Enterprise::new().await;
    policies(&enterprise, POLICY);
    let po = acting(&enterprise, None).await;
    policies(&enterprise, &POLICY.replace("servers", "serverz"));
    let told = po.explains(|text| text.contains("not in force")).await;
    assert!(
        told.contains("policies.toml:7: unknown field `serverz`"),
        "{told}"
    );
    assert!(
        told.contains("shop: Load{service=\"shop\"} for 1 s: borrow 2 by profile web"),
        "{told}"
    );
    policies(&enterprise, "");
    po.explains(|text| text.starts_with("there are no policies"))
        .await;
    po.stop().await;
}

#[tokio::test]
async fn a_server_goes_when_it_is_drained_and_stays_when_it_is_needed_again() {
    let enterprise = Enterprise::new().await;
    let folder = enterprise.folder.path();
    let script = format!(
        "cd {}; echo $* >> asked; test $1 = resume || test -e empty || {{ echo still busy >&2; exit 1; }}",
        folder.display()
    );
    let drain = format!("[policy.drain]\ncommand = [\"/bin/sh\", \"-c\", {script:?}, \"drain\"]\n");
    policies(
        &enterprise,
        &(POLICY.replace("servers = 2", "servers = 1") + &drain),
    );
    let po = acting(&enterprise, None).await;
    let raise = ["event", "raise", "Load", "--label", "service=shop"];
    let resolve = ["event", "resolve", "Load", "--label", "service=shop"];
    po.cli(&raise).await;
    support::flow::serve_lease(&enterprise, &po.po, "127.0.0.10", 1).await;
    po.explains(|text| text.contains("in service")).await;

    po.cli(&resolve).await;
    po.explains(|text| text.contains("draining, attempt 1 failed") && text.contains("still busy"))
        .await;
    assert!(
        !enterprise
            .lender
            .orders()
            .iter()
            .any(|order| order == "delete l-1")
    );
    po.cli(&raise).await;
    let told = po.explains(|text| text.contains("decided  keep 1 server")).await;
    assert!(told.contains("stands again"), "{told}");
    let asked = folder.join("asked");
    support::until_file(&asked, |text| {
        text == "drain web-1 127.0.0.10\nresume web-1 127.0.0.10\n"
    })
    .await;
    po.explains(|text| text.contains("in service")).await;

    fs::write(folder.join("empty"), "").unwrap();
    po.cli(&resolve).await;
    enterprise.lender.ordered("delete l-1").await;
    let asked = fs::read_to_string(asked).unwrap();
    assert!(
        asked.ends_with("resume web-1 127.0.0.10\ndrain web-1 127.0.0.10\n"),
        "{asked}"
    );
    po.stop().await;
}

/// A request to the listener; gives the status.
async fn post(address: SocketAddr, path: &str, headers: &[(&str, &str)], body: &str) -> u16 {
    let client = reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([])
        .build()
        .unwrap();
    let mut request = client
        .post(format!("http://{address}{path}"))
        .body(body.to_owned());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send().await.unwrap().status().as_u16()
}

const CLOUDEVENT: &str = r#"{"specversion":"1.0","id":"1","source":"/shop","type":"Load","data":{"status":"firing","labels":{"service":"shop"}}}"#;
const STRUCTURED: (&str, &str) = ("content-type", "application/cloudevents+json");

#[tokio::test]
async fn who_does_not_know_the_token_or_is_led_here_is_not_heard() {
    let enterprise = Enterprise::new().await;
    let po = acting(&enterprise, Some("a-token-of-the-test")).await;
    let say = |headers: Vec<(&'static str, &'static str)>| async move {
        post(po.events, "/v1/events", &headers, CLOUDEVENT).await
    };
    assert_eq!(say(vec![STRUCTURED]).await, 401);
    assert_eq!(
        say(vec![STRUCTURED, ("authorization", "Bearer a-token-of-the-tesT")]).await,
        401
    );
    assert_eq!(po.desk.explain(None).await.unwrap().policies, []);
    assert_eq!(
        say(vec![STRUCTURED, ("authorization", "Bearer a-token-of-the-test")]).await,
        202
    );
    let listed = po.cli(&["event", "list"]).await;
    assert!(listed.contains("stands  Load{service=\"shop\"}"), "{listed}");
    po.stop().await;

    let po = acting(&enterprise, None).await;
    assert_eq!(
        post(po.events, "/v1/events", &[STRUCTURED], CLOUDEVENT).await,
        202
    );
    let led = [STRUCTURED, ("host", "rebound.example")];
    assert_eq!(
        post(po.events, "/v1/events", &led, CLOUDEVENT).await,
        403,
        "a name that somebody pointed here"
    );
    let page = [("content-type", "text/plain")];
    assert_eq!(
        post(po.events, "/v1/events", &page, CLOUDEVENT).await,
        400,
        "what a web page may send unasked"
    );
    assert_eq!(
        post(po.events, "/v1/alertmanager", &page, "{\"alerts\":[]}").await,
        415
    );
    po.stop().await;
}

/// Debian's Alertmanager on the loopback interface.
struct Alertmanager {
    address: SocketAddr,
    client: reqwest::Client,
    _child: Child,
}

impl Alertmanager {
    /// One that sends everything to `receiver` at once.
    async fn start(enterprise: &Enterprise, receiver: SocketAddr, token: &str) -> Self {
        let folder = enterprise.folder.path().join("alertmanager");
        fs::create_dir_all(&folder).unwrap();
        let config = folder.join("alertmanager.yml");
        let text = format!(
            "route: {{ receiver: leaseboot, group_by: ['...'], group_wait: 0s, group_interval: 1s, repeat_interval: 4h }}\n\
             receivers:\n- name: leaseboot\n  webhook_configs:\n  - url: http://{receiver}/v1/alertmanager\n    send_resolved: true\n    \
             http_config: {{ authorization: {{ credentials: {token} }} }}\n"
        );
        fs::write(&config, text).unwrap();
        let address = support::lender::nobody().await;
        let child = Command::new("prometheus-alertmanager")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.path={}", folder.display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--cluster.listen-address=")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.join("log")).unwrap())
            .kill_on_drop(true)
            .spawn();
        let child = child.unwrap_or_else(|error| {
            panic!("cannot run prometheus-alertmanager: {error}: apt-get install prometheus-alertmanager")
        });
        let client = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([])
            .build()
            .unwrap();
        let ready = async {
            let url = format!("http://{address}/-/ready");
            while !client
                .get(&url)
                .send()
                .await
                .is_ok_and(|answer| answer.status().is_success())
            {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, ready).await;
        let log = || fs::read_to_string(folder.join("log")).unwrap_or_default();
        assert!(waited.is_ok(), "Alertmanager is not ready:\n{}", log());
        Self {
            address,
            client,
            _child: child,
        }
    }

    /// What Prometheus would send: an alert that began, or that ended at `ends`.
    async fn alert(&self, starts: &str, ends: Option<&str>) {
        let mut alert = serde_json::json!({
            "labels": { "alertname": "Load", "service": "shop" },
            "annotations": { "summary": "the shop is slow" },
            "startsAt": starts, "generatorURL": "http://prometheus/graph"
        });
        if let Some(ends) = ends {
            alert["endsAt"] = ends.into();
        }
        let request = self.client.post(format!("http://{}/api/v2/alerts", self.address));
        let answer = request.json(&serde_json::json!([alert])).send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    }
}

#[tokio::test]
async fn a_real_alertmanager_borrows_and_gives_back() {
    let enterprise = Enterprise::new().await;
    policies(&enterprise, POLICY);
    let po = acting(&enterprise, Some("a-token-of-the-test")).await;
    let alertmanager = Alertmanager::start(&enterprise, po.events, "a-token-of-the-test").await;
    let date = |offset: &str| {
        let output = std::process::Command::new("date")
            .args(["-u", "+%Y-%m-%dT%H:%M:%SZ", "-d", offset])
            .output();
        String::from_utf8(output.unwrap().stdout)
            .unwrap()
            .trim()
            .to_owned()
    };
    let began = date("-2 minutes");
    alertmanager.alert(&began, None).await;
    let told = po.explains(has_two).await;
    assert!(told.contains("(alertmanager:"), "{told}");
    enterprise.lender.ordered("boot l-2").await;
    alertmanager.alert(&began, Some(&date("-1 second"))).await;
    enterprise.lender.ordered("delete l-1").await;
    enterprise.lender.ordered("delete l-2").await;
    let told = po
        .explains(|text| text.contains("decided  give 2 servers back"))
        .await;
    assert!(told.contains("is over since"), "{told}");
    po.stop().await;
}
