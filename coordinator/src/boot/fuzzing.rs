//! See [`crate::fuzzing`].

use super::range::{self, Wanted};
use super::request::{LONGEST_HEAD, Request};

/// What a connection for boot files reads, and the range that it asks for.
pub(crate) fn http(bytes: &[u8]) {
    let mut rest = &bytes[..bytes.len().min(LONGEST_HEAD)];
    while let Ok(Some((request, length))) = Request::parse(rest) {
        assert!((1..=rest.len()).contains(&length));
        if let Wanted::Part(part) = range::parse(request.range.as_deref(), 1000) {
            assert!(part.start < part.end && part.end <= 1000);
        }
        rest = &rest[length..];
    }
}
