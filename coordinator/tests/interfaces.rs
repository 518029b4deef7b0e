//! What programs see of the API: its description, its errors, and what foreign tools make of them.

// A test that cannot go on says so by panicking, its helpers too.
#![allow(clippy::unwrap_used)]

mod house;
#[allow(unreachable_pub)]
mod python;

use house::House;
use reqwest::{Method, StatusCode};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

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
