//! HTTP to a Redfish service: retries, bounded answers, and a session that is renewed when the service has forgotten it.
//!
//! Nothing in an answer can send the account elsewhere: redirects are not followed, and of a link only the path is taken.

use super::session::{Account, Pass};
use super::trust::trust;
use crate::power::PowerConfigError;
use crate::power::PowerError;
use crate::power::config::{RedfishConfig, patience};
use reqwest::{Client, Method, Response, StatusCode, Url};
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

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

/// A service and the account there.
pub(super) struct Service {
    client: Client,
    url: Url,
    account: Account,
}

/// What is asked of a service.
pub(super) struct Question<'a> {
    pub(super) attempted: &'static str,
    pub(super) method: Method,
    pub(super) url: &'a Url,
    pub(super) body: Option<&'a Value>,
    pub(super) etag: Option<&'a str>,
}

impl Service {
    pub(super) fn new(config: &RedfishConfig, directory: &Path) -> Result<Self, PowerConfigError> {
        let bad_url = || PowerConfigError::Url {
            url: config.url.clone(),
        };
        let url = Url::parse(&config.url).map_err(|_| bad_url())?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() || !url.username().is_empty() {
            return Err(bad_url());
        }
        let tls = trust(&url, config, directory)?;
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_TIME)
            .timeout(REQUEST_TIME.min(patience(config.patience_s)))
            .build()
            .map_err(|source| PowerConfigError::Client {
                url: config.url.clone(),
                source,
            })?;
        Ok(Self {
            client,
            url,
            account: Account::new(config, directory)?,
        })
    }

    /// The URL in the configuration.
    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// A link of the service, on the host that the configuration names and on no other.
    pub(super) fn resolve(&self, path: &str, attempted: &'static str) -> Result<Url, PowerError> {
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

    /// Asks with the account. A session that the service does not know any more is opened anew, once.
    pub(super) async fn send(&self, question: &Question<'_>) -> Result<Response, PowerError> {
        let pass = self.account.pass(self).await?;
        let answer = self.send_with(question, &pass).await;
        let forgotten = matches!(&answer, Err(PowerError::Refused { status: 401, .. }));
        if !(forgotten && matches!(pass, Pass::Session(_))) {
            return answer;
        }
        tracing::debug!(url = %self.url, "the power controller does not know the session any more; another is opened");
        self.account.forget(&pass).await;
        let pass = self.account.pass(self).await?;
        self.send_with(question, &pass).await
    }

    /// Ends the session, so that the controller's few places for sessions stay free.
    pub(super) async fn close(&self) {
        self.account.close(self).await;
    }

    /// Sends a request, again with growing pauses while the service cannot be reached or is in trouble itself.
    pub(super) async fn send_with(
        &self,
        question: &Question<'_>,
        pass: &Pass,
    ) -> Result<Response, PowerError> {
        let mut pauses = RETRIES.iter();
        loop {
            let outcome = self.request(question, pass).send().await;
            let again = match &outcome {
                Ok(response) => {
                    response.status().is_server_error() || response.status() == StatusCode::TOO_MANY_REQUESTS
                }
                Err(_) => true,
            };
            match pauses.next().filter(|_| again) {
                Some(pause) => tokio::time::sleep(*pause).await,
                None => return judge(question.attempted, question.url, outcome).await,
            }
        }
    }

    /// Sends a request once, whose failure harms nobody.
    pub(super) async fn send_once(
        &self,
        question: &Question<'_>,
        pass: &Pass,
    ) -> Result<Response, PowerError> {
        let outcome = self.request(question, pass).timeout(CONNECT_TIME).send().await;
        judge(question.attempted, question.url, outcome).await
    }

    fn request(&self, question: &Question<'_>, pass: &Pass) -> reqwest::RequestBuilder {
        let mut request = self.client.request(question.method.clone(), question.url.clone());
        request = pass.show(request);
        if let Some(body) = question.body {
            request = request.json(body);
        }
        if let Some(etag) = question.etag {
            request = request.header(reqwest::header::IF_MATCH, etag);
        }
        request
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

pub(super) async fn decode<T: serde::de::DeserializeOwned>(
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
