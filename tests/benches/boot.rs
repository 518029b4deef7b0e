//! Run by `cargo xtask bench boot`; see [`leaseboot_tests::bench::boot`].

fn main() -> anyhow::Result<()> {
    // Cargo adds `--bench`.
    let parts: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| word != "--bench")
        .collect();
    leaseboot_tests::bench::boot::run(&parts)
}
