//! The password appears in no log, no error and no `Debug` of any back end, whatever goes wrong.

use super::ipmi::Simulator;
use super::{config, redfish, write_private};
use crate::power::{PowerController, PowerOrder};
use leaseboot_protocol::hardware::Firmware;
use std::error::Error;
use std::io::Write;
use std::sync::{Arc, Mutex};
use tracing_subscriber::fmt::MakeWriter;

const WAKE_PASSWORD: &str = "de:ad:be:ef:00:01";

/// Everything that was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// What each order of the controller comes to, causes included.
async fn words(power: &PowerController) -> String {
    let mut words = format!("{power:?}\n");
    for order in [PowerOrder::NetworkBootOnce, PowerOrder::Off, PowerOrder::Cycle] {
        let outcome = power.order(order, Firmware::Uefi).await;
        words += &format!("{outcome:?}\n");
        let mut error = outcome.as_ref().err().map(|error| error as &dyn Error);
        while let Some(cause) = error {
            words += &format!("{cause}\n");
            tracing::error!(error = cause, "an order failed");
            error = cause.source();
        }
    }
    words
}

#[tokio::test]
async fn passwords_are_in_no_log_and_no_error() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(log.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let directory = tempfile::tempdir().unwrap();
    let simulator = Simulator::start().await;
    write_private(&directory.path().join("wake"), WAKE_PASSWORD);
    let wake =
        "kind = \"wake-on-lan\"\nmac = \"52:54:00:00:00:07\"\nto = \"127.0.0.1:9\"\npassword_file = \"wake\""
            .to_owned();
    // A port that nobody has, and one of a service that wants another account.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let refusing = refusing().await;
    let mut said = String::new();
    for power in [
        simulator.controller("cipher_suite = 3"),
        simulator.controller("cipher_suite = 17"),
        simulator.controller_of("nobody", "cipher_suite = 3"),
        PowerController::new(&config(&wake), directory.path()).unwrap(),
        redfish(
            &format!("http://{nobody}/redfish/v1/Systems/1"),
            "patience_s = 1",
            directory.path(),
        ),
        redfish(&refusing, "", directory.path()),
        redfish(&refusing, "authentication = \"basic\"", directory.path()),
    ] {
        said += &words(&power).await;
    }
    let logged = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
    let basic = "bG06aHVzaDc1MzE"; // lm:hush7531, as basic authentication writes it
    for secret in ["hush7531", basic, WAKE_PASSWORD, &WAKE_PASSWORD.replace(':', "")] {
        assert!(!said.contains(secret), "{secret:?} in an error: {said}");
        assert!(!logged.contains(secret), "{secret:?} in the log: {logged}");
    }
    // The search must be able to find something.
    assert!(
        said.contains("401") && logged.contains("an order failed"),
        "{said}"
    );
}

/// A Redfish service that takes no account.
async fn refusing() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/redfish/v1/Systems/1", listener.local_addr().unwrap());
    let links = serde_json::json!({ "Links": { "Sessions": { "@odata.id": "/redfish/v1/Sessions" } } });
    let router = axum::Router::new()
        .route(
            "/redfish/v1/",
            axum::routing::get(|| async move { axum::Json(links) }),
        )
        .fallback(|| async { axum::http::StatusCode::UNAUTHORIZED });
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}
