//! Run by `cargo xtask bench tunnel`; see [`leaseboot_tests::bench::tunnel`].

fn main() -> anyhow::Result<()> {
    leaseboot_tests::bench::tunnel::run(&leaseboot_tests::bench::wanted())
}
