use super::*;
use axum::http::HeaderMap;
use proptest::prelude::*;

fn event(status: Status, at: u64) -> Event {
    Event {
        key: Key::of("test", ["a"]),
        source: "test".to_owned(),
        name: "Load".to_owned(),
        labels: Labels::new(),
        status,
        at: Timestamp(at),
    }
}

fn heard(before: Option<&Known>, status: Status, at: u64, now: u64) -> Option<Known> {
    Known::after(before, event(status, at), Timestamp(now))
}

#[test]
fn a_repeat_moves_nothing_but_when_it_was_heard() {
    let first = heard(None, Status::Firing, 5, 10).unwrap();
    let again = heard(Some(&first), Status::Firing, 5, 90).unwrap();
    assert_eq!((again.since, again.heard), (Timestamp(10), Timestamp(90)));
}

#[test]
fn what_is_older_than_the_last_change_is_passed_over() {
    let first = heard(None, Status::Firing, 5, 10).unwrap();
    let over = heard(Some(&first), Status::Resolved, 20, 30).unwrap();
    assert_eq!(
        heard(Some(&over), Status::Firing, 5, 40),
        None,
        "the first word, late"
    );
    let anew = heard(Some(&over), Status::Firing, 25, 50).unwrap();
    assert_eq!((anew.event.status, anew.since), (Status::Firing, Timestamp(50)));
}

#[test]
fn an_end_that_was_not_heard_begins_the_wait_anew() {
    let first = heard(None, Status::Firing, 5, 10).unwrap();
    let anew = heard(Some(&first), Status::Firing, 60, 70).unwrap();
    assert_eq!(anew.since, Timestamp(70));
}

#[test]
fn the_end_of_what_nobody_knows_is_not_kept() {
    assert_eq!(heard(None, Status::Resolved, 5, 10), None);
}

#[test]
fn silence_ends_what_expires() {
    let known = heard(None, Status::Firing, 5, 1000).unwrap();
    let expire = Some(Duration::from_secs(2));
    assert!(known.stands(expire, Timestamp(2999)));
    assert!(!known.stands(expire, Timestamp(3000)));
    assert_eq!(known.over_since(expire, Timestamp(9000)), Some(Timestamp(3000)));
    assert!(known.stands(None, Timestamp(u64::MAX)));
}

proptest! {
    /// Told twice, it is known as told once, but for when it was heard.
    #[test]
    fn telling_twice_is_telling_once(words in prop::collection::vec((any::<bool>(), 0u64..50), 1..20)) {
        let status = |firing| if firing { Status::Firing } else { Status::Resolved };
        let (mut once, mut twice) = (None, None);
        for (now, (firing, at)) in words.into_iter().enumerate() {
            let now = 100 + now as u64;
            for (known, times) in [(&mut once, 1), (&mut twice, 2)] {
                for _ in 0..times {
                    if let Some(next) = heard(known.as_ref(), status(firing), at, now) {
                        *known = Some(next);
                    }
                }
            }
            prop_assert_eq!(&once, &twice);
        }
    }

    #[test]
    fn noise_is_refused_and_never_worse(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = alertmanager::read(&body, Timestamp(1));
        let _ = cloudevents::read(&headers(&[("content-type", "application/cloudevents+json")]), &body, Timestamp(1));
    }
}

/// As Alertmanager 0.25 sends it, with its labels shortened.
const WEBHOOK: &str = r#"{"receiver":"leaseboot","status":"firing","alerts":[
    {"status":"firing","labels":{"alertname":"Load","service":"shop"},"annotations":{},"startsAt":"2026-11-26T06:30:00.5Z",
     "endsAt":"0001-01-01T00:00:00Z","generatorURL":"http://p/graph","fingerprint":"c81a3e1b5d4f0a11"},
    {"status":"resolved","labels":{"alertname":"Load","service":"mail"},"annotations":{},"startsAt":"2026-11-26T06:00:00Z",
     "endsAt":"2026-11-26T06:31:00+01:00","generatorURL":"","fingerprint":"00aa3e1b5d4f0a11"}],
    "groupLabels":{},"commonLabels":{},"commonAnnotations":{},"externalURL":"http://a","version":"4","groupKey":"{}:{}","truncatedAlerts":0}"#;

#[test]
fn a_webhook_is_as_many_events_as_it_has_alerts() {
    let events = alertmanager::read(WEBHOOK.as_bytes(), Timestamp(7)).unwrap();
    let short: Vec<_> = events
        .iter()
        .map(|event| {
            (
                event.key.as_str(),
                event.labels["service"].as_str(),
                event.status,
                event.at.0,
            )
        })
        .collect();
    assert_eq!(
        short,
        [
            (
                "alertmanager:c81a3e1b5d4f0a11",
                "shop",
                Status::Firing,
                1_795_674_600_500
            ),
            (
                "alertmanager:00aa3e1b5d4f0a11",
                "mail",
                Status::Resolved,
                1_795_671_060_000
            ),
        ]
    );
    assert_eq!(events[0].to_string(), "Load{service=\"shop\"}");
}

#[test]
fn a_webhook_without_names_or_out_of_measure_is_refused() {
    for (cut, by, complaint) in [
        ("\"alertname\"", "\"name\"", "alertname"),
        ("\"alerts\"", "\"alarms\"", "alerts"),
        ("\"status\":\"resolved\"", "\"status\":\"perhaps\"", "perhaps"),
        ("mail", &"x".repeat(2000), "2000 bytes"),
    ] {
        let error = alertmanager::read(WEBHOOK.replace(cut, by).as_bytes(), Timestamp(7)).unwrap_err();
        assert!(error.to_string().contains(complaint), "{error}");
    }
}

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.insert(*name, value.parse().unwrap());
    }
    headers
}

const STRUCTURED: &str = r#"{"specversion":"1.0","id":"7","source":"/shop","type":"queue.long","subject":"orders","time":"2026-11-26T06:30:00Z",
    "data":{"status":"firing","labels":{"tier":"web"}}}"#;

#[test]
fn both_modes_say_the_same() {
    let structured = headers(&[("content-type", "application/cloudevents+json; charset=utf-8")]);
    let one = cloudevents::read(&structured, STRUCTURED.as_bytes(), Timestamp(7)).unwrap();
    let binary = headers(&[
        ("content-type", "application/json"),
        ("ce-specversion", "1.0"),
        ("ce-id", "8"),
        ("ce-source", "/shop"),
        ("ce-type", "queue.long"),
        ("ce-subject", "order%73"),
        ("ce-time", "2026-11-26T06:30:00Z"),
    ]);
    let body = br#"{"status":"firing","labels":{"tier":"web"}}"#;
    assert_eq!(cloudevents::read(&binary, body, Timestamp(7)).unwrap(), one);
    assert_eq!(one[0].to_string(), "queue.long{subject=\"orders\", tier=\"web\"}");
    let batch = headers(&[("content-type", "application/cloudevents-batch+json")]);
    let two = format!("[{STRUCTURED},{STRUCTURED}]");
    assert_eq!(
        cloudevents::read(&batch, two.as_bytes(), Timestamp(7))
            .unwrap()
            .len(),
        2
    );
}

#[test]
fn the_end_has_the_key_of_the_beginning_whatever_its_id() {
    let structured = headers(&[("content-type", "application/cloudevents+json")]);
    let begin = cloudevents::read(&structured, STRUCTURED.as_bytes(), Timestamp(7)).unwrap();
    let end = STRUCTURED.replace("firing", "resolved").replace("\"7\"", "\"9\"");
    let end = cloudevents::read(&structured, end.as_bytes(), Timestamp(7)).unwrap();
    assert_eq!((&begin[0].key, end[0].status), (&end[0].key, Status::Resolved));
    let other = STRUCTURED.replace("orders", "returns");
    let other = cloudevents::read(&structured, other.as_bytes(), Timestamp(7)).unwrap();
    assert_ne!(begin[0].key, other[0].key);
}

#[test]
fn an_event_that_says_too_little_is_refused() {
    let structured = headers(&[("content-type", "application/cloudevents+json")]);
    for (cut, by, complaint) in [
        ("\"1.0\"", "\"0.3\"", "specversion"),
        ("\"status\":\"firing\",", "", "whether this stands"),
        ("\"/shop\"", "\"\"", "source"),
        ("2026-11-26T06:30:00Z", "today", "RFC 3339"),
    ] {
        let body = STRUCTURED.replace(cut, by);
        let error = cloudevents::read(&structured, body.as_bytes(), Timestamp(7)).unwrap_err();
        assert!(error.to_string().contains(complaint), "{error}");
    }
    let plain = headers(&[("content-type", "text/plain")]);
    assert!(
        cloudevents::read(&plain, STRUCTURED.as_bytes(), Timestamp(7)).is_err(),
        "a web page may send this unasked"
    );
}
