//! A Redfish service that does what services in the field have been seen to do.

use super::redfish;
use crate::power::{PowerError, PowerOrder, PowerState};
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use leaseboot_protocol::hardware::Firmware;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, MutexGuard};

#[derive(Clone, Default)]
struct Service(Arc<Mutex<Board>>);

/// The state of the board, and its whims.
struct Board {
    power: &'static str,
    target: &'static str,
    reset_path: &'static str,
    targets: &'static [&'static str],
    systems: Vec<&'static str>,
    /// So many requests are answered 503.
    busy: u32,
    /// Resets are taken and nothing happens.
    stubborn: bool,
    /// Resets happen but are answered 500 each time.
    ashamed: bool,
    /// Answers are this much longer.
    padding: usize,
    log: Vec<String>,
}

impl Default for Board {
    fn default() -> Self {
        Self {
            power: "Off",
            target: "None",
            reset_path: "/redfish/v1/Systems/1/Actions/ComputerSystem.Reset",
            targets: &["None", "Pxe", "Hdd"],
            systems: vec!["/redfish/v1/Systems/1"],
            busy: 0,
            stubborn: false,
            ashamed: false,
            padding: 0,
            log: Vec::new(),
        }
    }
}

async fn answer(
    State(service): State<Service>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: String,
) -> Response {
    let mut board = service.board();
    board.log.push(format!("{method} {} {body}", uri.path()));
    if board.busy > 0 {
        board.busy -= 1;
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let body: Value = serde_json::from_str(&body).unwrap_or_default();
    match (method.as_str(), uri.path()) {
        ("GET", "/redfish/v1/Systems") => {
            let members: Vec<_> = board
                .systems
                .iter()
                .map(|id| json!({ "@odata.id": id }))
                .collect();
            axum::Json(json!({ "Members": members })).into_response()
        }
        ("GET", "/redfish/v1/Systems/1") => {
            let system = json!({
                "PowerState": board.power,
                "Padding": " ".repeat(board.padding),
                "Boot": {
                    "BootSourceOverrideTarget": board.target,
                    "BootSourceOverrideTarget@Redfish.AllowableValues": board.targets,
                },
                "Actions": { "#ComputerSystem.Reset": {
                    "target": board.reset_path,
                    "ResetType@Redfish.AllowableValues": ["ForceOn", "ForceOff"],
                } },
            });
            ([("ETag", "\"7\"")], axum::Json(system)).into_response()
        }
        ("PATCH", "/redfish/v1/Systems/1") => {
            let matches = headers.get("If-Match").is_some_and(|tag| tag == "\"7\"");
            if !matches || body["Boot"]["BootSourceOverrideEnabled"] != "Once" {
                return StatusCode::PRECONDITION_FAILED.into_response();
            }
            board.target = "Pxe";
            StatusCode::NO_CONTENT.into_response()
        }
        ("POST", path) if path == board.reset_path => {
            let wanted = match body["ResetType"].as_str() {
                Some("ForceOn") => "On",
                Some("ForceOff") => "Off",
                _ => {
                    return (
                        StatusCode::BAD_REQUEST,
                        axum::Json(json!({ "error": { "message": "bad reset type" } })),
                    )
                        .into_response();
                }
            };
            if !board.stubborn {
                board.power = wanted;
            }
            if board.ashamed {
                StatusCode::INTERNAL_SERVER_ERROR
            } else {
                StatusCode::NO_CONTENT
            }
            .into_response()
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

impl Service {
    fn board(&self) -> MutexGuard<'_, Board> {
        self.0.lock().unwrap()
    }

    /// Serves a board with whims; gives the service and its URL.
    async fn start(whims: impl FnOnce(&mut Board)) -> (Self, String) {
        let service = Self::default();
        whims(&mut service.board());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state(service.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (service, url)
    }
}

async fn order(whims: impl FnOnce(&mut Board), order: PowerOrder) -> (Service, Result<(), PowerError>) {
    let directory = tempfile::tempdir().unwrap();
    let (service, url) = Service::start(whims).await;
    let outcome = redfish(&url, "patience_s = 1", directory.path())
        .order(order, Firmware::Unknown)
        .await;
    (service, outcome)
}

#[tokio::test]
async fn a_network_boot_sets_the_override_before_the_power_goes_on() {
    let (service, outcome) = order(|board| board.power = "On", PowerOrder::NetworkBootOnce).await;
    outcome.unwrap();
    let board = service.board();
    let orders: Vec<_> = board.log.iter().filter(|line| !line.starts_with("GET")).collect();
    assert!(
        orders[0].starts_with("PATCH") && orders[1].contains("ForceOff") && orders[2].contains("ForceOn"),
        "{orders:?}"
    );
    assert_eq!((board.power, board.target, orders.len()), ("On", "Pxe", 3));
}

#[tokio::test]
async fn a_board_that_cannot_choose_is_cycled_all_the_same() {
    let (service, outcome) = order(
        |board| board.targets = &["None", "Hdd"],
        PowerOrder::NetworkBootOnce,
    )
    .await;
    outcome.unwrap();
    let board = service.board();
    assert_eq!((board.power, board.target), ("On", "None"));
}

#[tokio::test]
async fn a_service_that_is_busy_for_a_moment_is_asked_again() {
    let (service, outcome) = order(|board| board.busy = 2, PowerOrder::On).await;
    outcome.unwrap();
    assert_eq!(service.board().power, "On");
}

#[tokio::test]
async fn a_reset_that_happened_counts_even_when_it_was_answered_with_an_error() {
    let (service, outcome) = order(|board| board.ashamed = true, PowerOrder::On).await;
    outcome.unwrap();
    assert_eq!(service.board().power, "On");
}

#[tokio::test]
async fn power_that_does_not_follow_is_an_error() {
    let (_, outcome) = order(|board| board.stubborn = true, PowerOrder::On).await;
    let error = outcome.unwrap_err();
    assert!(
        matches!(
            error,
            PowerError::NotReached {
                seen: PowerState::Off,
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn the_account_is_not_sent_to_another_host() {
    for path in ["http://192.0.2.1/reset", "//192.0.2.1/reset", "reset"] {
        let (_, outcome) = order(|board| board.reset_path = path, PowerOrder::On).await;
        let error = outcome.unwrap_err();
        assert!(
            matches!(&error, PowerError::Answer { problem, .. } if problem.contains("not a path")),
            "{error}"
        );
    }
}

#[tokio::test]
async fn answers_without_end_and_services_with_many_systems_are_refused() {
    let (_, outcome) = order(|board| board.padding = 2 << 20, PowerOrder::On).await;
    assert!(outcome.unwrap_err().to_string().contains("longer than"));
    let (_, outcome) = order(
        |board| board.systems = vec!["/redfish/v1/Systems/1", "/redfish/v1/Systems/2"],
        PowerOrder::On,
    )
    .await;
    assert!(outcome.unwrap_err().to_string().contains("name one in power.url"));
}

#[tokio::test]
async fn a_service_that_cannot_be_reached_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let address = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let error = redfish(&format!("http://{address}"), "", directory.path())
        .state()
        .await
        .unwrap_err();
    assert!(
        matches!(error, PowerError::Unreachable { .. }) && error.to_string().contains(&address.to_string()),
        "{error}"
    );
}

/// A port where each connection is taken and then treated with `manners`.
async fn rude(manners: fn(tokio::net::TcpStream)) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            manners(stream);
        }
    });
    url
}

#[tokio::test]
async fn services_that_hang_or_reset_are_given_up_in_time() {
    let hang: fn(tokio::net::TcpStream) = |stream| {
        // Open until the test ends, and silent.
        tokio::spawn(async move {
            let _stream = stream;
            std::future::pending::<()>().await;
        });
    };
    let reset: fn(tokio::net::TcpStream) = |stream| {
        let _ = stream.set_zero_linger();
    };
    let outcome = async |manners| {
        let directory = tempfile::tempdir().unwrap();
        let url = rude(manners).await;
        let power = redfish(&url, "patience_s = 1", directory.path());
        let ordered = power.order(PowerOrder::On, Firmware::Unknown);
        tokio::time::timeout(std::time::Duration::from_secs(30), ordered).await
    };
    let (hung, cut) = tokio::join!(outcome(hang), outcome(reset));
    for outcome in [hung, cut] {
        let error = outcome.expect("an order must end in time").unwrap_err();
        assert!(
            matches!(error, PowerError::Unreachable { .. }) && error.may_pass(),
            "{error}"
        );
    }
}
