//! The binary, in front of a daemon's control socket in the test's own process.

use super::{Enterprise, PATIENCE, Running, key};
use leaseboot_console::socket;
use leaseboot_po::control::server;
use leaseboot_protocol::lease::LeaseState;
use std::fs;
use std::process::Output;
use std::sync::Arc;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

pub fn po(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_leaseboot-po"));
    command.args(arguments).kill_on_drop(true);
    command
}

/// Standard output, standard error and exit status.
pub async fn words(arguments: &[&str]) -> (String, String, i32) {
    said(po(arguments).output().await.unwrap())
}

pub fn said(output: Output) -> (String, String, i32) {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        text(output.stdout),
        text(output.stderr),
        output.status.code().unwrap(),
    )
}

/// A daemon's control socket in this process, in front of a scripted lender.
pub async fn daemon(enterprise: &Enterprise) -> (Running, String, CancellationToken) {
    let config = enterprise.folder.path().join("po.toml");
    fs::write(&config, super::PO_TOML).unwrap();
    let running = enterprise.serve().await;
    let socket = socket::bind(enterprise.folder.path().join("po.sock"))
        .await
        .unwrap();
    let stop = CancellationToken::new();
    tokio::spawn(server::run(socket, Arc::clone(&running.organizer), stop.clone()));
    (running, config.display().to_string(), stop)
}

/// What the lender and the `nth` server, counted from 1, do in a smooth transfer.
pub async fn transfer(enterprise: &Enterprise, po: &Running, nth: u8) {
    let lender = &enterprise.lender;
    let lease = format!("l-{nth}");
    lender.ordered(&format!("boot {lease}")).await;
    lender.moves(&lease, LeaseState::Booting);
    lender.moves(&lease, LeaseState::Stage1);
    lender.agent_key(&lease, key(2 * nth - 1));
    lender.moves(&lease, LeaseState::Chained);
    lender.moves(&lease, LeaseState::Installing);
    let (member, address) = (key(2 * nth), enterprise.lender.address_of(&lease));
    let server = po.server(&address);
    let registered = async { while server.register(member).await.status() != 200 {} };
    tokio::time::timeout(PATIENCE, registered).await.unwrap();
    lender.ordered(&format!("installed {lease}")).await;
    lender.moves(&lease, LeaseState::Installed);
    enterprise.peers.shake(member);
    server.joins().await;
    lender.ordered(&format!("in-service {lease}")).await;
    lender.moves(&lease, LeaseState::InService);
}
