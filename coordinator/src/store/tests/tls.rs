//! A database over TLS, with certificates that the test makes.

use super::*;
use crate::pki::Authority;
use leaseboot_tests::postgres::Cluster;

/// Connections of ours that PostgreSQL counts as encrypted, and all of them.
const ENCRYPTED: &str =
    "SELECT count(*) FILTER (WHERE ssl), count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
    WHERE application_name = 'leaseboot-lm' AND datname = 'postgres'";

async fn opened(folder: &std::path::Path, address: &str, ca: Option<&str>) -> Result<Store, StoreError> {
    let place = Location::parse(folder, address, None, ca.map(std::path::Path::new)).unwrap();
    Store::open(&place).await
}

fn why(refused: Result<Store, StoreError>) -> String {
    let mut error: &dyn std::error::Error = &refused.unwrap_err();
    let mut words = String::new();
    loop {
        words += &format!("{error}: ");
        match error.source() {
            Some(source) => error = source,
            None => return words,
        }
    }
}

#[tokio::test]
async fn where_tls_is_asked_for_there_is_no_connection_without_it() {
    let cluster = Cluster::start_on_loopback().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (authority, ca) = Authority::create().unwrap();
    let (_, stranger) = Authority::create().unwrap();
    for (name, text) in [
        ("ca.pem", &ca.certificate),
        ("stranger.pem", &stranger.certificate),
    ] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let server = authority.server(&["127.0.0.1".to_owned()]).unwrap();
    cluster.speak_tls(&server.certificate, &server.key).unwrap();
    let address = cluster.tcp_address("postgres");

    let store = opened(folder.path(), &address, Some("ca.pem")).await.unwrap();
    let (encrypted, all): (i64, i64) = sqlx::query_as(ENCRYPTED).fetch_one(&store.pool).await.unwrap();
    assert!(encrypted > 0 && encrypted == all, "{encrypted} of {all}");
    store.close().await;
    let refused = why(opened(folder.path(), &address, Some("stranger.pem")).await);
    // Both authorities have the same name, so that only the signature tells them apart.
    assert!(refused.contains("BadSignature"), "{refused}");
    // The certificate names an address and not this name of it.
    let by_name = address.replace("127.0.0.1", "localhost");
    let refused = why(opened(folder.path(), &by_name, Some("ca.pem")).await);
    assert!(refused.contains("not valid for name"), "{refused}");

    cluster.set_tls(false).unwrap();
    for (address, ca) in [
        (address.clone(), Some("ca.pem")),
        (format!("{address}?sslmode=require"), None),
    ] {
        let refused = why(opened(folder.path(), &address, ca).await);
        assert!(refused.contains("server does not support TLS"), "{refused}");
    }
}
