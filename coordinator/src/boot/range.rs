//! The `Range` header of RFC 9110, section 14, as far as boot loaders and download tools use it: one range of bytes.

use std::ops::Range;

/// What a request asks of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All of it: no range, several, or a unit that is not bytes, which a server may ignore.
    Whole,
    /// These bytes, never none.
    Part(Range<usize>),
    /// Only bytes that the file does not have.
    Unsatisfiable,
}

/// Reads the header's value for a file of `length` bytes.
pub(super) fn parse(header: Option<&str>, length: usize) -> Wanted {
    let Some(range) = header.and_then(|value| value.trim().strip_prefix("bytes=")) else {
        return Wanted::Whole;
    };
    let Some((first, last)) = range.split_once('-') else {
        return Wanted::Whole;
    };
    match (number(first), number(last)) {
        (Number::Absent, Number::Is(suffix)) => part(length.saturating_sub(suffix)..length),
        (Number::Is(first), Number::Absent) => part(first..length),
        (Number::Is(first), Number::Is(last)) if first <= last => {
            part(first..last.saturating_add(1).min(length))
        }
        _ => Wanted::Whole,
    }
}

enum Number {
    Absent,
    Is(usize),
    Broken,
}

fn number(text: &str) -> Number {
    match text.trim() {
        "" => Number::Absent,
        digits if digits.bytes().all(|b| b.is_ascii_digit()) => {
            Number::Is(digits.parse().unwrap_or(usize::MAX))
        }
        _ => Number::Broken,
    }
}

fn part(range: Range<usize>) -> Wanted {
    if range.is_empty() {
        Wanted::Unsatisfiable
    } else {
        Wanted::Part(range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_the_three_forms() {
        assert_eq!(parse(Some("bytes=2-4"), 10), Wanted::Part(2..5));
        assert_eq!(parse(Some("bytes=2-"), 10), Wanted::Part(2..10));
        assert_eq!(parse(Some("bytes=-3"), 10), Wanted::Part(7..10));
        assert_eq!(parse(Some("bytes=-30"), 10), Wanted::Part(0..10));
        assert_eq!(parse(Some("bytes=5-500"), 10), Wanted::Part(5..10));
        for unsatisfiable in ["bytes=10-", "bytes=10-12", "bytes=-0"] {
            assert_eq!(parse(Some(unsatisfiable), 10), Wanted::Unsatisfiable);
        }
        for ignored in [
            "bytes=1-2,4-5",
            "bytes=4-2",
            "lines=1-2",
            "bytes=",
            "bytes=-",
            "bytes=a-b",
            "bytes=+1-2",
        ] {
            assert_eq!(parse(Some(ignored), 10), Wanted::Whole, "{ignored}");
        }
        assert_eq!(parse(None, 10), Wanted::Whole);
    }

    proptest! {
        #[test]
        fn a_part_is_inside_the_file(header in "bytes=[0-9]{0,22}-[0-9]{0,22}", length in 0usize..50) {
            if let Wanted::Part(range) = parse(Some(&header), length) {
                prop_assert!(range.start < range.end && range.end <= length);
            }
        }
    }
}
