//! Lines about strangers, a bounded number of them: whoever floods a port must not fill the log of what happens to servers and leases.
//!
//! Each kind of line has its own [`Seldom`], so that a flood of one kind hides no other. What was left out is told by the next line.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lines of a kind that may be written in a [`SPAN`]: a rack that boots with wrong tokens is seen whole, a flood is not.
const MOST: u32 = 50;
const SPAN: Duration = Duration::from_secs(10);

/// How often a kind of line was written and left out.
#[derive(Debug)]
pub(crate) struct Seldom {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// When the span began, and how many lines were written in it.
    span: Option<(Instant, u32)>,
    left_out: u64,
}

/// A line may be written.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Spoken {
    /// How many were left out since the last that was written; nothing when none were.
    pub(crate) left_out: Option<u64>,
}

impl Seldom {
    pub(crate) const fn new() -> Self {
        Self {
            state: Mutex::new(State {
                span: None,
                left_out: 0,
            }),
        }
    }

    /// Whether the line may be written now.
    pub(crate) fn speak(&self) -> Option<Spoken> {
        self.speak_at(Instant::now())
    }

    fn speak_at(&self, now: Instant) -> Option<Spoken> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (begun, written) = state
            .span
            .filter(|(begun, _)| now.saturating_duration_since(*begun) < SPAN)
            .unwrap_or((now, 0));
        if written == MOST {
            state.left_out += 1;
            return None;
        }
        state.span = Some((begun, written + 1));
        let left_out = std::mem::take(&mut state.left_out);
        Some(Spoken {
            left_out: (left_out > 0).then_some(left_out),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_span_has_more_than_its_lines_and_every_line_is_counted(gaps in prop::collection::vec(0_u64..2_000, 1..400)) {
            let (seldom, begun) = (Seldom::new(), Instant::now());
            let (mut now, mut told) = (0, 0);
            let mut written = Vec::new();
            for gap in &gaps {
                now += gap;
                if let Some(Spoken { left_out }) = seldom.speak_at(begun + Duration::from_millis(now)) {
                    told += 1 + left_out.unwrap_or_default();
                    written.push(now);
                }
            }
            let waiting = seldom.state.lock().unwrap().left_out;
            prop_assert_eq!(told + waiting, gaps.len() as u64);
            // A flood meets two spans at most in the time of one.
            let span = u64::try_from(SPAN.as_millis()).unwrap();
            for (first, at) in written.iter().enumerate() {
                let within = written[first..].iter().take_while(|later| **later - at < span).count();
                prop_assert!(within <= 2 * MOST as usize);
            }
        }
    }

    #[test]
    fn a_flood_is_told_once_it_is_over() {
        let (seldom, begun) = (Seldom::new(), Instant::now());
        let spoken = (0..1000).filter_map(|_| seldom.speak_at(begun)).count();
        assert_eq!(spoken, MOST as usize);
        let after = seldom.speak_at(begun + SPAN).unwrap();
        assert_eq!(after.left_out, Some(1000 - u64::from(MOST)));
        assert_eq!(seldom.speak_at(begun + SPAN).unwrap().left_out, None);
    }
}
