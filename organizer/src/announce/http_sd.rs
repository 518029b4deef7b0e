//! Prometheus' service discovery by HTTP (`http_sd_configs`): `GET /v1/http_sd` gives a target group for each borrowed server whose
//! profile names ports of metrics.
//!
//! | label | value |
//! |---|---|
//! | `__meta_leaseboot_hostname`, `_profile`, `_borrowing`, `_lease`, `_server` | as `leaseboot-po list` shows them |
//! | `__meta_leaseboot_service` | the profile's service, when it has one |
//! | `__meta_leaseboot_label_NAME` | each label of the profile |

use super::{Entry, Roster};
use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use tokio::sync::watch;

const PREFIX: &str = "__meta_leaseboot_";

/// Targets with labels in common.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TargetGroup {
    /// Address and port of each.
    pub targets: Vec<String>,
    /// What Prometheus' relabelling may use.
    pub labels: BTreeMap<String, String>,
}

/// What Prometheus should read.
pub fn groups(roster: &Roster) -> Vec<TargetGroup> {
    let measured = roster.entries.values().filter(|entry| !entry.metrics.is_empty());
    measured.map(group).collect()
}

fn group(entry: &Entry) -> TargetGroup {
    let targets = entry
        .metrics
        .iter()
        .map(|port| SocketAddr::new(entry.address, *port).to_string());
    let mut labels = BTreeMap::new();
    let mut label = |name: &str, value: String| labels.insert(format!("{PREFIX}{name}"), value);
    label("hostname", entry.hostname.to_string());
    label("profile", entry.profile.clone());
    label("borrowing", entry.borrowing.to_string());
    label("lease", entry.lease.to_string());
    label("server", entry.server.to_string());
    if let Some(service) = &entry.service {
        label("service", service.to_string());
    }
    for (name, value) in &entry.labels {
        label(&format!("label_{name}"), value.clone());
    }
    TargetGroup {
        targets: targets.collect(),
        labels,
    }
}

/// Answers Prometheus.
pub fn router(roster: watch::Receiver<Roster>) -> Router {
    Router::new().route("/v1/http_sd", get(answer)).with_state(roster)
}

async fn answer(State(roster): State<watch::Receiver<Roster>>) -> Json<Vec<TargetGroup>> {
    let groups = groups(&roster.borrow());
    Json(groups)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::announce::roster::sample;

    #[test]
    fn only_servers_with_ports_of_metrics_are_targets() {
        let mut roster = Roster::default();
        let (measured, mut other) = (sample(1), sample(2));
        other.metrics.clear();
        for entry in [measured, other] {
            roster.set(&entry.borrowing.clone(), Some(entry));
        }
        let groups = groups(&roster);
        assert_eq!(groups.len(), 1);
        assert_eq!(groups[0].targets, ["10.99.0.1:9100"]);
        assert_eq!(groups[0].labels["__meta_leaseboot_label_tier"], "front");
    }
}
