//! Types that cross a wire: between Procurement Organizer and Lease Manager, between agent and Lease Manager, and between
//! agent and Procurement Organizer inside the tunnel.
//!
//! No I/O, no clock, no randomness: every value here is made by one program and read by another, possibly of another age.
//! Therefore reports are lenient (unknown fields are ignored, unknown kinds become `Unknown`), while identifiers, digests, keys and
//! addresses are parsed once, at the edge, into types that cannot be wrong.
//!
//! | module | who speaks | to whom |
//! |---|---|---|
//! | [`leases`] | PO | LM, mutual TLS |
//! | [`enrolment`] | PO | LM, once, TLS and an invitation |
//! | [`agent`] | agent | LM, TLS and a boot token |
//! | [`gateway`] | agent, member | PO, plain HTTP inside the tunnel |
//! | [`handover`] | agent | LM, when it hands over by way of the disk |
//! | [`rescue`], [`console`] | agent | LM and PO, when it stays in rescue mode |
//! | [`stage2`] | agent | the wrapper that it becomes after kexec |

pub mod agent;
pub mod architecture;
pub mod archive;
pub mod boot_log;
pub mod console;
pub mod digest;
pub mod disk_image;
pub mod drivers;
pub mod enrolment;
pub mod erasure;
pub mod gateway;
pub mod gpt;
pub mod handover;
pub mod hardware;
pub mod ids;
pub mod installer;
pub mod labels;
pub mod lease;
pub mod leases;
pub mod marks;
pub mod network;
#[cfg(feature = "texts")]
pub mod preseed;
pub mod requirements;
pub mod rescue;
pub mod secret;
pub mod settings;
pub mod stage2;
pub mod timestamp;
#[cfg(feature = "texts")]
pub mod variables;
#[cfg(feature = "texts")]
pub mod yaml;

/// Where the site archive's facts stand in stage 1's root file system, as [`agent::BootFacts`] in JSON.
pub const BOOT_FACTS_PATH: &str = "/leaseboot/boot.json";
/// Where the appended archive puts the agent; the kernel runs it by `rdinit=`.
pub const WRAPPER_PATH: &str = "/leaseboot/init";
/// Where the appended archive puts [`stage2::Stage2Facts`] in JSON, readable by root only.
pub const STAGE2_FACTS_PATH: &str = "/leaseboot/stage2.json";
/// Where the wrapper leaves agent and member facts for `%post`; a tmpfs that survives `switch_root`.
pub const RUNTIME_DIRECTORY: &str = "/run/leaseboot";
/// The same facts beside the wrapper in the initramfs, for installers that never leave it and mount a `/run` of their own.
pub const ARCHIVED_FACTS_PATH: &str = "/leaseboot/facts.json";
/// A kickstart's [`installer::Installer::member_install`], in `%post --nochroot`. Anaconda sets the variable.
pub const MEMBER_INSTALL: &str =
    "/run/leaseboot/agent member install --root \"${ANA_INSTALL_PATH:-/mnt/sysimage}\"";
