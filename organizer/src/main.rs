//! `leaseboot-po`: finds the subcommand and turns an error into one line and an exit code ([`commands::exit`]).

mod commands;

use clap::{CommandFactory, Parser, Subcommand};
use std::process::ExitCode;

/// Borrows bare servers from a lender and takes them into the enterprise's network.
#[derive(Parser)]
#[command(name = "leaseboot-po", version, after_help = commands::exit::EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Enrol(commands::enrol::Enrol),
    Init(commands::init::Init),
    Serve(commands::serve::Serve),
    Borrow(commands::borrow::Borrow),
    Follow(commands::follow::Follow),
    List(commands::list::List),
    Doctor(commands::doctor::Doctor),
    Log(commands::log::Log),
    Rescue(commands::rescue::Rescue),
    Console(commands::console::Console),
    Release(commands::release::Release),
    Renew(commands::renew::Renew),
    Inventory(commands::inventory::Inventory),
    Erasure(commands::erasure::PrintErasure),
    Image(commands::image::ImageCommand),
    Seal(commands::seal::Seal),
    Event(commands::event::EventCommand),
    Explain(commands::explain::Explain),
    #[command(hide = true)]
    Completions(commands::shell::Completions),
    #[command(hide = true)]
    Man(commands::shell::Man),
}

fn main() -> ExitCode {
    // Only one provider is compiled in; reqwest asks for it to be chosen.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let done = match Cli::parse().command {
        Command::Enrol(enrol) => enrol.run(),
        Command::Init(init) => init.run(),
        Command::Serve(serve) => serve.run(),
        Command::Borrow(borrow) => borrow.run(),
        Command::Follow(follow) => follow.run(),
        Command::List(list) => list.run(),
        Command::Doctor(doctor) => doctor.run(),
        Command::Log(log) => log.run(),
        Command::Rescue(rescue) => rescue.run(),
        Command::Console(console) => console.run(),
        Command::Release(release) => release.run(),
        Command::Renew(renew) => renew.run(),
        Command::Inventory(inventory) => inventory.run(),
        Command::Erasure(erasure) => erasure.run(),
        Command::Image(image) => image.run(),
        Command::Seal(seal) => seal.run(),
        Command::Event(event) => event.run(),
        Command::Explain(explain) => explain.run(),
        Command::Completions(completions) => completions.run(Cli::command()),
        Command::Man(man) => man.run(Cli::command()),
    };
    done.unwrap_or_else(|error| {
        eprintln!("leaseboot-po: {}", leaseboot_po::error_chain(error.as_ref()));
        commands::exit::Exit::of(&error).into()
    })
}
