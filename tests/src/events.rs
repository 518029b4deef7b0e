//! A lease's history as its tenant reads it: over the LM's API, with the tenant's certificate, from inside the enterprise.

use crate::lab::Lab;
use crate::namespace::Namespace;
use crate::network::LM_ADDRESS;
use anyhow::{Context as _, Result, bail};
use leaseboot_protocol::ids::LeaseId;
use leaseboot_protocol::lease::{EventKind, LeaseEvent, LeaseState, LeaseView, Step};
use leaseboot_protocol::leases::{EventBatch, LeaseList};
use serde::de::DeserializeOwned;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Seconds that one request may be held by the LM.
const HELD: u64 = 5;

/// Asks the LM as the tenant.
#[derive(Clone)]
pub struct Tenant {
    enterprise: Namespace,
    bundle: PathBuf,
}

impl Tenant {
    /// The tenant of a laboratory.
    pub fn of(lab: &Lab) -> Self {
        Self {
            enterprise: lab.network.enterprise.clone(),
            bundle: lab.lm.bundle(),
        }
    }

    /// All leases, oldest first.
    pub async fn leases(&self) -> Result<Vec<LeaseView>> {
        let list: LeaseList = self.get("/v1/leases").await?;
        Ok(list.leases)
    }

    /// Waits until the latest lease that is not over is there, and follows it.
    pub async fn follow(&self, within: Duration) -> Result<History> {
        let deadline = Instant::now() + within;
        loop {
            let leases = self.leases().await?;
            if let Some(lease) = leases.iter().rev().find(|lease| !lease.state.is_final()) {
                return Ok(History {
                    tenant: self.clone(),
                    lease: lease.id.clone(),
                    events: Vec::new(),
                });
            }
            if Instant::now() > deadline {
                bail!("no lease within {} s; the LM knows {leases:?}", within.as_secs());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let file = |name: &str| self.bundle.join(name).display().to_string();
        let (ca, certificate, key) = (file("lm-ca.pem"), file("client.pem"), file("client.key"));
        let url = format!("https://{LM_ADDRESS}:8443{path}");
        let arguments = [
            "-sSf",
            "--max-time",
            "60",
            "--cacert",
            &ca,
            "--cert",
            &certificate,
            "--key",
            &key,
            &url,
        ];
        let text = self.enterprise.run("curl", &arguments).await?;
        serde_json::from_str(&text)
            .with_context(|| format!("cannot understand the answer to GET {path}: {text}"))
    }
}

/// The events of one lease, as far as they were read.
pub struct History {
    tenant: Tenant,
    lease: LeaseId,
    events: Vec<LeaseEvent>,
}

impl History {
    /// The lease.
    pub fn lease(&self) -> &LeaseId {
        &self.lease
    }

    /// What was read so far.
    pub fn events(&self) -> &[LeaseEvent] {
        &self.events
    }

    /// Asks for the next events, and waits a few seconds when there are none; an LM that does not answer is asked again next time.
    pub async fn read(&mut self) -> Result<EventBatch> {
        let after = self.events.last().map_or(0, |event| event.sequence);
        let path = format!("/v1/leases/{}/events?after={after}&wait_s={HELD}", self.lease);
        let batch: EventBatch = self.tenant.get(&path).await?;
        self.events.extend(batch.events.iter().cloned());
        Ok(batch)
    }

    /// Waits until some event satisfies `wanted`, and gives it. An LM that is away for a moment is asked again.
    pub async fn wait_for(
        &mut self,
        what: &str,
        within: Duration,
        wanted: impl Fn(&LeaseEvent) -> bool,
    ) -> Result<LeaseEvent> {
        let deadline = Instant::now() + within;
        let mut seen = 0;
        let mut unanswered = None;
        loop {
            if let Some(event) = self.events[seen..].iter().find(|event| wanted(event)) {
                return Ok(event.clone());
            }
            seen = self.events.len();
            if Instant::now() > deadline {
                let last = self
                    .events
                    .iter()
                    .rev()
                    .take(5)
                    .map(|event| format!("\n  {event:?}"));
                let last: String = last.collect();
                let unanswered = unanswered.map_or(String::new(), |error| format!("\n  {error:#}"));
                bail!(
                    "lease {}: no {what} within {} s; the last events, latest first:{last}{unanswered}",
                    self.lease,
                    within.as_secs()
                );
            }
            if let Err(error) = self.read().await {
                unanswered = Some(error);
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
    }

    /// Waits until the lease has gone into `state`.
    pub async fn wait_for_state(&mut self, state: LeaseState, within: Duration) -> Result<LeaseEvent> {
        self.wait_for(&format!("state '{state}'"), within, |event| {
            event.state == state && matches!(event.what, EventKind::Transition { .. })
        })
        .await
    }

    /// Waits until the agent has told something of `step` that contains `needle`, and gives all of it.
    pub async fn wait_for_note(&mut self, step: Step, needle: &str, within: Duration) -> Result<String> {
        let fits = |what: &EventKind| matches!(what, EventKind::StepNote { step: of, note } if *of == step && note.contains(needle));
        let what = format!("word of the step '{step}' about {needle:?}");
        let event = self.wait_for(&what, within, |event| fits(&event.what)).await?;
        match event.what {
            EventKind::StepNote { note, .. } => Ok(note),
            other => bail!("not a note: {other:?}"),
        }
    }

    /// Waits until `step` has failed, and gives its error as one line.
    pub async fn wait_for_failure(&mut self, step: Step, within: Duration) -> Result<String> {
        let event = self
            .wait_for(
                &format!("failure of the step '{step}'"),
                within,
                |event| matches!(&event.what, EventKind::StepFailed { step: failed, .. } if *failed == step),
            )
            .await?;
        match event.what {
            EventKind::StepFailed { error, .. } => Ok(error.join(": ")),
            other => bail!("not a failure: {other:?}"),
        }
    }
}
