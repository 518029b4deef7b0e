//! What programs see of the API: its description, its errors, and what foreign tools make of them.

// A test that cannot go on says so by panicking, its helpers too.
#![allow(clippy::unwrap_used)]

mod house;
#[allow(unreachable_pub)]
mod promtool;
#[allow(unreachable_pub)]
mod python;

use house::House;
use leaseboot_lm::metrics::MetricsService;
use reqwest::{Method, StatusCode};
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use tokio_util::sync::CancellationToken;

const VALIDATOR: &str = "openapi-spec-validator==0.9.0";

#[tokio::test(flavor = "multi_thread")]
async fn the_description_is_valid_openapi() {
    let house = House::new().await;
    let (status, text) = house
        .client_at(1)
        .ask(Method::GET, "/v1/openapi.json", None, None::<&()>)
        .await;
    assert_eq!(status, StatusCode::OK, "{text}");
    let file = house.folder().join("openapi.json");
    std::fs::write(&file, &text).unwrap();
    let validator = python::environment("openapi-validator", &[VALIDATOR]).join("openapi-spec-validator");
    let said = python::run(Command::new(validator).arg(&file), "the description is at fault");
    assert!(said.contains("OK"), "{said}");
}

/// Each operation that is described is there, and no method of a described path is there without its description.
#[tokio::test(flavor = "multi_thread")]
async fn description_and_routes_agree() {
    let house = House::new().await;
    let tenant = house.tenant("acme");
    let description: Value = tenant.get("/v1/openapi.json").await;
    let paths = description["paths"].as_object().unwrap();
    assert!(paths.len() > 8, "{paths:#?}");
    for (path, item) in paths {
        let place = path
            .replace("{id}", "l-1")
            .replace("{kind}", "merge")
            .replace('{', "x")
            .replace('}', "");
        for method in [
            Method::GET,
            Method::PUT,
            Method::POST,
            Method::DELETE,
            Method::PATCH,
        ] {
            let (status, text) = tenant.ask(method.clone(), &place, None, None::<&()>).await;
            let described = item.get(method.as_str().to_ascii_lowercase()).is_some();
            assert_eq!(
                described,
                status != StatusCode::METHOD_NOT_ALLOWED,
                "{method} {path}: {status}: {text}"
            );
            assert!(!text.contains("there is nothing at"), "{method} {path}: {text}");
        }
    }
}

/// Paths come into being by `routes!` alone, which takes the path from the description.
#[test]
fn no_route_is_made_behind_the_descriptions_back() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/api");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        for way in [".route(", ".nest(", ".route_service(", ".nest_service("] {
            assert!(!text.contains(way), "{} uses {way}", path.display());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_are_problem_details() {
    let house = House::new().await;
    let tenant = house.tenant("acme");
    let url = format!("{}/v1/leases/l-none", tenant.base);
    let answer = tenant.client.get(url).send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let problem: Value = answer.json().await.unwrap();
    assert_eq!(problem["status"], 404);
    assert_eq!(problem["refusal"], "not-found");
    assert_eq!(problem["detail"], problem["message"]);
    assert!(
        problem["instance"]
            .as_str()
            .unwrap()
            .starts_with("/v1/leases/l-none#")
    );
    // The type leads to an explanation.
    let kind = problem["type"].as_str().unwrap();
    let (status, text) = tenant.ask(Method::GET, kind, None, None::<&()>).await;
    assert!(
        status.is_success() && text.starts_with(problem["title"].as_str().unwrap()),
        "{text}"
    );
}

/// What goes wrong inside stays inside: the other side gets a number, and the cause stands in the log only.
#[tokio::test(flavor = "multi_thread")]
async fn a_failure_inside_gives_a_number_only() {
    let house = House::new().await;
    let tenant = house.tenant("acme");
    house.driver.store().close().await;
    let (status, text) = tenant.ask(Method::GET, "/v1/leases", None, None::<&()>).await;
    let problem: Value = serde_json::from_str(&text).unwrap();
    let number = problem["incident"].as_str().unwrap();
    assert_eq!(
        (status, number.len()),
        (StatusCode::INTERNAL_SERVER_ERROR, 8),
        "{text}"
    );
    assert!(problem["instance"].as_str().unwrap().ends_with(number));
    for inside in ["store", "pool", "sql", "closed"] {
        assert!(
            !text.to_ascii_lowercase().contains(inside),
            "{text} tells of {inside:?}"
        );
    }
}

/// The media type of server-sent events, and the events that `text` holds, as pairs of id and state.
fn told(text: &str) -> Vec<(u64, String)> {
    let blocks = text.split("\n\n").filter(|block| block.contains("data:"));
    let field = |block: &str, name: &str| {
        let line = block.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().to_owned()
    };
    blocks
        .map(|block| {
            let data: Value = serde_json::from_str(&field(block, "data:")).unwrap();
            let id = field(block, "id:").parse().unwrap();
            assert_eq!(data["sequence"], id);
            assert_eq!(data["kind"], field(block, "event:"));
            (id, data["state"].as_str().unwrap().to_owned())
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_tells_events_as_they_happen_and_goes_on_where_it_broke() {
    let house = House::new().await;
    let tenant = house.tenant("acme");
    let lease = tenant.borrow("one").await.id;
    let url = format!("{}/v1/leases/{lease}/events", tenant.base);
    let stream = |last: Option<u64>| {
        let mut request = tenant.client.get(&url).header("accept", "text/event-stream");
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        request.send()
    };
    let mut first = stream(None).await.unwrap();
    assert_eq!(first.headers()["content-type"], "text/event-stream");
    let mut text = String::new();
    while told(&text).is_empty() {
        text += std::str::from_utf8(&first.chunk().await.unwrap().unwrap()).unwrap();
    }
    assert_eq!(told(&text), [(1, "leased".to_owned())]);
    tenant.prepare(&lease).await;
    while told(&text).len() < 2 {
        text += std::str::from_utf8(&first.chunk().await.unwrap().unwrap()).unwrap();
    }
    assert_eq!(told(&text)[1], (2, "prepared".to_owned()));
    drop(first);

    tenant.release(&lease).await;
    // The stream ends with the lease, so it can be read to its end.
    let rest = told(&stream(Some(1)).await.unwrap().text().await.unwrap());
    assert_eq!(rest[0].0, 2, "{rest:?}");
    assert!(
        rest.iter().map(|(id, _)| *id).eq(2..2 + rest.len() as u64),
        "{rest:?}"
    );
    let last = rest.last().unwrap().0;
    assert_eq!(stream(Some(last)).await.unwrap().status(), StatusCode::NO_CONTENT);
    let wrong = tenant
        .client
        .get(&url)
        .header("last-event-id", "x")
        .send()
        .await
        .unwrap();
    assert_eq!(wrong.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_streams_are_counted_and_its_neighbours_are_not() {
    let house = House::new().await;
    let tenant = house.tenant("acme");
    let lease = tenant.borrow("one").await.id;
    let open = || {
        let url = format!("{}/v1/leases/{lease}/events", tenant.base);
        tenant
            .client
            .get(url)
            .header("accept", "text/event-stream")
            .send()
    };
    let mut streams = Vec::new();
    for _ in 0..32 {
        let stream = open().await.unwrap();
        assert_eq!(stream.status(), StatusCode::OK);
        streams.push(stream);
    }
    assert_eq!(open().await.unwrap().status(), StatusCode::TOO_MANY_REQUESTS);
    let other = house.tenant("other");
    let others = other.borrow("two").await.id;
    let url = format!("{}/v1/leases/{others}/events", other.base);
    let theirs = other
        .client
        .get(url)
        .header("accept", "text/event-stream")
        .send()
        .await
        .unwrap();
    assert_eq!(theirs.status(), StatusCode::OK);
    streams.pop();
    house
        .wait_until("a place", async || {
            open().await.unwrap().status() == StatusCode::OK
        })
        .await;
}

const METRICS_PARSER: &str = "prometheus_client==0.26.0";
/// Reads OpenMetrics from standard input as strictly as the specification, and says which families there are.
const PARSE: &str = "import sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families
for family in text_string_to_metric_families(sys.stdin.read()):
    for sample in family.samples:
        print(sample.name, ','.join(k + '=' + v for k, v in sorted(sample.labels.items())), sample.value)
";

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_openmetrics_and_readiness_follows_the_store() {
    let house = House::new().await;
    let tenant = house.tenant("acme");
    tenant.boot("one").await;
    house
        .wait_until("power", async || house.power() == ["off 1", "on 1"])
        .await;
    house.agent(1).await;
    let service = MetricsService::bind("127.0.0.1:0".parse().unwrap())
        .await
        .unwrap();
    let (base, stop) = (
        format!("http://{}", service.local_addr()),
        CancellationToken::new(),
    );
    let serving = tokio::spawn(service.run(house.driver.clone(), stop.clone()));
    let ask = async |path: &str| {
        let answer = reqwest::get(format!("{base}{path}")).await.unwrap();
        (answer.status(), answer.text().await.unwrap())
    };
    let (status, text) = ask("/metrics").await;
    assert_eq!(status, StatusCode::OK, "{text}");
    let file = house.folder().join("metrics");
    std::fs::write(&file, &text).unwrap();
    let python = python::environment("metrics-parser", &[METRICS_PARSER]).join("python3");
    let mut parser = Command::new(python);
    parser
        .args(["-c", PARSE])
        .stdin(std::fs::File::open(&file).unwrap());
    let said = python::run(&mut parser, &text);
    for line in [
        "leaseboot_lm_leases state=stage1 1",
        "leaseboot_lm_servers custody=free 1",
        "leaseboot_lm_servers custody=lent 1",
        "leaseboot_lm_transitions_total state=booting 1",
        "leaseboot_lm_step_duration_seconds_count step=drivers 1",
        "leaseboot_lm_api_requests_total method=POST,route=/v1/leases,status=201 1",
        "leaseboot_lm_boot_requests_total what=script 1",
    ] {
        assert!(
            said.lines().any(|said| said == line),
            "{line:?} is missing:\n{said}"
        );
    }
    assert!(
        said.contains("leaseboot_lm_store_commit_duration_seconds_count"),
        "{said}"
    );
    assert_eq!(promtool::faults(&text), "", "{text}");
    for private in ["s1", "acme", "l-"] {
        assert!(!text.contains(&format!("\"{private}")), "{text}");
    }
    assert_eq!(ask("/healthz").await.0, StatusCode::OK);
    assert_eq!(ask("/readyz").await.0, StatusCode::OK);
    house.driver.store().close().await;
    assert_eq!(ask("/readyz").await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(ask("/healthz").await.0, StatusCode::OK);
    stop.cancel();
    serving.await.unwrap();
}

const SCHEMATHESIS: &str = "schemathesis==4.32.5";

/// A foreign fuzzer reads the description and asks accordingly, and against it: nothing that it finds may fail inside, and every answer
/// must be one that is described.
#[tokio::test(flavor = "multi_thread")]
async fn answers_are_as_described_whatever_is_asked() {
    let house = House::new().await;
    let tenant = house.tenant("acme");
    tenant.borrow("one").await;
    let tool = python::environment("schemathesis", &[SCHEMATHESIS]).join("schemathesis");
    let bundle = house.folder().join("acme");
    let checks =
        "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance";
    let fuzzing = tokio::task::spawn_blocking({
        let folder = house.folder().to_owned();
        let description = format!("{}/v1/openapi.json", tenant.base);
        move || {
            let mut command = Command::new(tool);
            command
                .current_dir(folder)
                .args(["run", &description, "--checks", checks])
                .args([
                    "--phases",
                    "coverage,fuzzing",
                    "--max-examples",
                    "5",
                    "--max-time",
                    "20",
                ])
                // Questions for events are held as long as they say.
                .args(["--exclude-path", "/v1/leases/{id}/events"])
                .args(["--seed", "1", "--no-color"])
                .arg("--tls-verify")
                .arg(bundle.join("lm-ca.pem"))
                .arg("--request-cert")
                .arg(bundle.join("client.pem"))
                .arg("--request-cert-key")
                .arg(bundle.join("client.key"));
            python::run(&mut command, "an answer is not as described")
        }
    });
    let said = fuzzing.await.unwrap();
    assert!(said.contains("generated"), "{said}");
}
