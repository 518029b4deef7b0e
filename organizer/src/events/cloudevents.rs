//! CloudEvents 1.0 over HTTP (CNCF, HTTP protocol binding 1.0.2): structured, batched and binary mode.
//!
//! CloudEvents says who speaks of what, and leaves open what is said. So we read it thus: `type` is the event's name; `source`, `type` and
//! `subject` together are the thing, so that a later event of the same three is about the same thing, whatever its `id`; whether it stands
//! is the member `status` of the data, or else an extension attribute of that name: `firing` or `resolved`. Labels are the member `labels` of
//! the data; `subject` is one more.

use super::{Event, EventError, Key, Labels, Status, time_of};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use leaseboot_protocol::timestamp::Timestamp;
use serde::Deserialize;

const DOOR: &str = "cloudevents";
const SUBJECT: &str = "subject";
/// What headers of the binary mode begin with.
const PREFIX: &str = "ce-";

/// One event in structured mode.
#[derive(Deserialize)]
struct Envelope {
    specversion: String,
    id: String,
    source: String,
    #[serde(rename = "type")]
    kind: String,
    subject: Option<String>,
    time: Option<String>,
    status: Option<Status>,
    data: Option<Data>,
}

/// What we read of an event's data.
#[derive(Default, Deserialize)]
struct Data {
    status: Option<Status>,
    #[serde(default)]
    labels: Labels,
}

/// The events of a request. Reads any bytes.
///
/// # Errors
/// [`EventError`]: nothing of the request is taken then.
pub fn read(headers: &HeaderMap, body: &[u8], now: Timestamp) -> Result<Vec<Event>, EventError> {
    let malformed =
        |error: serde_json::Error| EventError::Malformed(format!("this is no CloudEvent in JSON: {error}"));
    let envelopes: Vec<Envelope> = match media_type(headers) {
        "application/cloudevents+json" => vec![serde_json::from_slice(body).map_err(malformed)?],
        "application/cloudevents-batch+json" => serde_json::from_slice(body).map_err(malformed)?,
        _ if headers.contains_key("ce-specversion") => vec![binary(headers, body)?],
        other => {
            return Err(EventError::Malformed(format!(
                "{other:?} is no media type of a CloudEvent; send application/cloudevents+json, or the attributes as ce- headers"
            )));
        }
    };
    envelopes
        .into_iter()
        .map(|envelope| event(envelope, now))
        .collect()
}

/// The media type without its parameters.
pub(super) fn media_type(headers: &HeaderMap) -> &str {
    let whole = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let whole = whole.unwrap_or_default();
    whole.split_once(';').map_or(whole, |(kind, _)| kind).trim()
}

fn binary(headers: &HeaderMap, body: &[u8]) -> Result<Envelope, EventError> {
    let attribute = |name: &str| {
        let value = headers.get(format!("{PREFIX}{name}"))?;
        Some(unescaped(value.to_str().ok()?))
    };
    let needed = |name: &str| {
        attribute(name).ok_or_else(|| {
            EventError::Malformed(format!(
                "the header {PREFIX}{name} is missing; CloudEvents 1.0 wants it"
            ))
        })
    };
    let status = match attribute("status").as_deref() {
        None => None,
        Some("firing") => Some(Status::Firing),
        Some("resolved") => Some(Status::Resolved),
        Some(other) => return Err(no_status(other)),
    };
    let data = match body.is_empty() {
        true => None,
        false => Some(serde_json::from_slice(body).map_err(|error| {
            EventError::Malformed(format!(
                "the event's data is not JSON with status and labels: {error}"
            ))
        })?),
    };
    Ok(Envelope {
        specversion: needed("specversion")?,
        id: needed("id")?,
        source: needed("source")?,
        kind: needed("type")?,
        subject: attribute(SUBJECT),
        time: attribute("time"),
        status,
        data,
    })
}

fn no_status(text: &str) -> EventError {
    let text: String = text.chars().take(32).collect();
    EventError::Malformed(format!("status {text:?} is neither \"firing\" nor \"resolved\""))
}

/// Header values are percent-encoded (HTTP binding, 3.1.3.2). What is not well encoded stands for itself.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let mut decoded = [0];
        match (*first, tail.get(..2)) {
            (b'%', Some(digits)) if hex::decode_to_slice(digits, &mut decoded).is_ok() => {
                bytes.push(decoded[0]);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn event(envelope: Envelope, now: Timestamp) -> Result<Event, EventError> {
    let malformed = |what: String| Err(EventError::Malformed(what));
    if envelope.specversion != "1.0" {
        let version: String = envelope.specversion.chars().take(16).collect();
        return malformed(format!("specversion {version:?} is not \"1.0\""));
    }
    for (name, value) in [
        ("id", &envelope.id),
        ("source", &envelope.source),
        ("type", &envelope.kind),
    ] {
        if value.is_empty() {
            return malformed(format!("the attribute {name} is empty; CloudEvents 1.0 wants it"));
        }
    }
    let Data { status, mut labels } = envelope.data.unwrap_or_default();
    let Some(status) = status.or(envelope.status) else {
        return malformed(
            "nothing says whether this stands: put \"status\": \"firing\" or \"resolved\" into the data"
                .to_owned(),
        );
    };
    let at = match &envelope.time {
        None => now,
        Some(text) => match time_of(text) {
            Some(at) => at,
            None => return malformed("the attribute time is not a time of RFC 3339".to_owned()),
        },
    };
    let subject = envelope.subject.unwrap_or_default();
    let key = Key::of(DOOR, [&*envelope.source, &envelope.kind, &subject]);
    if !subject.is_empty() {
        labels.insert(SUBJECT.to_owned(), subject);
    }
    Event {
        key,
        source: envelope.source,
        name: envelope.kind,
        labels,
        status,
        at,
    }
    .measured()
}
