//! Run by `cargo xtask bench fleet`; see [`leaseboot_tests::bench::fleet`].

fn main() -> anyhow::Result<()> {
    leaseboot_tests::bench::fleet::run(&leaseboot_tests::bench::wanted())
}
