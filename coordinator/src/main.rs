//! leaseboot-lm

fn main() {}
