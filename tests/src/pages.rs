//! A web server inside the enterprise that shows one page, whatever is asked of it.

use crate::namespace::Service;
use crate::network::{Network, REPOSITORY_ADDRESS};
use anyhow::Result;

/// Shows `page` at this port of [`REPOSITORY_ADDRESS`], for as long as the service is kept.
///
/// # Errors
/// When the port is taken.
pub async fn serve(network: &Network, port: u16, page: Vec<u8>) -> Result<Service> {
    let start = move || async move {
        let listener = tokio::net::TcpListener::bind((REPOSITORY_ADDRESS, port)).await?;
        let page = axum::body::Bytes::from(page);
        let router = axum::Router::new().fallback(move || async move { page.clone() });
        // Failures of single connections are not ours: who asked sees them.
        Ok(((), async move { drop(axum::serve(listener, router).await) }))
    };
    Ok(network.repo.serve("pages", start).await?.0)
}
