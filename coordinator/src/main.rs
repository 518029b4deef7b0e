//! `leaseboot-lm`: reads the command line and hands over to [`leaseboot_lm::commands`].

use clap::{CommandFactory as _, Parser, Subcommand};
use leaseboot_lm::commands::{
    audit, backup, console, init, leases, merge, serve, servers, shell, status, tenant, verify_erasure, watch,
};
use leaseboot_lm::logs::{self, LogFormat};
use std::process::ExitCode;

/// The Lease Manager: lends bare servers to enterprises and boots them
#[derive(Debug, Parser)]
#[command(name = "leaseboot-lm", version, after_help = shell::EXIT_CODES)]
struct CommandLine {
    /// How log lines are written to standard error; RUST_LOG chooses which
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(init::Init),
    Serve(serve::Serve),
    Status(status::Status),
    Backup(backup::Backup),
    Restore(backup::Restore),
    #[command(subcommand)]
    Tenant(tenant::Tenant),
    #[command(subcommand)]
    Servers(servers::Servers),
    #[command(subcommand)]
    Leases(leases::Leases),
    Console(console::Console),
    Watch(watch::Watch),
    Merge(merge::Merge),
    Audit(audit::Audit),
    #[command(hide = true)]
    Completions(shell::Completions),
    #[command(hide = true)]
    Man(shell::Man),
    VerifyErasure(verify_erasure::VerifyErasure),
    ErasureKey(verify_erasure::PrintErasureKey),
}

fn main() -> ExitCode {
    let CommandLine { log_format, command } = CommandLine::parse();
    logs::start(log_format);
    match run(command) {
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
        Command::Tenant(tenant) => runtime()?.block_on(tenant::run(&tenant)),
        Command::VerifyErasure(verify) => verify_erasure::run(&verify),
        Command::ErasureKey(print) => verify_erasure::print_key(&print),
        Command::Serve(serve) => runtime()?.block_on(serve::run(&serve)),
        Command::Backup(backup) => runtime()?.block_on(backup::backup(&backup)),
        Command::Restore(restore) => runtime()?.block_on(backup::restore(&restore)),
        Command::Status(status) => runtime()?.block_on(status::run(&status)),
        Command::Servers(servers) => runtime()?.block_on(servers::run(&servers)),
        Command::Leases(leases) => runtime()?.block_on(leases::run(&leases)),
        Command::Merge(merge) => runtime()?.block_on(merge::run(&merge)),
        Command::Audit(audit) => runtime()?.block_on(audit::run(&audit)),
        Command::Console(console) => runtime()?.block_on(console::run(&console)),
        Command::Watch(watch) => runtime()?.block_on(watch::run(&watch)),
        Command::Completions(completions) => {
            shell::completions(&completions, CommandLine::command());
            Ok(())
        }
        Command::Man(man) => shell::man(&man, CommandLine::command()),
    }
}
