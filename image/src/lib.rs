//! leaseboot-image
