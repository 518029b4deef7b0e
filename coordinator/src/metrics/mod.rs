//! Numbers for Prometheus, in the OpenMetrics text format.
//!
//! What happens is counted where it happens, after it was written down, by one call that knows no label: [`Metrics::effects`] for
//! leases, [`Metrics::request`] for the API, and so on. What *is* (leases by state, servers by custody) is asked of the store at each
//! scrape, so that it is also true after a restart and of what other Lease Managers did. Labels take few values by construction:
//! states, steps, routes; never a lease, a server or a tenant.

mod listener;
mod tftp;

pub use listener::{MetricsError, MetricsService};
pub use tftp::CountedNames;

use crate::lease::Effect;
use crate::store::{Counts, Store, StoreError};
use leaseboot_protocol::lease::{EventKind, LeaseState};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use serde::Serialize;
use std::time::Duration;

/// The media type of what [`Metrics::text`] gives.
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Bounds of the steps of a transfer, in seconds: from a link that comes up to an installation.
const STEP_SECONDS: [f64; 12] = [
    0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0,
];
/// Bounds of what the LM does by itself, in seconds.
const WORK_SECONDS: [f64; 11] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0,
];

/// One label: `state`, `step` or the like, as its family is registered.
macro_rules! label {
    ($name:ident { $($field:ident: $type:ty),+ }) => {
        #[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
        struct $name { $($field: $type),+ }
    };
}
label!(Stated { state: String });
label!(Kept { custody: String });
label!(Stepped { step: String });
label!(Ordered { order: String, outcome: &'static str });
label!(Routed {
    method: String,
    route: String
});
label!(Answered {
    method: String,
    route: String,
    status: u16
});
label!(Asked { what: &'static str });

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// What a booting server asks for, for [`Metrics::boot_request`].
#[derive(Clone, Copy, Debug)]
pub enum BootRequest {
    /// An address or a boot file's name, over DHCP.
    Dhcp,
    /// What to boot, over TFTP or HTTP.
    Script,
    /// The site archive of its boot, over HTTP.
    Site,
    /// A file that is there, over TFTP.
    TftpFile,
    /// A file that is not there, over TFTP.
    TftpMissing,
}

impl BootRequest {
    fn word(self) -> &'static str {
        match self {
            BootRequest::Dhcp => "dhcp",
            BootRequest::Script => "script",
            BootRequest::Site => "site-archive",
            BootRequest::TftpFile => "tftp-file",
            BootRequest::TftpMissing => "tftp-missing",
        }
    }
}

/// All numbers of one Lease Manager.
pub struct Metrics {
    registry: Registry,
    transitions: Family<Stated, Counter>,
    steps: Histograms<Stepped>,
    step_failures: Family<Stepped, Counter>,
    power_orders: Family<Ordered, Counter>,
    requests: Family<Answered, Counter>,
    request_seconds: Histograms<Routed>,
    commit_seconds: Histogram,
    boot_requests: Family<Asked, Counter>,
}

fn step_histogram() -> Histogram {
    Histogram::new(STEP_SECONDS)
}

fn work_histogram() -> Histogram {
    Histogram::new(WORK_SECONDS)
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("leaseboot_lm"),
            transitions: Family::default(),
            steps: Family::new_with_constructor(step_histogram),
            step_failures: Family::default(),
            power_orders: Family::default(),
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(work_histogram),
            commit_seconds: work_histogram(),
            boot_requests: Family::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let all = &mut self.registry;
        all.register(
            "transitions",
            "Leases that went into a state",
            self.transitions.clone(),
        );
        all.register_with_unit(
            "step_duration",
            "Steps of agents that ended well, by the server's clock",
            Unit::Seconds,
            self.steps.clone(),
        );
        all.register(
            "step_failures",
            "Steps of agents that failed",
            self.step_failures.clone(),
        );
        all.register(
            "power_orders",
            "Orders to servers' power, by how they went",
            self.power_orders.clone(),
        );
        all.register("api_requests", "Requests to the API", self.requests.clone());
        all.register_with_unit(
            "api_request_duration",
            "Time until the answer of the API began, waits for events included",
            Unit::Seconds,
            self.request_seconds.clone(),
        );
        all.register_with_unit(
            "store_commit_duration",
            "Time to write a lease's next state",
            Unit::Seconds,
            self.commit_seconds.clone(),
        );
        all.register(
            "boot_requests",
            "What booting servers asked for",
            self.boot_requests.clone(),
        );
    }

    /// Counts what a lease's change brought, each effect with the state after it.
    pub(crate) fn effects(&self, effects: &[(LeaseState, Effect)]) {
        for (state, effect) in effects {
            if let Effect::Record(what) = effect {
                self.event(*state, what);
            }
        }
    }

    fn event(&self, state: LeaseState, what: &EventKind) {
        match what {
            EventKind::Transition { .. } => {
                let state = word(&state);
                self.transitions.get_or_create(&Stated { state }).inc();
            }
            EventKind::StepFinished { step, took_ms, .. } => {
                let step = Stepped { step: word(step) };
                let took = Duration::from_millis(*took_ms);
                self.steps.get_or_create(&step).observe(took.as_secs_f64());
            }
            EventKind::StepFailed { step, .. } => {
                let step = Stepped { step: word(step) };
                self.step_failures.get_or_create(&step).inc();
            }
            EventKind::Power { order, error } => {
                let (order, outcome) = (order.clone(), if error.is_none() { "done" } else { "failed" });
                self.power_orders.get_or_create(&Ordered { order, outcome }).inc();
            }
            _ => {}
        }
    }

    /// Counts a request to the API; `route` is the pattern, not the path.
    pub(crate) fn request(&self, method: &str, route: &str, status: u16, took: Duration) {
        let (method, route) = (method.to_owned(), route.to_owned());
        let routed = Routed {
            method: method.clone(),
            route: route.clone(),
        };
        self.request_seconds
            .get_or_create(&routed)
            .observe(took.as_secs_f64());
        self.requests
            .get_or_create(&Answered {
                method,
                route,
                status,
            })
            .inc();
    }

    /// Counts the writing of a lease's next state.
    pub(crate) fn commit(&self, took: Duration) {
        self.commit_seconds.observe(took.as_secs_f64());
    }

    /// Counts what a booting server asked for.
    pub fn boot_request(&self, what: BootRequest) {
        self.boot_requests
            .get_or_create(&Asked { what: what.word() })
            .inc();
    }

    /// Everything as text, with what `store` holds at this moment.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn text(&self, store: &Store) -> Result<String, StoreError> {
        let standing = standing(store.counts().await?);
        let mut text = String::new();
        for part in [&self.registry, &standing] {
            encode_registry(&mut text, part).expect("a string takes all text");
        }
        encode_eof(&mut text).expect("a string takes all text");
        Ok(text)
    }
}

/// A state or custody that nothing is in has no line.
fn standing(counts: Counts) -> Registry {
    let (leases, servers) = (
        Family::<Stated, Gauge>::default(),
        Family::<Kept, Gauge>::default(),
    );
    for (state, count) in counts.leases {
        leases.get_or_create(&Stated { state }).set(count);
    }
    for (custody, count) in counts.servers {
        servers.get_or_create(&Kept { custody }).set(count);
    }
    let mut registry = Registry::with_prefix("leaseboot_lm");
    registry.register("leases", "Leases on record, by state", leases);
    registry.register("servers", "Servers on record, by who has them", servers);
    registry
}

/// A state or a step as it is written on the wire.
fn word(value: &impl Serialize) -> String {
    let value = serde_json::to_value(value).unwrap_or_default();
    value.as_str().unwrap_or("unknown").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use leaseboot_protocol::lease::Step;

    #[test]
    fn effects_are_counted_by_state_step_and_outcome() {
        let metrics = Metrics::default();
        let record = |what| (LeaseState::InService, Effect::Record(what));
        metrics.effects(&[
            record(EventKind::Transition {
                reason: "seen".to_owned(),
            }),
            record(EventKind::StepFinished {
                step: Step::Sealed,
                took_ms: 700,
                bytes: 1,
            }),
            record(EventKind::Power {
                order: "on".to_owned(),
                error: Some("no".to_owned()),
            }),
        ]);
        let mut text = String::new();
        encode_registry(&mut text, &metrics.registry).unwrap();
        for line in [
            "leaseboot_lm_transitions_total{state=\"in-service\"} 1",
            "leaseboot_lm_step_duration_seconds_bucket{le=\"1.0\",step=\"sealed\"} 1",
            "leaseboot_lm_power_orders_total{order=\"on\",outcome=\"failed\"} 1",
        ] {
            assert!(text.contains(line), "{line} is missing:\n{text}");
        }
    }
}
