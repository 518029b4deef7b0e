//! A thin Redfish client: the four requests that a boot needs (DMTF DSP0266; schema ComputerSystem in DSP2046).
//!
//! | request | for |
//! |---|---|
//! | `GET` the system | its power state, what it can do, and where |
//! | `PATCH` the system | the next boot from the network, once |
//! | `POST` the system's Reset action | `On`, `ForceOff` |
//! | `GET /redfish/v1/Systems` | the only system, when the configuration names none |
//!
//! The account goes along as HTTP basic authentication. Nothing in an answer can send it elsewhere: redirects are not followed, and of
//! a link only the path is taken.

use super::config::{PowerConfigError, RedfishConfig, patience};
use super::{PowerError, PowerOrder, PowerState, wait_for};
use leaseboot_protocol::secret::Secret;
use reqwest::header::ETAG;
use reqwest::{Client, Method, Response, StatusCode, Url};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OnceCell;

/// How often the state is asked for while a change is awaited.
const INTERVAL: Duration = Duration::from_millis(500);
/// Pauses before a request is tried again that failed by no fault of its own.
const RETRIES: [Duration; 4] = [
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
];
const CONNECT_TIME: Duration = Duration::from_secs(5);
const REQUEST_TIME: Duration = Duration::from_secs(30);
/// The largest answer that is read, in bytes.
const LARGEST_ANSWER: usize = 1 << 20;

/// The power of one server behind a Redfish service.
pub struct RedfishController {
    client: Client,
    url: Url,
    system: OnceCell<Url>,
    username: String,
    password: Secret,
    patience: Duration,
}

impl std::fmt::Debug for RedfishController {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedfishController")
            .field("url", &self.url.as_str())
            .finish_non_exhaustive()
    }
}

/// What is read of a ComputerSystem.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct System {
    power_state: Option<String>,
    boot: Boot,
    actions: Actions,
    #[serde(skip)]
    etag: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Boot {
    #[serde(rename = "BootSourceOverrideTarget")]
    target: Option<String>,
    #[serde(rename = "BootSourceOverrideTarget@Redfish.AllowableValues")]
    targets: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Actions {
    #[serde(rename = "#ComputerSystem.Reset")]
    reset: Reset,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Reset {
    target: Option<String>,
    #[serde(rename = "ResetType@Redfish.AllowableValues")]
    types: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Collection {
    #[serde(rename = "Members")]
    members: Vec<Member>,
}

#[derive(Deserialize)]
struct Member {
    #[serde(rename = "@odata.id")]
    id: String,
}

impl System {
    fn state(&self) -> PowerState {
        match self.power_state.as_deref() {
            Some("On") => PowerState::On,
            Some("Off") => PowerState::Off,
            _ => PowerState::Unknown,
        }
    }

    /// The reset types to try for a state, best first; those that the system says it takes, when it says so.
    fn reset_type(&self, wanted: PowerState) -> &'static str {
        let types: [&'static str; 2] = if wanted == PowerState::On {
            ["On", "ForceOn"]
        } else {
            ["ForceOff", "PushPowerButton"]
        };
        let allowed = self.actions.reset.types.as_ref();
        let taken =
            |kind: &&'static str| allowed.is_some_and(|allowed| allowed.iter().any(|known| known == kind));
        types.into_iter().find(taken).unwrap_or(types[0])
    }
}

impl RedfishController {
    /// Reads password and certificates; asks nothing of the service.
    ///
    /// # Errors
    /// [`PowerConfigError`].
    pub fn new(config: &RedfishConfig, directory: &Path) -> Result<Self, PowerConfigError> {
        let bad_url = || PowerConfigError::Url {
            url: config.url.clone(),
        };
        let url = Url::parse(&config.url).map_err(|_| bad_url())?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() || !url.username().is_empty() {
            return Err(bad_url());
        }
        let tls = trust(&url, config.ca_file.as_ref().map(|file| directory.join(file)))?;
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_TIME)
            .timeout(REQUEST_TIME)
            .build()
            .map_err(|source| PowerConfigError::Client {
                url: config.url.clone(),
                source,
            })?;
        Ok(Self {
            client,
            url,
            system: OnceCell::new(),
            username: config.username.clone(),
            password: read_password(&directory.join(&config.password_file))?,
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
            Some(path) => self.resolve(path, ATTEMPT)?,
            None => {
                let path = format!(
                    "{}/Actions/ComputerSystem.Reset",
                    self.system_url().await?.path().trim_end_matches('/')
                );
                self.resolve(&path, ATTEMPT)?
            }
        };
        let body = json!({ "ResetType": system.reset_type(wanted) });
        if let Err(refused) = self.send(ATTEMPT, Method::POST, &url, Some(&body), None).await {
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
            tracing::warn!(url = %self.url, "the power controller cannot choose a network boot; the server's own order decides");
            return Ok(());
        }
        let body =
            json!({ "Boot": { "BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": "Pxe" } });
        let url = self.system_url().await?.clone();
        self.send(ATTEMPT, Method::PATCH, &url, Some(&body), system.etag.as_deref())
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
        let response = self.send(attempted, Method::GET, url, None, None).await?;
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
                if self.url.path().trim_end_matches('/').contains("/Systems/") {
                    return Ok(self.url.clone());
                }
                let url = self.resolve("/redfish/v1/Systems", ATTEMPT)?;
                let response = self.send(ATTEMPT, Method::GET, &url, None, None).await?;
                let systems: Collection = decode(ATTEMPT, &url, response).await?;
                match systems.members.as_slice() {
                    [only] => self.resolve(&only.id, ATTEMPT),
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

    /// A link of the service, on the host that the configuration names and on no other.
    fn resolve(&self, path: &str, attempted: &'static str) -> Result<Url, PowerError> {
        let mut url = self.url.clone();
        url.set_query(None);
        url.set_fragment(None);
        url.set_path(path);
        if path.starts_with('/') && !path.starts_with("//") {
            return Ok(url);
        }
        let problem = format!("the link {path:?} is not a path");
        Err(PowerError::Answer {
            attempted,
            url: self.url.to_string(),
            problem,
        })
    }

    /// Sends a request, again with growing pauses while the service cannot be reached or is in trouble itself.
    async fn send(
        &self,
        attempted: &'static str,
        method: Method,
        url: &Url,
        body: Option<&Value>,
        etag: Option<&str>,
    ) -> Result<Response, PowerError> {
        let mut pauses = RETRIES.iter();
        loop {
            let mut request = self.client.request(method.clone(), url.clone());
            request = request.basic_auth(&self.username, Some(self.password.expose()));
            if let Some(body) = body {
                request = request.json(body);
            }
            if let Some(etag) = etag {
                request = request.header(reqwest::header::IF_MATCH, etag);
            }
            let outcome = request.send().await;
            let again = match &outcome {
                Ok(response) => {
                    response.status().is_server_error() || response.status() == StatusCode::TOO_MANY_REQUESTS
                }
                Err(_) => true,
            };
            match pauses.next().filter(|_| again) {
                Some(pause) => tokio::time::sleep(*pause).await,
                None => return judge(attempted, url, outcome).await,
            }
        }
    }
}

async fn judge(
    attempted: &'static str,
    url: &Url,
    outcome: Result<Response, reqwest::Error>,
) -> Result<Response, PowerError> {
    let response = outcome.map_err(|source| PowerError::Unreachable {
        attempted,
        url: url.to_string(),
        source: source.without_url(),
    })?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let said = read(attempted, url, response).await.unwrap_or_default();
    let message = serde_json::from_slice::<Value>(&said)
        .ok()
        .and_then(|answer| Some(answer.pointer("/error/message")?.as_str()?.to_owned()))
        .unwrap_or_else(|| {
            String::from_utf8_lossy(&said[..said.len().min(200)])
                .trim()
                .to_owned()
        });
    Err(PowerError::Refused {
        attempted,
        url: url.to_string(),
        status: status.as_u16(),
        message,
    })
}

async fn decode<T: serde::de::DeserializeOwned>(
    attempted: &'static str,
    url: &Url,
    response: Response,
) -> Result<T, PowerError> {
    let bytes = read(attempted, url, response).await?;
    serde_json::from_slice(&bytes).map_err(|error| PowerError::Answer {
        attempted,
        url: url.to_string(),
        problem: error.to_string(),
    })
}

async fn read(attempted: &'static str, url: &Url, mut response: Response) -> Result<Vec<u8>, PowerError> {
    let broken = |source: reqwest::Error| PowerError::Unreachable {
        attempted,
        url: url.to_string(),
        source: source.without_url(),
    };
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(broken)? {
        if bytes.len() + chunk.len() > LARGEST_ANSWER {
            let problem = format!("it is longer than {LARGEST_ANSWER} bytes");
            return Err(PowerError::Answer {
                attempted,
                url: url.to_string(),
                problem,
            });
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn read_password(path: &Path) -> Result<Secret, PowerConfigError> {
    let text = std::fs::read_to_string(path)
        .map(zeroize::Zeroizing::new)
        .map_err(|source| PowerConfigError::Read {
            path: path.to_owned(),
            key: "password_file",
            source,
        })?;
    match text.lines().next() {
        Some(password) if !password.is_empty() => Ok(Secret::new(password)),
        _ => Err(PowerConfigError::NoPassword {
            path: path.to_owned(),
        }),
    }
}

/// Trusts the certificates of the file and no others: controllers have no names that public authorities know.
fn trust(url: &Url, file: Option<PathBuf>) -> Result<rustls::ClientConfig, PowerConfigError> {
    let mut roots = rustls::RootCertStore::empty();
    match file {
        Some(path) => {
            let bytes = std::fs::read(&path).map_err(|source| PowerConfigError::Read {
                path: path.clone(),
                key: "ca_file",
                source,
            })?;
            for certificate in CertificateDer::pem_slice_iter(&bytes) {
                let bad = |problem: String| PowerConfigError::Certificates {
                    path: path.clone(),
                    problem,
                };
                let certificate = certificate.map_err(|error| bad(error.to_string()))?;
                roots.add(certificate).map_err(|error| bad(error.to_string()))?;
            }
            if roots.is_empty() {
                return Err(PowerConfigError::Certificates {
                    path,
                    problem: "it has none".to_owned(),
                });
            }
        }
        None if url.scheme() == "https" => return Err(PowerConfigError::NoTrust { url: url.to_string() }),
        None => {}
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring provides the suites of every protocol version");
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}
