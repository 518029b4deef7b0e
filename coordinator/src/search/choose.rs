//! Several servers at once. Servers are taken from the best on, as long as the group allows it: with a label to spread over, the allowed sets
//! are those of a partition matroid, where this greedy choice is the best one. With a label to be together in, this is done for each value of
//! that label, and the best of the results is taken.

use super::judge::Judge;
use leaseboot_protocol::requirements::{Group, Take};
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};

/// The places of the servers, the best first; empty when the group cannot be had.
pub(super) fn choose(judge: &mut Judge<'_>, group: &Group) -> Vec<usize> {
    let chosen = most(judge, group);
    let wanted = group.count.get() as usize;
    match group.take {
        Take::AllOrNothing if chosen.len() < wanted => Vec::new(),
        _ => chosen,
    }
}

/// As many as there are, up to the count.
pub(super) fn most(judge: &mut Judge<'_>, group: &Group) -> Vec<usize> {
    let ranked = ranked(judge);
    let Some(label) = &group.together else {
        let chosen = spread(judge, ranked.iter().copied(), group);
        return chosen.into_iter().map(|(_, place)| place).collect();
    };
    let mut rooms: BTreeMap<&str, Vec<Ranked>> = BTreeMap::new();
    for server in ranked {
        if let Some(room) = judge.labels_of(server.1).get(label) {
            rooms.entry(room).or_default().push(server);
        }
    }
    let choices = rooms
        .into_values()
        .map(|servers| spread(judge, servers.into_iter(), group));
    // More servers first; then rank by rank.
    let best = choices.min_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    best.unwrap_or_default()
        .into_iter()
        .map(|(_, place)| place)
        .collect()
}

/// What a server is ranked by; places are in the order of size and name.
type Ranked = (Reverse<i64>, usize);

fn ranked(judge: &mut Judge<'_>) -> Vec<Ranked> {
    let fitting = judge.fitting();
    let mut ranked: Vec<_> = fitting
        .into_iter()
        .map(|place| (Reverse(judge.weight(place)), place))
        .collect();
    if judge.query.has_preferences() {
        ranked.sort_unstable();
    }
    ranked
}

fn spread(judge: &Judge<'_>, ranked: impl Iterator<Item = Ranked>, group: &Group) -> Vec<Ranked> {
    let mut used = HashSet::new();
    let allowed = ranked.filter(|(_, place)| match &group.spread {
        None => true,
        Some(label) => judge
            .labels_of(*place)
            .get(label)
            .is_some_and(|value| used.insert(value)),
    });
    allowed.take(group.count.get() as usize).collect()
}
