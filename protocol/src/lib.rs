//! Types that cross a wire.

pub mod archive;
