//! Run by `cargo xtask bench paths`; see [`leaseboot_tests::bench::paths`].

fn main() -> anyhow::Result<()> {
    leaseboot_tests::bench::paths::run(&leaseboot_tests::bench::wanted())
}
