//! leaseboot-po

fn main() {}
