//! `cargo xtask`: a dispatcher. The work is done in libraries, where it has tests.

mod bench;
mod demo;
mod dist;
mod fuzz;
mod image;
mod prepare;
mod rotation;
mod test;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// The project's own commands.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make kernel, stage-1 image and network boot files in target/image/
    Image(image::Image),
    /// Show one whole transfer: an empty machine becomes a web server inside the enterprise
    Demo(demo::Demo),
    /// Check everything: formatting, lints, unit tests, and the scenarios on virtual machines
    Test(test::Test),
    /// Make Debian packages of the managers in target/dist/
    Dist(dist::Dist),
    /// Measure ours and the peers side by side
    Bench(bench::Bench),
    /// Feed the readers of strangers' bytes with what libFuzzer makes up
    Fuzz(fuzz::Fuzz),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Image(image) => image.run(),
        Command::Demo(demo) => demo.run(),
        Command::Test(test) => test.run(),
        Command::Dist(dist) => dist.run(),
        Command::Bench(bench) => bench.run(),
        Command::Fuzz(fuzz) => fuzz.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
