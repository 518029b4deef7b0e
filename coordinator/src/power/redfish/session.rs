//! Who asks: an account, and the session that it opens (DSP0266, "Redfish session login authentication").
//!
//! ```text
//! nothing ──POST Sessions──► open ──401──► nothing          (renewed once for each request)
//!    │                        └──close: DELETE──► nothing
//!    └── the service has no sessions ──► basic, for good
//! ```
//!
//! A session is closed at the end of each order. One that could not be closed, because the order was dropped or the controller is
//! away, is used again by the next order or times out at the controller.

use super::client::{Question, Service, decode};
use crate::power::config::{Authentication, RedfishConfig};
use crate::power::{PowerConfigError, PowerError, password};
use leaseboot_protocol::secret::Secret;
use reqwest::header::{HeaderName, LOCATION};
use reqwest::{Method, RequestBuilder, Url};
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::Mutex;

const TOKEN: HeaderName = HeaderName::from_static("x-auth-token");

/// An account at a service.
pub(super) struct Account {
    username: String,
    password: Secret,
    standing: Mutex<Standing>,
}

enum Standing {
    Nothing,
    Open(Arc<Session>),
    Basic,
}

pub(super) struct Session {
    token: Secret,
    /// Where it can be closed, when the service said so.
    url: Option<Url>,
}

/// What a request shows.
pub(super) enum Pass {
    Nothing,
    Basic { username: String, password: Secret },
    Session(Arc<Session>),
}

impl Pass {
    pub(super) fn show(&self, request: RequestBuilder) -> RequestBuilder {
        match self {
            Pass::Nothing => request,
            Pass::Basic { username, password } => request.basic_auth(username, Some(password.expose())),
            Pass::Session(session) => match reqwest::header::HeaderValue::from_str(session.token.expose()) {
                Ok(mut value) => {
                    value.set_sensitive(true);
                    request.header(TOKEN, value)
                }
                // It came out of such a header.
                Err(_) => request,
            },
        }
    }
}

impl Account {
    pub(super) fn new(config: &RedfishConfig, directory: &Path) -> Result<Self, PowerConfigError> {
        Ok(Self {
            username: config.username.clone(),
            password: password::read(&directory.join(&config.password_file))?,
            standing: Mutex::new(match config.authentication {
                Authentication::Session => Standing::Nothing,
                Authentication::Basic => Standing::Basic,
            }),
        })
    }

    /// What the next request shows; opens a session if need be.
    pub(super) async fn pass(&self, service: &Service) -> Result<Pass, PowerError> {
        // Held while the session is opened: two requests at once open one.
        let mut standing = self.standing.lock().await;
        if let Standing::Nothing = *standing {
            *standing = match self.open(service).await? {
                Some(session) => Standing::Open(Arc::new(session)),
                None => Standing::Basic,
            };
        }
        Ok(match &*standing {
            Standing::Open(session) => Pass::Session(session.clone()),
            _ => Pass::Basic {
                username: self.username.clone(),
                password: self.password.clone(),
            },
        })
    }

    /// The service refused this pass.
    pub(super) async fn forget(&self, pass: &Pass) {
        let mut standing = self.standing.lock().await;
        if let (Pass::Session(refused), Standing::Open(known)) = (pass, &*standing)
            && Arc::ptr_eq(refused, known)
        {
            *standing = Standing::Nothing;
        }
    }

    /// Closes the session, if there is one. A failure is told in the log only: the session times out by itself.
    pub(super) async fn close(&self, service: &Service) {
        let mut standing = self.standing.lock().await;
        let Standing::Open(session) = &*standing else {
            return;
        };
        let session = session.clone();
        *standing = Standing::Nothing;
        drop(standing);
        let Some(url) = session.url.clone() else { return };
        let question = Question {
            attempted: "close the session",
            method: Method::DELETE,
            url: &url,
            body: None,
            etag: None,
        };
        if let Err(error) = service.send_once(&question, &Pass::Session(session)).await {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "a session at a power controller was not closed"
            );
        }
    }

    /// `None` when the service has no sessions.
    async fn open(&self, service: &Service) -> Result<Option<Session>, PowerError> {
        const ATTEMPT: &str = "open a session";
        let Some(url) = sessions(service).await? else {
            tracing::debug!(url = %service.url(), "the power controller has no sessions; basic authentication is used");
            return Ok(None);
        };
        let body = json!({ "UserName": self.username, "Password": self.password.expose() });
        let question = Question {
            attempted: ATTEMPT,
            method: Method::POST,
            url: &url,
            body: Some(&body),
            etag: None,
        };
        let response = match service.send_with(&question, &Pass::Nothing).await {
            Err(PowerError::Refused {
                status: 404 | 405 | 501,
                ..
            }) => return Ok(None),
            response => response?,
        };
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        let Some(token) = header(TOKEN) else {
            return Err(PowerError::Answer {
                attempted: ATTEMPT,
                url: url.to_string(),
                problem: "a session was opened without an X-Auth-Token: set power.authentication = \"basic\""
                    .to_owned(),
            });
        };
        // Some services give a whole URL there, some a path.
        let place = header(LOCATION).map(path_of);
        Ok(Some(Session {
            token: Secret::new(token),
            url: place.and_then(|path| service.resolve(&path, ATTEMPT).ok()),
        }))
    }
}

/// Where sessions are opened, as the service root says, which needs no account.
async fn sessions(service: &Service) -> Result<Option<Url>, PowerError> {
    const ATTEMPT: &str = "find the sessions";
    let root = service.resolve("/redfish/v1/", ATTEMPT)?;
    let question = Question {
        attempted: ATTEMPT,
        method: Method::GET,
        url: &root,
        body: None,
        etag: None,
    };
    let response = match service.send_with(&question, &Pass::Nothing).await {
        // Against the book the root wants an account too, or is not there.
        Err(PowerError::Refused {
            status: 401 | 403 | 404,
            ..
        }) => return Ok(None),
        response => response?,
    };
    let root: super::schema::Root = decode(ATTEMPT, &root, response).await?;
    match root.links.sessions.id {
        Some(path) => service.resolve(&path, ATTEMPT).map(Some),
        None => Ok(None),
    }
}

fn path_of(place: &str) -> String {
    match Url::parse(place) {
        Ok(url) => url.path().to_owned(),
        Err(_) => place.to_owned(),
    }
}
