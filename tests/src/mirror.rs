//! An HTTP server inside the enterprise that keeps a log, so that a scenario can wait for a foreign installer's requests and say by whose
//! `User-Agent` they came.
//!
//! A line of the log is `GET /path 200 "who asks"`. The log is a [`Transcript`]: it is in the folder of the run, and can be waited on.

use crate::namespace::Service;
use crate::network::{Network, REPOSITORY_ADDRESS};
use crate::transcript::Transcript;
use anyhow::{Context as _, Result};
use axum::Router;
use axum::extract::Request;
use axum::http::header::USER_AGENT;
use axum::middleware::{self, Next};
use axum::response::Response;
use std::path::{Path, PathBuf};
use tokio::net::TcpListener;
use tower_http::services::ServeDir;

/// The server; it ends when it is dropped.
pub struct Mirror {
    requests: Transcript,
    _service: Service,
}

impl Mirror {
    /// Serves folders below paths such as `/debian`, at port 80 of the address that the enterprise's repository has.
    pub async fn start(network: &Network, folder: &Path, trees: &[(&'static str, PathBuf)]) -> Result<Self> {
        let requests = Transcript::new("mirror", &folder.join("mirror.log"), &[])?;
        let log = requests.clone();
        let trees = trees.to_vec();
        let start = move || async move {
            let listener = TcpListener::bind((REPOSITORY_ADDRESS, 80))
                .await
                .with_context(|| format!("cannot listen on {REPOSITORY_ADDRESS}, port 80"))?;
            let files = trees.into_iter().fold(Router::new(), |files, (path, folder)| {
                files.nest_service(path, ServeDir::new(folder))
            });
            let files = files.layer(middleware::from_fn(move |request: Request, next: Next| {
                note(log.clone(), request, next)
            }));
            // Failures of single connections are not ours: the installer sees and reports them.
            Ok(((), async move { drop(axum::serve(listener, files).await) }))
        };
        let (service, ()) = network.repo.serve("mirror", start).await?;
        Ok(Self {
            requests,
            _service: service,
        })
    }

    /// What was asked for.
    pub fn requests(&self) -> &Transcript {
        &self.requests
    }
}

async fn note(log: Transcript, request: Request, next: Next) -> Response {
    let agent = request.headers().get(USER_AGENT);
    let agent = agent.map_or_else(String::new, |agent| {
        String::from_utf8_lossy(agent.as_bytes()).into_owned()
    });
    let asked = format!("{} {}", request.method(), request.uri().path());
    let response = next.run(request).await;
    log.note(&format!("{asked} {} {agent:?}", response.status().as_u16()));
    response
}
