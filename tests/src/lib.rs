//! leaseboot-tests
