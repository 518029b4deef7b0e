//! What a tenant is told of a search: numbers and requirements, and never a server's name.

use super::bits::Bits;
use super::choose;
use super::index::Slot;
use super::judge::Judge;
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
        nearest: counts.lacks,
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
        nearest: counts.lacks,
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
    /// What the free server lacks that fails the fewest checks, when every one fails some.
    lacks: Vec<String>,
}

impl Counts {
    fn of(judge: &Judge<'_>) -> Self {
        let index = judge.index;
        let (labels, hardware) = judge.failing();
        let (by_labels, by_hardware) = (
            times(&labels, index.labels.bound()),
            times(&hardware, index.shapes.bound()),
        );
        let (mut free_sets, mut free_shapes) = (vec![0; by_labels.len()], vec![0; by_hardware.len()]);
        let (mut free, mut fitting, mut busy, mut nearest) = (0, 0, 0, None);
        let mut fewest = u32::MAX;
        for (place, slot) in index.slots.iter().enumerate() {
            let (set, shape) = (slot.labels as usize, slot.shape as usize);
            let failed = by_labels[set] + by_hardware[shape];
            if !judge.is_free(place) {
                busy += u32::from(failed == 0);
                continue;
            }
            free += 1;
            fitting += u32::from(failed == 0);
            free_sets[set] += 1;
            free_shapes[shape] += 1;
            // Of equal ones the last, which is the largest: it lacks the least.
            if failed <= fewest {
                (fewest, nearest) = (failed, Some(place));
            }
        }
        let by_sets = labels.iter().map(|failing| sum(failing, &free_sets));
        let by_shapes = hardware.iter().map(|failing| sum(failing, &free_shapes));
        Self {
            free,
            fitting,
            busy,
            failures: by_sets.chain(by_shapes).collect(),
            lacks: match nearest {
                Some(place) if fewest > 0 => lacks(judge, place, &labels, &hardware),
                _ => Vec::new(),
            },
        }
    }

    /// Most failures first.
    fn unmet(&self, judge: &Judge<'_>) -> Vec<Unmet> {
        let failures = self.failures.iter().enumerate();
        let mut unmet: Vec<_> = failures
            .filter(|(_, servers)| **servers > 0)
            .map(|(check, servers)| Unmet {
                requirement: judge.query.in_words(check),
                servers: *servers,
            })
            .collect();
        unmet.sort_by(|a, b| {
            let more = b.servers.cmp(&a.servers);
            more.then_with(|| a.requirement.cmp(&b.requirement))
        });
        unmet
    }
}

/// How many of the sets each number is in.
fn times(sets: &[Bits], bound: usize) -> Vec<u32> {
    let mut times = vec![0; bound];
    sets.iter()
        .flat_map(Bits::numbers)
        .for_each(|number| times[number] += 1);
    times
}

/// How many servers have one of the numbers.
fn sum(numbers: &Bits, servers: &[u32]) -> u32 {
    numbers.numbers().map(|number| servers[number]).sum()
}

/// What the server at this place fails, in words.
fn lacks(judge: &Judge<'_>, place: usize, labels: &[Bits], hardware: &[Bits]) -> Vec<String> {
    let Slot {
        labels: set, shape, ..
    } = judge.index.slots[place];
    let by_labels = labels.iter().map(|failing| failing.get(set as usize));
    let by_hardware = hardware.iter().map(|failing| failing.get(shape as usize));
    let failed = by_labels
        .chain(by_hardware)
        .enumerate()
        .filter(|(_, failed)| *failed);
    failed
        .map(|(check, _)| {
            judge
                .query
                .lack_in_words(check, judge.shape_of(place), judge.labels_of(place))
        })
        .collect()
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
