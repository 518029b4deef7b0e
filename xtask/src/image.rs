//! `cargo xtask image`.

use clap::{Args, ValueEnum};
use leaseboot_image::musl::{Compiler, Toolchain};
use leaseboot_image::{Architecture, Workspace, build};
use std::time::Instant;

/// Make kernel, stage-1 image and network boot files in target/image/.
#[derive(Args)]
pub(crate) struct Image {
    /// Build everything a second time and compare: the image must be the same to the byte
    #[arg(long)]
    verify: bool,
    /// The servers' architecture: x86_64 or aarch64, whose files go into a folder of that name in target/image/
    #[arg(long, default_value_t = Architecture::X86_64)]
    architecture: Architecture,
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
        let toolchain = match self.compiler {
            Choice::Auto => Toolchain::find(self.architecture),
            Choice::Rustup => Toolchain::with(self.architecture, Compiler::Rustup)?,
            Choice::Debian => Toolchain::with(self.architecture, Compiler::Debian)?,
        };
        let built = build::build(&workspace, toolchain)?;
        print!("{}", built.table);
        println!(
            "image: {} is complete after {:.1} s",
            workspace.output(self.architecture).display(),
            begin.elapsed().as_secs_f32()
        );
        if self.verify {
            println!("verify: building everything again");
            build::verify(&workspace, toolchain, &built.manifest)?;
            println!("verify: the second build gave the same bytes");
        }
        Ok(())
    }
}
