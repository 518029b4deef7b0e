//! What a tenant is told of a search: numbers and requirements, and never a server's name.

use super::choose;
use super::index::Judge;
use super::query::{Failed, numbers};
use leaseboot_protocol::leases::{Offer, Refusal, SearchAnswer, Unmet};
use leaseboot_protocol::requirements::{Group, Take};
use std::collections::HashMap;

/// Kinds of servers that an answer names.
const MOST_OFFERS: usize = 32;

/// Why nothing was found.
pub(super) fn refusal(judge: &mut Judge<'_>, group: Option<&Group>) -> Refusal {
    let counts = Counts::of(judge);
    let shortfall = group.and_then(|group| shortfall(judge, group, counts.fitting));
    Refusal::NothingFits {
        free: counts.free,
        busy: counts.busy,
        fitting: counts.fitting,
        unmet: counts.unmet(judge),
        nearest: counts.nearest(judge),
        shortfall,
    }
}

/// What a request would find.
pub(super) fn answer(judge: &mut Judge<'_>, group: &Group) -> SearchAnswer {
    let counts = Counts::of(judge);
    let chosen = choose::choose(judge, group);
    let shortfall = match chosen.is_empty() {
        true => shortfall(judge, group, counts.fitting),
        false => None,
    };
    SearchAnswer {
        servers: super::count(chosen.iter()),
        free: counts.free,
        fitting: counts.fitting,
        busy: counts.busy,
        offers: offers(judge),
        unmet: counts.unmet(judge),
        nearest: counts.nearest(judge),
        shortfall,
    }
}

/// What stands in the way, counted over all servers.
struct Counts {
    free: u32,
    fitting: u32,
    busy: u32,
    /// For each check, the free servers that fail it.
    failures: Vec<u32>,
    /// The free server that fails the fewest checks, when every one fails some.
    nearest: Option<usize>,
}

impl Counts {
    fn of(judge: &mut Judge<'_>) -> Self {
        let mut counts = Self {
            free: 0,
            fitting: 0,
            busy: 0,
            failures: vec![0; judge.query.labels.len() + judge.query.hardware.len()],
            nearest: None,
        };
        let mut fewest = u32::MAX;
        // Neighbours are of one model and fail the same: they are counted together.
        let (mut run, mut length) = (0, 0);
        for place in 0..judge.index.len() {
            let failed = judge.failed(place);
            if !judge.is_free(place) {
                counts.busy += u32::from(failed == 0);
                continue;
            }
            counts.free += 1;
            counts.fitting += u32::from(failed == 0);
            if failed != run {
                counts.add(run, length);
                (run, length) = (failed, 0);
            }
            length += 1;
            // Of equal ones the last, which is the largest: it lacks the least.
            if failed.count_ones() <= fewest {
                fewest = failed.count_ones();
                counts.nearest = Some(place);
            }
        }
        counts.add(run, length);
        if fewest == 0 {
            counts.nearest = None;
        }
        counts
    }

    fn add(&mut self, failed: Failed, servers: u32) {
        numbers(failed).for_each(|bit| self.failures[bit] += servers);
    }

    /// Most failures first.
    fn unmet(&self, judge: &Judge<'_>) -> Vec<Unmet> {
        let failures = self.failures.iter().enumerate();
        let mut unmet: Vec<_> = failures
            .filter(|(_, servers)| **servers > 0)
            .map(|(bit, servers)| Unmet {
                requirement: judge.query.in_words(bit),
                servers: *servers,
            })
            .collect();
        unmet.sort_by(|a, b| {
            let more = b.servers.cmp(&a.servers);
            more.then_with(|| a.requirement.cmp(&b.requirement))
        });
        unmet
    }

    fn nearest(&self, judge: &mut Judge<'_>) -> Vec<String> {
        let Some(place) = self.nearest else {
            return Vec::new();
        };
        let (shape, labels) = (judge.shape_of(place), judge.labels_of(place));
        numbers(judge.failed(place))
            .map(|bit| judge.query.lack_in_words(bit, shape, labels))
            .collect()
    }
}

/// What a group lacks although servers fit; nothing when none fits, or there are enough.
fn shortfall(judge: &mut Judge<'_>, group: &Group, fitting: u32) -> Option<String> {
    let had = super::count(choose::most(judge, group).into_iter());
    let enough = match group.take {
        Take::AllOrNothing => had >= group.count.get(),
        Take::AsManyAsThereAre => had > 0,
    };
    if fitting == 0 || enough {
        return None;
    }
    let mut words = match group.count.get() {
        1 => "1 server is asked for".to_owned(),
        count => format!("{count} servers are asked for"),
    };
    if let Some(label) = &group.together {
        words += &format!(", all with one value of the label {label}");
    }
    if let Some(label) = &group.spread {
        words += &format!(", each with a value of its own of the label {label}");
    }
    Some(format!("{words}: {had} can be had at most"))
}

fn offers(judge: &mut Judge<'_>) -> Vec<Offer> {
    let mut kinds: HashMap<(u32, i64), usize> = HashMap::new();
    let mut offers: Vec<Offer> = Vec::new();
    for place in judge.fitting() {
        let (shape, weight) = (judge.shape_of(place), judge.weight(place));
        let kind = (judge.index.slots[place].shape, weight);
        let number = *kinds.entry(kind).or_insert(offers.len());
        if number == offers.len() {
            offers.push(Offer {
                servers: 0,
                architecture: shape.architecture.clone(),
                cores: shape.cores,
                threads: shape.threads,
                memory_mib: shape.told_memory_mib,
                disks: shape.disks_in_words(),
                nics: shape.nics_in_words(),
                weight,
            });
        }
        offers[number].servers += 1;
    }
    // Stable: what is equally liked stays in the order of size.
    offers.sort_by_key(|offer| std::cmp::Reverse(offer.weight));
    offers.truncate(MOST_OFFERS);
    offers
}
