//! leaseboot-tunnel
