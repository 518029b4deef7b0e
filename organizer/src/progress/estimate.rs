//! How long a transfer still takes: from the rate of the bytes that move, and from the courses of earlier transfers of the same profile.
//!
//! Phases overlap and differ from installer to installer, so nothing here knows their order. An earlier transfer is kept as what was
//! *left* at each beginning and end of a phase; of the present one, the last such mark that earlier ones have, too, says where it is:
//!
//! ```text
//! earlier     search ┤ merge ┤ firmware ┤ … initrd ├──────────── left after initrd ────────────┤ in service
//! this one    search ┤ merge ┤ firmware ┤ … init…──► bytes to go ÷ rate, then as long as it took the others (their median)
//! ```
//!
//! Pure: the same marks, courses and time give the same answer. While nothing happens the answer only shrinks, and it is never
//! below zero: a transfer that takes longer than its predecessors is due, and says so.

use super::phases::Phase;
use leaseboot_protocol::timestamp::Timestamp;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// One end of a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Edge {
    /// It began.
    Began,
    /// It was over.
    Ended,
}

/// A moment that every transfer of a kind has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Mark {
    /// The phase.
    pub phase: Phase,
    /// Which end of it.
    pub edge: Edge,
}

/// What was left of an earlier transfer at a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftAt {
    /// The mark.
    #[serde(flatten)]
    pub mark: Mark,
    /// From there until the server was in service, in milliseconds.
    pub left_ms: u64,
}

/// An earlier transfer that came into service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Course {
    marks: Vec<LeftAt>,
}

/// Bytes of a phase that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// The phase.
    pub phase: Phase,
    /// When it began.
    pub began: Timestamp,
    /// When its bytes were counted last.
    pub at: Timestamp,
    /// Bytes so far.
    pub bytes: u64,
    /// Bytes in all, when known.
    pub total: Option<u64>,
}

/// Where a transfer is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Here {
    /// Its marks so far, oldest first.
    pub marks: Vec<(Mark, Timestamp)>,
    /// The bytes that move.
    pub flow: Option<Flow>,
}

/// What is left; nothing where nothing is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    /// Of the phase that moves bytes.
    pub phase: Option<Duration>,
    /// Until the server is in service.
    pub transfer: Option<Duration>,
}

impl Course {
    /// The course of a transfer with these marks that ended at `end`. Of a mark that came twice, the later one counts: a phase of an
    /// earlier boot attempt says nothing about how long the rest takes.
    pub fn new(marks: &[(Mark, Timestamp)], end: Timestamp) -> Self {
        let mut kept: Vec<LeftAt> = Vec::new();
        for (mark, at) in marks {
            let left_ms = millis(end.since(*at));
            kept.retain(|seen| seen.mark != *mark);
            kept.push(LeftAt { mark: *mark, left_ms });
        }
        Self { marks: kept }
    }

    fn left_at(&self, mark: Mark) -> Option<Duration> {
        let found = self.marks.iter().find(|seen| seen.mark == mark)?;
        Some(Duration::from_millis(found.left_ms))
    }
}

impl Flow {
    /// Bytes per second since the phase began, once there are both.
    #[allow(clippy::cast_precision_loss)]
    pub fn rate(&self) -> Option<f64> {
        let seconds = self.at.since(self.began).as_secs_f64();
        (self.bytes > 0 && seconds > 0.0).then(|| self.bytes as f64 / seconds)
    }

    /// How long the missing bytes take at this rate, as of `now`.
    #[allow(clippy::cast_precision_loss)]
    fn left(&self, now: Timestamp) -> Option<Duration> {
        let missing = self.total?.saturating_sub(self.bytes) as f64;
        let left = Duration::try_from_secs_f64(missing / self.rate()?).ok()?;
        Some(left.saturating_sub(now.since(self.at)))
    }
}

/// What is left of the transfer that is `here`, as of `now`.
pub fn estimate(courses: &[Course], here: &Here, now: Timestamp) -> Estimate {
    let typical = |mark| {
        let left = courses.iter().filter_map(|course| course.left_at(mark));
        median(left.collect())
    };
    let phase = here.flow.and_then(|flow| flow.left(now));
    let after_the_phase = here.flow.and_then(|flow| {
        typical(Mark {
            phase: flow.phase,
            edge: Edge::Ended,
        })
    });
    let by_marks = here.marks.iter().rev().find_map(|(mark, at)| {
        let left = typical(*mark)?;
        Some(left.saturating_sub(now.since(*at)))
    });
    let by_bytes = phase
        .zip(after_the_phase)
        .map(|(phase, after)| phase.saturating_add(after));
    Estimate {
        phase,
        transfer: by_bytes.or(by_marks),
    }
}

fn median(mut values: Vec<Duration>) -> Option<Duration> {
    values.sort_unstable();
    let upper = *values.get(values.len() / 2)?;
    let lower = values[(values.len() - 1) / 2];
    Some(lower + (upper - lower) / 2)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PHASES: [Phase; 4] = [Phase::Search, Phase::Firmware, Phase::Stage2, Phase::Installation];

    fn mark(n: usize) -> Mark {
        let edge = if n.is_multiple_of(2) {
            Edge::Began
        } else {
            Edge::Ended
        };
        Mark {
            phase: PHASES[n / 2],
            edge,
        }
    }

    /// Marks at growing times, and the end after them.
    fn times() -> impl Strategy<Value = Vec<u64>> {
        prop::collection::vec(0u64..600_000, 9).prop_map(|steps| {
            let mut at = 0;
            steps
                .into_iter()
                .map(|step| {
                    at += step;
                    at
                })
                .collect()
        })
    }

    fn marks(times: &[u64]) -> Vec<(Mark, Timestamp)> {
        (0..8).map(|n| (mark(n), Timestamp(times[n]))).collect()
    }

    fn course(times: &[u64]) -> Course {
        Course::new(&marks(times), Timestamp(times[8]))
    }

    fn flow(bytes: u64, at: u64) -> Flow {
        Flow {
            phase: Phase::Installation,
            began: Timestamp(0),
            at: Timestamp(at),
            bytes,
            total: Some(1_000_000),
        }
    }

    #[test]
    fn without_earlier_transfers_only_bytes_tell() {
        let mut here = Here {
            marks: vec![(mark(6), Timestamp(0))],
            flow: None,
        };
        assert_eq!(estimate(&[], &here, Timestamp(5)), Estimate::default());
        here.flow = Some(flow(250_000, 10_000));
        let known = estimate(&[], &here, Timestamp(12_000));
        assert_eq!(known.phase, Some(Duration::from_secs(28)));
        assert_eq!(known.transfer, None);
    }

    #[test]
    fn the_bytes_of_this_line_count_for_their_phase_and_the_others_for_the_rest() {
        let earlier = course(&[0, 0, 0, 0, 0, 0, 0, 60_000, 90_000]);
        let here = Here {
            marks: vec![(mark(6), Timestamp(0))],
            flow: Some(flow(250_000, 100_000)),
        };
        let known = estimate(&[earlier], &here, Timestamp(100_000));
        assert_eq!(known.transfer, Some(Duration::from_secs(300 + 30)));
    }

    #[test]
    fn of_boot_attempts_the_last_one_counts() {
        let twice = [
            (mark(2), Timestamp(0)),
            (mark(2), Timestamp(70_000)),
            (mark(3), Timestamp(80_000)),
        ];
        let course = Course::new(&twice, Timestamp(100_000));
        let here = Here {
            marks: vec![(mark(2), Timestamp(0))],
            flow: None,
        };
        let known = estimate(&[course], &here, Timestamp(0));
        assert_eq!(known.transfer, Some(Duration::from_secs(30)));
    }

    #[test]
    fn a_course_survives_json() {
        let course = course(&[0, 1, 2, 3, 4, 5, 6, 7, 8]);
        let json = serde_json::to_string(&course).unwrap();
        assert_eq!(serde_json::from_str::<Course>(&json).unwrap(), course, "{json}");
    }

    proptest! {
        #[test]
        fn the_same_course_again_is_foretold_exactly(times in times(), at in 0usize..8) {
            let here = Here { marks: marks(&times)[..=at].to_vec(), flow: None };
            let known = estimate(&[course(&times)], &here, Timestamp(times[at])).transfer;
            // Two marks at one moment are told apart by what follows them.
            prop_assert_eq!(known, Some(Duration::from_millis(times[8] - times[at])));
        }

        #[test]
        fn while_nothing_happens_it_shrinks_and_no_faster_than_time_passes(
            courses in prop::collection::vec(times(), 0..5), here in times(), at in 0usize..8, bytes in 0u64..1_000_000,
            passed in 0u64..10_000_000,
        ) {
            let courses: Vec<_> = courses.iter().map(|times| course(times)).collect();
            let now = here[at];
            for flow in [None, Some(flow(bytes, now))] {
                let here = Here { marks: marks(&here)[..=at].to_vec(), flow };
                let before = estimate(&courses, &here, Timestamp(now)).transfer;
                let after = estimate(&courses, &here, Timestamp(now + passed)).transfer;
                prop_assert_eq!(before.is_some(), after.is_some());
                if let (Some(before), Some(after)) = (before, after) {
                    prop_assert!(after <= before && before <= after + Duration::from_millis(passed));
                }
            }
        }

        #[test]
        fn more_bytes_in_the_same_time_never_mean_a_longer_wait(
            fewer in 1u64..1_000_000, more in 0u64..1_000_000, at in 1u64..10_000_000, times in times(),
        ) {
            let left = |bytes| {
                let here = Here { marks: vec![(mark(6), Timestamp(0))], flow: Some(flow(bytes, at)) };
                estimate(&[course(&times)], &here, Timestamp(at)).transfer
            };
            prop_assert!(left(fewer.saturating_add(more)) <= left(fewer));
        }

        #[test]
        fn slower_predecessors_never_mean_a_shorter_wait(
            courses in prop::collection::vec(times(), 1..6), at in 0usize..8, factor in 1u64..5, passed in 0u64..600_000,
        ) {
            let slower: Vec<_> = courses
                .iter()
                .map(|times| course(&times.iter().map(|time| time * factor).collect::<Vec<_>>()))
                .collect();
            let courses: Vec<_> = courses.iter().map(|times| course(times)).collect();
            let here = Here { marks: vec![(mark(at), Timestamp(0))], flow: None };
            let now = Timestamp(passed);
            prop_assert!(estimate(&courses, &here, now).transfer <= estimate(&slower, &here, now).transfer);
        }
    }
}
