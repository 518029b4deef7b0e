//! The agent: all of user space in stage 1, the wrapper around the enterprise's installer in stage 2, and the member's tunnel in the
//! installed system. One static binary, so that it can copy itself from each place to the next.
//!
//! | started as | by | role |
//! |---|---|---|
//! | PID 1, with `/leaseboot/boot.json` | stage 1's kernel | [`stage1`], and [`wipe`] when the lease is over |
//! | PID 1, with `/leaseboot/stage2.json` | the enterprise's kernel (`rdinit=`) | [`stage2`] |
//! | `@leaseboot-tunnel` | the wrapper | [`stage2::tunnel`] |
//! | `agent member install` | the installer's `%post` | [`member::install`] |
//! | `agent member run` | systemd of the installed system | [`member::run`] |
//! | `agent member announce` | systemd, once its services are up | [`member::announce`] |
//!
//! Reboot and exit happen only here and in [`power`]; `exec` only in [`stage2`].

mod backoff;
mod blob;
mod boot_log;
mod clock;
mod console;
mod crash;
mod disk_image;
mod drivers;
mod errors;
mod gateway;
mod hardware;
mod http;
mod init_root;
mod kernel_log;
mod kexec;
mod lm;
mod member;
mod mounts;
mod network;
mod path_mtu;
mod plane;
mod power;
mod report;
mod rescue;
mod stage1;
mod stage2;
mod staging;
mod wipe;

use clap::{Parser, Subcommand};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The agent of a lent server.
#[derive(Parser)]
#[command(name = "leaseboot-agent", version)]
struct Arguments {
    #[command(subcommand)]
    role: Role,
}

#[derive(Subcommand)]
enum Role {
    /// The tunnel of the installed system.
    #[command(subcommand)]
    Member(MemberRole),
}

#[derive(Subcommand)]
enum MemberRole {
    /// Makes the member's key and leaves its tunnel in an installed system (for `%post --nochroot`).
    Install {
        /// Where the installed system is mounted.
        #[arg(long)]
        root: PathBuf,
    },
    /// Carries the member's tunnel until it is told to stop.
    Run {
        /// The facts that `install` left.
        #[arg(long, default_value = member::FACTS_PATH)]
        facts: PathBuf,
    },
    /// Tells the enterprise that the installed system's services can be used.
    Announce {
        /// The facts that `install` left.
        #[arg(long, default_value = member::FACTS_PATH)]
        facts: PathBuf,
    },
}

fn main() -> ExitCode {
    let by_name = std::env::args_os().next();
    if by_name.is_some_and(|name| name == stage2::TUNNEL_ARGV0) {
        return stage2::tunnel::main();
    }
    if std::process::id() == 1 {
        if Path::new(leaseboot_protocol::STAGE2_FACTS_PATH).exists() {
            stage2::main();
        }
        stage1::main();
    }
    let done = match Arguments::parse().role {
        Role::Member(MemberRole::Install { root }) => member::install::main(&root),
        Role::Member(MemberRole::Run { facts }) => member::run::main(&facts),
        Role::Member(MemberRole::Announce { facts }) => member::announce::main(&facts),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("leaseboot-agent: {}", errors::chain(error.as_ref()).join(": "));
            ExitCode::FAILURE
        }
    }
}
