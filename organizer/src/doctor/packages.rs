//! Where installers get their packages from: install servers and the cache's upstreams, and nft, by which the former are opened.

use super::Finding;
use crate::cache::Upstream;
use crate::config::PoConfig;
use crate::error_chain;
use crate::passage::{InstallServer, Protocol, nft_works};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(3);

pub(super) async fn examine(config: &PoConfig) -> Vec<Finding> {
    let mut findings = vec![judge_nft(nft_works().await.map_err(|error| error_chain(&error)))];
    for server in &config.install_servers {
        findings.push(judge_server(server, dial(server).await));
    }
    for cache in &config.caches {
        findings.push(judge_upstream(&cache.name, &cache.url, ask(cache).await));
    }
    findings
}

fn judge_nft(works: Result<(), String>) -> Finding {
    match works {
        Ok(()) => Finding::ok("nft", "the gateway's doors can be set"),
        Err(error) => Finding::problem("nft", error, "apt-get install nftables"),
    }
}

/// The first port, where TCP can tell whether somebody listens.
async fn dial(server: &InstallServer) -> Option<io::Result<()>> {
    let port = server
        .ports
        .first()
        .filter(|_| server.protocol == Protocol::Tcp)?
        .0;
    let address = SocketAddr::from((server.address, port));
    let dialled = timeout(PATIENCE, TcpStream::connect(address)).await;
    Some(dialled.unwrap_or(Err(io::ErrorKind::TimedOut.into())).map(drop))
}

fn judge_server(server: &InstallServer, dialled: Option<io::Result<()>>) -> Finding {
    let check = "install server";
    let place = format!("{} ({})", server.name, server.address);
    match dialled {
        None => Finding::ok(check, format!("{place} is not looked at: UDP")),
        Some(Ok(())) => Finding::ok(check, format!("{place} answers")),
        Some(Err(error)) => {
            let remedy = "start it, or correct `address` and `ports` of its [[install_server]] in po.toml";
            Finding::warning(check, format!("{place} does not answer: {error}"), remedy)
        }
    }
}

/// Any answer will do: an upstream need not have anything at its top.
async fn ask(upstream: &Upstream) -> Result<(), String> {
    let client = upstream.client().map_err(|error| error_chain(&error))?;
    let answer = client
        .head(format!("{}/", upstream.url))
        .timeout(PATIENCE)
        .send()
        .await;
    answer.map(drop).map_err(|error| error_chain(&error))
}

fn judge_upstream(name: &str, url: &str, answer: Result<(), String>) -> Finding {
    let check = "cache";
    match answer {
        Ok(()) => Finding::ok(check, format!("{name}: {url} answers")),
        Err(error) => {
            let found = format!("{name}: {url} does not answer: {error}");
            let remedy =
                "start it, or correct `upstream` of its [[cache]] in po.toml; what is kept is served";
            Finding::warning(check, found, remedy)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn who_listens_answers_and_who_does_not_is_told() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut server = InstallServer {
            name: "packages".to_owned(),
            address: "127.0.0.1".parse().unwrap(),
            protocol: Protocol::Tcp,
            ports: vec![(port, port)],
        };
        let judged = judge_server(&server, dial(&server).await);
        assert_eq!(judged.verdict, Verdict::Ok, "{judged}");
        drop(listener);
        let judged = judge_server(&server, dial(&server).await);
        assert_eq!(judged.verdict, Verdict::Warning, "{judged}");
        let upstream = Upstream {
            name: "debian".to_owned(),
            url: format!("http://127.0.0.1:{port}"),
            max_bytes: 0,
            ca: None,
        };
        let judged = judge_upstream("debian", &upstream.url, ask(&upstream).await);
        assert_eq!(judged.verdict, Verdict::Warning, "{judged}");
        server.protocol = Protocol::Udp;
        assert_eq!(judge_server(&server, dial(&server).await).verdict, Verdict::Ok);
        assert_eq!(judge_nft(Err("no".to_owned())).verdict, Verdict::Problem);
    }
}
