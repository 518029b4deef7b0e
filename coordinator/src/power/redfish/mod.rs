//! A thin Redfish client: the requests that a boot needs (DMTF DSP0266; schema ComputerSystem in DSP2046).
//!
//! | request | for |
//! |---|---|
//! | `GET` the system | its power state, what it can do, and where |
//! | `PATCH` the system | the next boot from the network, once |
//! | `POST` the system's Reset action | `On`, `ForceOff` |
//! | `GET /redfish/v1/Systems` | the only system, when the configuration names none |
//! | `POST` and `DELETE` of a session | so that the password crosses once (`session`) |
//!
//! Where the firmware of the server is on record and the service shows a boot mode, the mode is set with the override: a PXE boot
//! in the other mode finds another loader, or none.

mod client;
mod schema;
mod session;
mod trust;

use super::config::{NetworkBoot, RedfishConfig, patience};
use super::{PowerConfigError, PowerError, PowerOrder, PowerState, wait_for};
use client::{Question, Service, decode};
use leaseboot_protocol::hardware::Firmware;
use reqwest::header::ETAG;
use reqwest::{Method, Response, Url};
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
    network_boot: NetworkBoot,
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
            network_boot: config.network_boot,
            patience: patience(config.patience_s),
        })
    }

    pub(super) async fn state(&self) -> Result<PowerState, PowerError> {
        let state = self.seen().await;
        self.service.close().await;
        state
    }

    pub(super) async fn order(&self, order: PowerOrder, firmware: Firmware) -> Result<(), PowerError> {
        let outcome = self.carry_out(order, firmware).await;
        self.service.close().await;
        outcome
    }

    async fn seen(&self) -> Result<PowerState, PowerError> {
        Ok(self.system("read the power state").await?.state())
    }

    async fn carry_out(&self, order: PowerOrder, firmware: Firmware) -> Result<(), PowerError> {
        match order {
            PowerOrder::On => self.reach(PowerState::On).await,
            PowerOrder::Off => self.reach(PowerState::Off).await,
            PowerOrder::Cycle => {
                self.reach(PowerState::Off).await?;
                self.reach(PowerState::On).await
            }
            PowerOrder::NetworkBootOnce => {
                self.set_network_boot(firmware).await?;
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
        let question = Question {
            attempted: ATTEMPT,
            method: Method::POST,
            url: &url,
            body: Some(&body),
            etag: None,
        };
        if let Err(refused) = self.service.send(&question).await {
            // An order that arrived although its answer was lost is refused when it comes again.
            return if self.seen().await? == wanted {
                Ok(())
            } else {
                Err(refused)
            };
        }
        wait_for(wanted, self.patience, INTERVAL, || self.seen()).await
    }

    /// Sets the override and reads it back; leaves a system alone that says that it cannot boot from the network this way.
    async fn set_network_boot(&self, firmware: Firmware) -> Result<(), PowerError> {
        const ATTEMPT: &str = "set the next boot to the network";
        let system = self.system(ATTEMPT).await?;
        let Some(target) = system.boot.network_target(self.network_boot) else {
            tracing::warn!(url = %self.service.url(), "the power controller cannot choose a network boot; the server's own order decides");
            return Ok(());
        };
        let mut boot = json!({ "BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": target });
        let mode = system.boot.mode_to_set(target, firmware);
        if let Some(mode) = mode {
            boot["BootSourceOverrideMode"] = mode.into();
        }
        let body = json!({ "Boot": boot });
        let url = self.system_url().await?.clone();
        let question = Question {
            attempted: ATTEMPT,
            method: Method::PATCH,
            url: &url,
            body: Some(&body),
            etag: system.etag.as_deref(),
        };
        self.service.send(&question).await?;
        let deadline = tokio::time::Instant::now() + self.patience;
        loop {
            let boot = self.system(ATTEMPT).await?.boot;
            if boot.is_set_to_network() && (mode.is_none() || boot.mode.as_deref() == mode) {
                return Ok(());
            }
            if tokio::time::Instant::now() >= deadline {
                let (seen, in_mode) = (boot.target, boot.mode);
                let problem =
                    format!("the boot override was set to {target} but reads {seen:?}, mode {in_mode:?}");
                return Err(PowerError::Answer {
                    attempted: ATTEMPT,
                    url: url.to_string(),
                    problem,
                });
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    async fn get(&self, attempted: &'static str, url: &Url) -> Result<Response, PowerError> {
        let question = Question {
            attempted,
            method: Method::GET,
            url,
            body: None,
            etag: None,
        };
        self.service.send(&question).await
    }

    async fn system(&self, attempted: &'static str) -> Result<System, PowerError> {
        let url = self.system_url().await?;
        let response = self.get(attempted, url).await?;
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
                let response = self.get(ATTEMPT, &url).await?;
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
