//! `leaseboot-po enrol`: from a lender's invitation to the bundle that `leaseboot-po init` wants.

use super::block_on;
use anyhow::Context;
use clap::Args;
use leaseboot_po::enrolment;
use leaseboot_protocol::enrolment::InvitationCode;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;

/// The longest line that is read as a code, in bytes.
const LONGEST_CODE: u64 = 1024;

/// Become known to a lender by the code of its invitation
#[derive(Args)]
pub(crate) struct Enrol {
    /// The lender's API, such as https://10.10.0.1:8443.
    #[arg(long, value_name = "URL")]
    lm: String,
    /// The code that the lender's `leaseboot-lm tenant invite` printed; `-` reads it from the standard input, where no list of
    /// processes shows it.
    #[arg(long)]
    code: String,
    /// The folder to write client.key, client.pem and lm-ca.pem into.
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
}

impl Enrol {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let code = match self.code.as_str() {
            "-" => {
                let mut text = String::new();
                std::io::stdin()
                    .take(LONGEST_CODE)
                    .read_to_string(&mut text)
                    .context("cannot read the code from the standard input")?;
                text.parse::<InvitationCode>()?
            }
            text => text.parse()?,
        };
        std::fs::create_dir_all(&self.out)
            .with_context(|| format!("cannot make the folder {}", self.out.display()))?;
        let tenant = block_on(async { Ok(enrolment::enrol(&self.lm, code, &self.out).await?) })?;
        println!(
            "the lender knows us as {tenant}; the bundle is in {}",
            self.out.display()
        );
        println!(
            "next: leaseboot-po init FOLDER --lm {} --lm-bundle {} …",
            self.lm,
            self.out.display()
        );
        Ok(ExitCode::SUCCESS)
    }
}
