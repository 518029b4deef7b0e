//! A thin Redfish client: the four requests that a boot needs (DMTF DSP0266; schema ComputerSystem in DSP2046).
//!
//! | request | for |
//! |---|---|
//! | `GET` the system | its power state, what it can do, and where |
//! | `PATCH` the system | the next boot from the network, once |
//! | `POST` the system's Reset action | `On`, `ForceOff` |
//! | `GET /redfish/v1/Systems` | the only system, when the configuration names none |
//!
//! The account goes along as HTTP basic authentication.

mod client;
mod schema;

use super::config::{PowerConfigError, RedfishConfig, patience};
use super::{PowerError, PowerOrder, PowerState, wait_for};
use client::{Service, decode};
use reqwest::header::ETAG;
use reqwest::{Method, Url};
use schema::{Collection, System};
use serde_json::json;
use std::path::Path;
use std::time::Duration;
use tokio::sync::OnceCell;

/// How often the state is asked for while a change is awaited.
const INTERVAL: Duration = Duration::from_millis(500);

/// The power of one server behind a Redfish service.
pub struct RedfishController {
    service: Service,
    system: OnceCell<Url>,
    patience: Duration,
}

impl std::fmt::Debug for RedfishController {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedfishController")
            .field("url", &self.service.url().as_str())
            .finish_non_exhaustive()
    }
}

impl RedfishController {
    /// Reads password and certificates; asks nothing of the service.
    ///
    /// # Errors
    /// [`PowerConfigError`].
    pub fn new(config: &RedfishConfig, directory: &Path) -> Result<Self, PowerConfigError> {
        Ok(Self {
            service: Service::new(config, directory)?,
            system: OnceCell::new(),
            patience: patience(config.patience_s),
        })
    }

    pub(super) async fn state(&self) -> Result<PowerState, PowerError> {
        Ok(self.system("read the power state").await?.state())
    }

    pub(super) async fn order(&self, order: PowerOrder) -> Result<(), PowerError> {
        match order {
            PowerOrder::On => self.reach(PowerState::On).await,
            PowerOrder::Off => self.reach(PowerState::Off).await,
            PowerOrder::Cycle => {
                self.reach(PowerState::Off).await?;
                self.reach(PowerState::On).await
            }
            PowerOrder::NetworkBootOnce => {
                self.set_network_boot().await?;
                self.reach(PowerState::Off).await?;
                self.reach(PowerState::On).await
            }
        }
    }

    async fn reach(&self, wanted: PowerState) -> Result<(), PowerError> {
        const ATTEMPT: &str = "change the power state";
        let system = self.system(ATTEMPT).await?;
        if system.state() == wanted {
            return Ok(());
        }
        let url = match &system.actions.reset.target {
            Some(path) => self.service.resolve(path, ATTEMPT)?,
            None => {
                let path = format!(
                    "{}/Actions/ComputerSystem.Reset",
                    self.system_url().await?.path().trim_end_matches('/')
                );
                self.service.resolve(&path, ATTEMPT)?
            }
        };
        let body = json!({ "ResetType": system.reset_type(wanted) });
        if let Err(refused) = self
            .service
            .send(ATTEMPT, Method::POST, &url, Some(&body), None)
            .await
        {
            // An order that arrived although its answer was lost is refused when it comes again.
            return if self.state().await? == wanted {
                Ok(())
            } else {
                Err(refused)
            };
        }
        wait_for(wanted, self.patience, INTERVAL, || self.state()).await
    }

    /// Sets the override and reads it back; leaves a system alone that says that it cannot boot from the network this way.
    async fn set_network_boot(&self) -> Result<(), PowerError> {
        const ATTEMPT: &str = "set the next boot to the network";
        let system = self.system(ATTEMPT).await?;
        if system
            .boot
            .targets
            .as_ref()
            .is_some_and(|targets| targets.iter().all(|target| target != "Pxe"))
        {
            tracing::warn!(url = %self.service.url(), "the power controller cannot choose a network boot; the server's own order decides");
            return Ok(());
        }
        let body =
            json!({ "Boot": { "BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": "Pxe" } });
        let url = self.system_url().await?.clone();
        self.service
            .send(ATTEMPT, Method::PATCH, &url, Some(&body), system.etag.as_deref())
            .await?;
        let deadline = tokio::time::Instant::now() + self.patience;
        loop {
            let target = self.system(ATTEMPT).await?.boot.target;
            if target.as_deref() == Some("Pxe") {
                return Ok(());
            }
            if tokio::time::Instant::now() >= deadline {
                let problem = format!("the boot override was set to Pxe but reads {target:?}");
                return Err(PowerError::Answer {
                    attempted: ATTEMPT,
                    url: url.to_string(),
                    problem,
                });
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    async fn system(&self, attempted: &'static str) -> Result<System, PowerError> {
        let url = self.system_url().await?;
        let response = self.service.send(attempted, Method::GET, url, None, None).await?;
        let etag = response
            .headers()
            .get(ETAG)
            .and_then(|tag| tag.to_str().ok())
            .map(str::to_owned);
        let system: System = decode(attempted, url, response).await?;
        Ok(System { etag, ..system })
    }

    /// The system's own URL; the service is asked once when the configuration names the service only.
    async fn system_url(&self) -> Result<&Url, PowerError> {
        const ATTEMPT: &str = "find the system";
        self.system
            .get_or_try_init(|| async {
                if self
                    .service
                    .url()
                    .path()
                    .trim_end_matches('/')
                    .contains("/Systems/")
                {
                    return Ok(self.service.url().clone());
                }
                let url = self.service.resolve("/redfish/v1/Systems", ATTEMPT)?;
                let response = self.service.send(ATTEMPT, Method::GET, &url, None, None).await?;
                let systems: Collection = decode(ATTEMPT, &url, response).await?;
                match systems.members.as_slice() {
                    [only] => self.service.resolve(&only.id, ATTEMPT),
                    several => {
                        let ids: Vec<_> = several.iter().map(|member| member.id.as_str()).collect();
                        let problem = format!(
                            "it has {} systems ({}): name one in power.url",
                            ids.len(),
                            ids.join(", ")
                        );
                        Err(PowerError::Answer {
                            attempted: ATTEMPT,
                            url: url.to_string(),
                            problem,
                        })
                    }
                }
            })
            .await
    }
}
