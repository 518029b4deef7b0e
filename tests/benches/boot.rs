//! Run by `cargo xtask bench boot`; see [`leaseboot_tests::bench::boot`].

fn main() -> anyhow::Result<()> {
    leaseboot_tests::bench::boot::run(&leaseboot_tests::bench::wanted())
}
