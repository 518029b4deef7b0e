//! The webhook of Prometheus' Alertmanager (its `webhook_config`, message version 4).
//!
//! A message is a group of alerts; the group is Alertmanager's own affair, so each alert becomes an event of its own. Its key is Alertmanager's
//! fingerprint of the labels, which several Alertmanagers of one cluster agree on. What is not looked at may have any shape: later versions
//! add members.

use super::{Event, EventError, Key, Labels, Status, time_of};
use leaseboot_protocol::timestamp::Timestamp;
use serde::Deserialize;

/// The label that holds an alert's name.
const NAME: &str = "alertname";
const DOOR: &str = "alertmanager";

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    receiver: String,
    alerts: Vec<Alert>,
    /// Alerts that `max_alerts` cut off.
    #[serde(default, rename = "truncatedAlerts")]
    truncated: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Alert {
    status: Status,
    labels: Labels,
    #[serde(default)]
    starts_at: String,
    #[serde(default)]
    ends_at: String,
    #[serde(default)]
    fingerprint: String,
}

/// The alerts of a message. Reads any bytes.
///
/// # Errors
/// [`EventError`]: nothing of the message is taken then.
pub fn read(body: &[u8], now: Timestamp) -> Result<Vec<Event>, EventError> {
    let message: Message = serde_json::from_slice(body)
        .map_err(|error| EventError::Malformed(format!("this is no message of an Alertmanager: {error}")))?;
    if message.truncated > 0 {
        tracing::warn!(
            receiver = message.receiver,
            alerts = message.truncated,
            "Alertmanager left alerts out; take max_alerts out of its webhook_configs"
        );
    }
    message
        .alerts
        .into_iter()
        .map(|alert| event(alert, now))
        .collect()
}

fn event(alert: Alert, now: Timestamp) -> Result<Event, EventError> {
    let name = alert.labels.get(NAME).cloned().ok_or_else(|| {
        EventError::Malformed("an alert has no label \"alertname\"; Prometheus gives each one".to_owned())
    })?;
    let plain =
        |text: &str| !text.is_empty() && text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric());
    let key = match plain(&alert.fingerprint) {
        true => Key::from_text(format!("{DOOR}:{}", alert.fingerprint)),
        false => Key::of(
            DOOR,
            alert.labels.iter().flat_map(|(name, value)| [&**name, value]),
        ),
    };
    let at = match alert.status {
        Status::Firing => &alert.starts_at,
        Status::Resolved => &alert.ends_at,
    };
    Event {
        key,
        source: DOOR.to_owned(),
        name,
        labels: alert.labels,
        status: alert.status,
        at: time_of(at).unwrap_or(now),
    }
    .measured()
}
