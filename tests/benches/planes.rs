//! Run by `cargo xtask bench planes`; see [`leaseboot_tests::bench::planes`].

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    leaseboot_tests::bench::planes::run(&leaseboot_tests::bench::wanted()).await
}
