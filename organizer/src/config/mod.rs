//! Configuration: strict TOML, written by people. Everything is parsed once, here, into types that cannot be wrong; an error names
//! file, line and value, and says what to do.
//!
//! | file | type |
//! |---|---|
//! | `po.toml` | [`PoConfig`] |
//! | `policies.toml` | [`Policies`](crate::policy::Policies) |
//! | `profiles/NAME/profile.toml` | [`Profile`] |
//! | `images/NAME/image.toml` | [`Image`] |
//!
//! A path in a file is relative to the folder of that file.

mod announce;
mod cache;
mod events;
mod image;
mod install_server;
mod lenders;
mod membership;
mod period;
mod po;
mod profile;
mod sealed;
mod source;

pub use announce::{AnnounceConfig, DnsConfig};
pub use events::EventsConfig;
pub(crate) use image::DiskFile;
pub use image::{Content, Image, ImageFiles};
pub use lenders::LenderConfig;
pub use period::{Period, PeriodError};
pub use po::{GatewayConfig, PoConfig};
pub use profile::{HostnamePattern, Profile};
pub use sealed::{SealedError, demand_private, read_sealed};
pub use source::ConfigError;
pub(crate) use source::Source;
