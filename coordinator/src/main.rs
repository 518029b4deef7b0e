//! `leaseboot-lm`: reads the command line and hands over to [`leaseboot_lm::commands`].

use clap::{Parser, Subcommand};
use leaseboot_lm::commands::{init, serve, servers, status, tenant};
use std::io::IsTerminal as _;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// The Lease Manager: lends bare servers to enterprises and boots them
#[derive(Debug, Parser)]
#[command(name = "leaseboot-lm", version)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(init::Init),
    Serve(serve::Serve),
    Status(status::Status),
    #[command(subcommand)]
    Tenant(tenant::Tenant),
    #[command(subcommand)]
    Servers(servers::Servers),
}

fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    match run(CommandLine::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("leaseboot-lm: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match command {
        Command::Init(init) => init::run(&init),
        Command::Tenant(tenant) => tenant::run(&tenant),
        Command::Serve(serve) => runtime()?.block_on(serve::run(&serve)),
        Command::Status(status) => runtime()?.block_on(status::run(&status)),
        Command::Servers(servers) => runtime()?.block_on(servers::run(&servers)),
    }
}
