//! `cargo xtask image`.

use clap::{Args, ValueEnum};
use leaseboot_image::musl::Compiler;
use leaseboot_image::{Workspace, build};
use std::time::Instant;

/// Make kernel, stage-1 image and network boot files in target/image/.
#[derive(Args)]
pub(crate) struct Image {
    /// Build everything a second time and compare: the image must be the same to the byte
    #[arg(long)]
    verify: bool,
    /// The compiler for the static agent
    #[arg(long, value_enum, default_value_t = Choice::Auto)]
    compiler: Choice,
}

#[derive(Clone, Copy, ValueEnum)]
enum Choice {
    /// rustup's, if it has or gets the musl target; else Debian's
    Auto,
    /// rustup's
    Rustup,
    /// Debian's rustc-web, which builds the standard library from source
    Debian,
}

impl Image {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let begin = Instant::now();
        let workspace = Workspace::of_this_crate();
        let compiler = match self.compiler {
            Choice::Auto => Compiler::find(),
            Choice::Rustup => Compiler::Rustup,
            Choice::Debian => Compiler::Debian,
        };
        let built = build::build(&workspace, compiler)?;
        print!("{}", built.table);
        println!(
            "image: {} is complete after {:.1} s",
            workspace.output().display(),
            begin.elapsed().as_secs_f32()
        );
        if self.verify {
            println!("verify: building everything again");
            build::verify(&workspace, compiler, &built.manifest)?;
            println!("verify: the second build gave the same bytes");
        }
        Ok(())
    }
}
