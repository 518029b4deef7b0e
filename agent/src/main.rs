//! leaseboot-agent

fn main() {}
