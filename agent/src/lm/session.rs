//! What an agent says and asks after the hello, as the boot that it is.

use super::{
    KICKSTART_LIMIT, LeaseManager, LmError, MESSAGE_LIMIT, SHELL_LIMIT, bearer, failure, json, parse,
};
use crate::http;
use bytes::Bytes;
use http_body_util::Full;
use hyper::upgrade::Upgraded;
use hyper::{Method, Request, header};
use hyper_util::rt::TokioIo;
use leaseboot_protocol::agent::{Directive, KeyOffer, Reports};
use leaseboot_protocol::boot_log::LogLines;
use leaseboot_protocol::console::UPGRADE;
use leaseboot_protocol::erasure::ErasureReport;
use leaseboot_protocol::handover::StagedFiles;
use leaseboot_protocol::network::WireguardPublicKey;
use leaseboot_protocol::rescue::{ConsoleCall, RescueWord};
use leaseboot_protocol::secret::Secret;

/// The LM after the hello.
#[derive(Clone)]
pub(crate) struct Session {
    lm: LeaseManager,
    token: Secret,
}

impl Session {
    pub(super) fn new(lm: LeaseManager, token: Secret) -> Self {
        Self { lm, token }
    }

    /// Hands the public half of this boot's key over.
    pub(crate) async fn offer_key(&self, key: WireguardPublicKey) -> Result<(), LmError> {
        let body = json(&KeyOffer { key });
        self.lm
            .request(
                "hand the tunnel's key over",
                Method::PUT,
                "/v1/agent/key",
                &self.token,
                body,
                MESSAGE_LIMIT,
            )
            .await
            .map(|_| ())
    }

    /// The merged kickstart.
    pub(crate) async fn kickstart(&self) -> Result<Bytes, LmError> {
        let path = "/v1/agent/kickstart";
        self.lm
            .request(
                "fetch the kickstart",
                Method::GET,
                path,
                &self.token,
                Bytes::new(),
                KICKSTART_LIMIT,
            )
            .await
    }

    /// Whether to stay in rescue mode, and who waits for a console.
    pub(crate) async fn rescue(&self) -> Result<RescueWord, LmError> {
        let (what, path) = ("ask about rescue mode", "/v1/agent/rescue");
        let answer = self
            .lm
            .request(what, Method::GET, path, &self.token, Bytes::new(), MESSAGE_LIMIT)
            .await?;
        parse(what, &answer)
    }

    /// The shell of rescue mode.
    pub(crate) async fn shell(&self) -> Result<Bytes, LmError> {
        let (what, path) = ("fetch the shell", "/v1/agent/shell");
        self.lm
            .request(what, Method::GET, path, &self.token, Bytes::new(), SHELL_LIMIT)
            .await
    }

    /// Opens the console that somebody waits for, at the LM where they wait.
    pub(crate) async fn console(&self, call: &ConsoleCall) -> Result<TokioIo<Upgraded>, LmError> {
        let what = "open a console";
        let place = call.lm_url.as_deref().and_then(|url| self.lm.place_of(url));
        let (authority, stream) = match place {
            Some(place) => (place.authority(), self.lm.connect_to(place).await?),
            None => {
                let (number, stream) = self.lm.connect().await?;
                (self.lm.places[number].authority(), stream)
            }
        };
        let request = Request::builder()
            .method(Method::GET)
            .uri(format!("/v1/agent/console/{}", call.id))
            .header(header::HOST, &authority)
            .header(header::AUTHORIZATION, bearer(&self.token)?)
            .header(header::CONNECTION, "upgrade")
            .header(header::UPGRADE, UPGRADE)
            .body(Full::new(Bytes::new()))
            .map_err(|error| LmError::Facts {
                what: error.to_string(),
            })?;
        let upgraded = http::upgrade(stream, request).await;
        upgraded.map_err(|source| failure(what, authority, source))
    }

    /// Tells what was done.
    pub(crate) async fn report(&self, reports: &Reports) -> Result<Directive, LmError> {
        let path = "/v1/agent/reports";
        let answer = self
            .lm
            .request(
                "report",
                Method::POST,
                path,
                &self.token,
                json(reports),
                MESSAGE_LIMIT,
            )
            .await?;
        parse("report", &answer)
    }

    /// Tells what the boot said on its console.
    pub(crate) async fn log(&self, lines: &LogLines) -> Result<(), LmError> {
        let (what, path) = ("send the log", "/v1/agent/log");
        self.lm
            .request(what, Method::POST, path, &self.token, json(lines), MESSAGE_LIMIT)
            .await
            .map(|_| ())
    }

    /// Tells what lies on the server's own disk; the LM orders the start that enters it. May be repeated.
    pub(crate) async fn staged(&self, files: &StagedFiles) -> Result<(), LmError> {
        self.lm
            .request(
                "tell what is staged",
                Method::PUT,
                "/v1/agent/staged",
                &self.token,
                json(files),
                MESSAGE_LIMIT,
            )
            .await
            .map(|_| ())
    }

    /// Tells what became of the disks; the LM signs it for the tenant. May be repeated.
    pub(crate) async fn erasure(&self, report: &ErasureReport) -> Result<Directive, LmError> {
        let what = "report the erasure";
        let answer = self
            .lm
            .request(
                what,
                Method::PUT,
                "/v1/agent/erasure",
                &self.token,
                json(report),
                MESSAGE_LIMIT,
            )
            .await?;
        parse(what, &answer)
    }

    /// The token, for the facts of stage 2.
    pub(crate) fn token(&self) -> &Secret {
        &self.token
    }
}
