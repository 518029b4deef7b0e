//! Which of the client's options are granted, and how (RFC 2347, 2348, 2349, 7440). What makes no sense is left out of the answer, as
//! the RFCs want it: the transfer then goes on as if it had not been asked for.

use super::packet::ReadRequest;
use std::time::Duration;

/// Block size of RFC 1350, when nothing is negotiated.
const PLAIN_BLOCK: usize = 512;
/// Least and largest block size of RFC 2348.
const BLOCK_SIZES: std::ops::RangeInclusive<u64> = 8..=65464;
/// Blocks in flight: enough to fill a gigabit wire of a rack, small enough not to flood a card's receive ring.
const LARGEST_WINDOW: u64 = 64;
/// What IPv4, UDP and TFTP put in front of a block.
const HEADERS: u64 = 20 + 8 + 4;

/// The terms of one transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Bytes in every block but the last.
    pub block_size: usize,
    /// Blocks that may be under way without an ACK.
    pub window: u64,
    /// How long to wait before sending again, as the client wants it.
    pub timeout: Option<Duration>,
    /// What the OACK says, in the client's order; empty when there is to be none.
    pub granted: Vec<(&'static str, u64)>,
}

impl Terms {
    /// Grants what is asked for a file of `size` bytes on a wire that carries IP packets of `mtu` bytes.
    pub fn negotiate(request: &ReadRequest, size: u64, mtu: u16) -> Self {
        let mut terms = Terms {
            block_size: PLAIN_BLOCK,
            window: 1,
            timeout: None,
            granted: Vec::new(),
        };
        let largest_block = u64::from(mtu)
            .saturating_sub(HEADERS)
            .clamp(*BLOCK_SIZES.start(), *BLOCK_SIZES.end());
        for (name, value) in &request.options {
            let Ok(asked) = value.parse::<u64>() else { continue };
            let granted = match name.as_str() {
                "blksize" if asked >= *BLOCK_SIZES.start() => {
                    let block = asked.min(largest_block);
                    terms.block_size = usize::try_from(block).unwrap_or(PLAIN_BLOCK);
                    ("blksize", block)
                }
                "windowsize" if (1..=65535).contains(&asked) => {
                    terms.window = asked.min(LARGEST_WINDOW);
                    ("windowsize", terms.window)
                }
                "timeout" if (1..=255).contains(&asked) => {
                    terms.timeout = Some(Duration::from_secs(asked));
                    ("timeout", asked)
                }
                "tsize" => ("tsize", size),
                _ => continue,
            };
            if terms.granted.iter().all(|(name, _)| *name != granted.0) {
                terms.granted.push(granted);
            } else {
                // An option may stand once only (RFC 2347): what has been granted stays as it is in the last word.
                terms.granted.retain(|(name, _)| *name != granted.0);
                terms.granted.push(granted);
            }
        }
        terms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(options: &[(&str, &str)]) -> Terms {
        let options = options
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let request = ReadRequest {
            name: "x".to_owned(),
            mode: "octet".to_owned(),
            options,
        };
        Terms::negotiate(&request, 1000, 1500)
    }

    #[test]
    fn grants_in_order_and_clamps() {
        let granted = terms(&[
            ("tsize", "0"),
            ("blksize", "65464"),
            ("windowsize", "65535"),
            ("timeout", "3"),
        ]);
        assert_eq!(
            granted.granted,
            [
                ("tsize", 1000),
                ("blksize", 1468),
                ("windowsize", 64),
                ("timeout", 3)
            ]
        );
        assert_eq!((granted.block_size, granted.window), (1468, 64));
        assert_eq!(granted.timeout, Some(Duration::from_secs(3)));
    }

    #[test]
    fn leaves_out_what_makes_no_sense() {
        for bad in [
            ("blksize", "7"),
            ("blksize", "-1"),
            ("windowsize", "0"),
            ("timeout", "0"),
            ("timeout", "256"),
            ("multicast", ""),
            ("blksize", "99999999999999999999"),
        ] {
            let granted = terms(&[bad]);
            assert_eq!(
                (granted.granted, granted.block_size, granted.window),
                (Vec::new(), 512, 1),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn an_option_that_stands_twice_is_granted_once() {
        let granted = terms(&[("blksize", "1024"), ("blksize", "600")]);
        assert_eq!(
            (granted.granted, granted.block_size),
            (vec![("blksize", 600)], 600)
        );
    }
}
