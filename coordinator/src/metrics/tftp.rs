//! Counts what TFTP is asked for, in front of who knows the names.

use super::BootRequest;
use crate::lease::Driver;
use crate::tftp::TftpNames;
use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use std::net::IpAddr;
use std::sync::Arc;

/// Names whose askers are counted.
pub struct CountedNames {
    names: Arc<dyn TftpNames>,
    driver: Arc<Driver>,
}

impl CountedNames {
    /// Counts with the driver's numbers what `names` is asked for.
    pub fn new(names: Arc<dyn TftpNames>, driver: Arc<Driver>) -> Arc<Self> {
        Arc::new(Self { names, driver })
    }
}

impl TftpNames for CountedNames {
    fn open<'a>(&'a self, name: &'a str, from: IpAddr) -> BoxFuture<'a, Option<Bytes>> {
        async move {
            let found = self.names.open(name, from).await;
            let what = match found {
                Some(_) => BootRequest::TftpFile,
                None => BootRequest::TftpMissing,
            };
            self.driver.metrics().boot_request(what);
            found
        }
        .boxed()
    }
}
