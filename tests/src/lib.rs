//! The laboratory: a lender, a firewall, an enterprise and bare servers on one machine.
//!
//! Network namespaces are the sites, QEMU processes are the bare servers, an emulator by other authors is their management
//! controller. The programs under test run as they would in the field: as processes, with their own files, told what to do by
//! command line and HTTP. A scenario (`tests/tests/*.rs`) builds a [`lab::Lab`], does something, and looks at the outcome; every
//! wait is bounded and says what it saw last.
//!
//! Each module is one thing that stands in the laboratory. It is left as it was found: see [`network::Network`].

pub mod arm64;
pub mod assets;
pub mod bench;
pub mod capture;
pub mod daemon;
pub mod debian_installer;
pub mod disk_image;
pub mod dnsmasq;
pub mod download;
pub mod events;
pub mod fai;
pub mod flash;
pub mod folders;
pub mod fuzz;
mod guardian;
pub mod guest;
pub mod ipv6;
pub mod lab;
pub mod machine;
pub mod managers;
pub mod mirror;
pub mod namespace;
pub mod neighbour;
pub mod network;
pub mod pages;
pub mod phases;
pub mod postgres;
mod qemu;
mod qmp;
pub mod redfish;
pub mod relay;
pub mod residue;
pub mod servers;
pub mod standby;
pub mod survival;
pub mod system_disk;
mod tap;
pub mod tiny_image;
pub mod tls_front;
pub mod transcript;
pub mod typing;
pub mod vlan_switch;
pub mod ways;

/// The Debian packages that the laboratory runs.
pub const HOST_PACKAGES: [&str; 24] = [
    "busybox-static",
    "cpio",
    "curl",
    "dnsmasq-base",
    "gdisk",
    "gzip",
    "iproute2",
    "ipxe-qemu",
    "isc-dhcp-client",
    "mtools",
    "nftables",
    "openssl",
    "ovmf",
    "ovmf-ia32",
    "prometheus",
    "prometheus-alertmanager",
    "python3",
    "python3-venv",
    "qemu-system-x86",
    "sqlite3",
    "stunnel4",
    "tcpdump",
    "xz-utils",
    "zstd",
];
