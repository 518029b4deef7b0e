//! Sessions at a Redfish service. `sushy-tools` has none, so this one does what DSP0266 says, and some of what it does not say.

use super::redfish;
use crate::power::{PowerError, PowerOrder, PowerState};
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use leaseboot_protocol::hardware::Firmware;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

#[derive(Default)]
struct Desk {
    power: bool,
    opened: u32,
    open: Vec<u32>,
    /// The session is forgotten at this request.
    forget_at: Option<u32>,
    requests: u32,
    no_token: bool,
    basic: u32,
}

type Shared = Arc<Mutex<Desk>>;

async fn answer(
    State(desk): State<Shared>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: String,
) -> Response {
    let mut desk = desk.lock().unwrap();
    let body: Value = serde_json::from_str(&body).unwrap_or_default();
    match (method.as_str(), uri.path()) {
        ("GET", "/redfish/v1/") => {
            let links =
                json!({ "Links": { "Sessions": { "@odata.id": "/redfish/v1/SessionService/Sessions" } } });
            return axum::Json(links).into_response();
        }
        ("POST", "/redfish/v1/SessionService/Sessions") => {
            if body != json!({ "UserName": "lm", "Password": "hush7531" }) {
                return StatusCode::UNAUTHORIZED.into_response();
            }
            desk.opened += 1;
            let number = desk.opened;
            desk.open.push(number);
            let place = format!("http://elsewhere.invalid/redfish/v1/SessionService/Sessions/{number}");
            let mut response = (StatusCode::CREATED, [("Location", place)]).into_response();
            if !desk.no_token {
                let token = format!("token-{number}").parse().unwrap();
                response.headers_mut().insert("X-Auth-Token", token);
            }
            return response;
        }
        _ => {}
    }
    desk.requests += 1;
    if desk.forget_at == Some(desk.requests) {
        desk.open.clear();
    }
    desk.basic += u32::from(headers.contains_key("Authorization"));
    let token = headers.get("X-Auth-Token").and_then(|token| token.to_str().ok());
    let session = token.and_then(|token| token.strip_prefix("token-")?.parse().ok());
    if !session.is_some_and(|number: u32| desk.open.contains(&number)) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    match (method.as_str(), uri.path()) {
        ("DELETE", path) => {
            desk.open.retain(|number| !path.ends_with(&format!("/{number}")));
            StatusCode::NO_CONTENT.into_response()
        }
        ("POST", _) => {
            desk.power = body["ResetType"] == "On";
            StatusCode::NO_CONTENT.into_response()
        }
        _ => axum::Json(json!({ "PowerState": if desk.power { "On" } else { "Off" } })).into_response(),
    }
}

/// Serves a desk; gives it with the URL of its system.
async fn start(desk: Desk) -> (Shared, String) {
    let shared = Arc::new(Mutex::new(desk));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/redfish/v1/Systems/1", listener.local_addr().unwrap());
    let router = Router::new().fallback(answer).with_state(shared.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (shared, url)
}

#[tokio::test]
async fn the_password_crosses_once_and_the_session_is_closed() {
    let directory = tempfile::tempdir().unwrap();
    let (desk, url) = start(Desk::default()).await;
    let power = redfish(&url, "", directory.path());
    power.order(PowerOrder::Cycle, Firmware::Unknown).await.unwrap();
    let desk = desk.lock().unwrap();
    assert!(desk.power);
    assert_eq!((desk.opened, desk.open.len(), desk.basic), (1, 0, 0));
}

#[tokio::test]
async fn a_session_that_was_forgotten_is_opened_anew() {
    let directory = tempfile::tempdir().unwrap();
    let (desk, url) = start(Desk {
        forget_at: Some(2),
        ..Desk::default()
    })
    .await;
    let power = redfish(&url, "", directory.path());
    power.order(PowerOrder::On, Firmware::Unknown).await.unwrap();
    let desk = desk.lock().unwrap();
    assert_eq!((desk.power, desk.opened, desk.open.len()), (true, 2, 0));
}

#[tokio::test]
async fn services_that_keep_to_no_book_are_refused_or_told_the_account() {
    let directory = tempfile::tempdir().unwrap();
    let (_, url) = start(Desk {
        no_token: true,
        ..Desk::default()
    })
    .await;
    let error = redfish(&url, "", directory.path()).state().await.unwrap_err();
    assert!(
        error.to_string().contains("authentication = \"basic\""),
        "{error}"
    );
    let (desk, url) = start(Desk::default()).await;
    let basic = redfish(&url, "authentication = \"basic\"", directory.path());
    let error = basic.state().await.unwrap_err();
    assert!(
        matches!(error, PowerError::Refused { status: 401, .. }),
        "{error}"
    );
    let desk = desk.lock().unwrap();
    assert_eq!((desk.basic, desk.opened), (1, 0));
}

#[tokio::test]
async fn two_questions_at_once_share_a_session() {
    let directory = tempfile::tempdir().unwrap();
    let (desk, url) = start(Desk::default()).await;
    let power = redfish(&url, "", directory.path());
    let (one, other) = tokio::join!(power.state(), power.state());
    assert_eq!((one.unwrap(), other.unwrap()), (PowerState::Off, PowerState::Off));
    assert!(desk.lock().unwrap().open.is_empty());
}
