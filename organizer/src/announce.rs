//! The enterprise learns that a server came or went: a fragment for hosts(5), replaced whole, and a program of the enterprise's own.
//!
//! A program that fails is logged and changes nothing: the server serves, whether or not an inventory knows of it.

use crate::borrowing::Order;
use crate::files;
use leaseboot_protocol::ids::Hostname;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::future::Future;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::process::Command;
use tokio::time::timeout;

const HOOK_DEADLINE: Duration = Duration::from_secs(30);

/// What the enterprise is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A server is in service.
    InService,
    /// It is no longer.
    Gone,
}

impl Change {
    fn word(self) -> &'static str {
        match self {
            Change::InService => "in-service",
            Change::Gone => "gone",
        }
    }
}

/// Tells the enterprise.
pub struct Announcer {
    hosts: PathBuf,
    hook: Vec<String>,
    in_service: Mutex<BTreeMap<IpAddr, Hostname>>,
}

impl Announcer {
    /// An announcer that writes the fragment `hosts` and runs `hook` (program and arguments; empty for none) with three more
    /// arguments: `in-service` or `gone`, name, address.
    pub fn new(hosts: PathBuf, hook: Vec<String>) -> Self {
        Self {
            hosts,
            hook,
            in_service: Mutex::default(),
        }
    }

    /// Begins with those that are in service already, without running the program.
    pub fn restore<'a>(&self, orders: impl Iterator<Item = &'a Order>) {
        let mut in_service = self.in_service();
        in_service.clear();
        in_service.extend(orders.map(|order| (order.address(), order.settings.hostname.clone())));
        self.write(&in_service);
    }

    /// A server came or went. What is returned runs the enterprise's program, and may take its time.
    pub fn change(&self, change: Change, order: &Order) -> impl Future<Output = ()> + Send + 'static {
        let mut in_service = self.in_service();
        match change {
            Change::InService => in_service.insert(order.address(), order.settings.hostname.clone()),
            Change::Gone => in_service.remove(&order.address()),
        };
        self.write(&in_service);
        let (hostname, address) = (order.settings.hostname.to_string(), order.address().to_string());
        run(self.hook.clone(), [change.word().to_owned(), hostname, address])
    }

    fn in_service(&self) -> MutexGuard<'_, BTreeMap<IpAddr, Hostname>> {
        self.in_service.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, in_service: &BTreeMap<IpAddr, Hostname>) {
        let mut text = "# Borrowed servers in service; leaseboot-po replaces this file.\n".to_owned();
        for (address, hostname) in in_service {
            let _ = writeln!(text, "{address} {hostname}");
        }
        if let Err(error) = files::replace(&self.hosts, 0o644, text.as_bytes()) {
            tracing::error!(
                error = crate::error_chain(&error),
                "the hosts fragment is out of date"
            );
        }
    }
}

async fn run(hook: Vec<String>, what: [String; 3]) {
    let Some((program, arguments)) = hook.split_first() else {
        return;
    };
    let child = Command::new(program)
        .args(arguments)
        .args(&what)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .status();
    match timeout(HOOK_DEADLINE, child).await {
        Ok(Ok(status)) if status.success() => tracing::info!(program, ?what, "announced"),
        Ok(Ok(status)) => tracing::error!(program, ?what, %status, "the announcing program failed"),
        Ok(Err(error)) => tracing::error!(program, %error, "the announcing program cannot be run"),
        Err(_) => tracing::error!(program, ?what, "the announcing program was stopped after 30 s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::borrowing::machine::tests::order;

    #[tokio::test]
    async fn the_fragment_follows_and_the_hook_hears() {
        let folder = tempfile::tempdir().unwrap();
        let heard = folder.path().join("heard");
        let script = format!("echo \"$@\" >> {}", heard.display());
        let hook = ["/bin/sh", "-c", &script, "hook"].map(str::to_owned).to_vec();
        let announcer = Announcer::new(folder.path().join("hosts"), hook);
        let hosts = || std::fs::read_to_string(folder.path().join("hosts")).unwrap();
        announcer.change(Change::InService, &order()).await;
        assert!(hosts().contains("10.99.0.10 web-1\n"));
        announcer.change(Change::Gone, &order()).await;
        assert!(!hosts().contains("web-1"));
        let heard = std::fs::read_to_string(heard).unwrap();
        assert_eq!(heard, "in-service web-1 10.99.0.10\ngone web-1 10.99.0.10\n");
    }
}
