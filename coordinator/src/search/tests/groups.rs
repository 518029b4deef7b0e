//! Preferences, groups and the index over time, against an oracle that tries every set of servers.

use super::*;
use leaseboot_protocol::labels::Labels;
use leaseboot_protocol::requirements::{Group, Preference, Take};
use std::cmp::Reverse;

/// A server as the properties make it: rack, room, cores, free.
type Made = (Option<u8>, Option<u8>, u32, bool);

#[derive(Debug)]
struct Hall {
    names: Vec<ServerId>,
    labels: Vec<Labels>,
    made: Vec<Made>,
    reports: Vec<HardwareReport>,
}

impl Hall {
    fn new(made: Vec<Made>) -> Self {
        let labels = made.iter().map(|(rack, room, ..)| {
            let pairs = [("rack", rack), ("room", room)];
            let there = pairs.into_iter().filter_map(|(name, value)| {
                value.map(|value| (name.to_owned(), format!("{}{value}", &name[..2])))
            });
            there.collect()
        });
        let name = |number: usize| format!("s{number}").parse().unwrap();
        Self {
            names: (0..made.len()).map(name).collect(),
            labels: labels.collect(),
            reports: made
                .iter()
                .map(|(_, _, cores, _)| report(*cores, 1024, &[]))
                .collect(),
            made,
        }
    }

    fn candidate(&self, number: usize) -> Candidate<'_> {
        Candidate {
            name: &self.names[number],
            free: self.made[number].3,
            labels: &self.labels[number],
            hardware: Some(&self.reports[number]),
        }
    }

    fn index(&self) -> Index {
        (0..self.made.len())
            .map(|number| self.candidate(number))
            .collect()
    }

    fn number(name: &ServerId) -> usize {
        name.as_str()[1..].parse().unwrap()
    }

    /// The better the smaller.
    fn rank(&self, requirements: &Requirements, number: usize) -> (Reverse<i64>, u32, &ServerId) {
        let liked = requirements
            .prefer
            .iter()
            .filter(|preference| preference.matching.matches(&self.labels[number]));
        let weight = liked.map(|preference| i64::from(preference.weight)).sum();
        (Reverse(weight), self.made[number].2, &self.names[number])
    }

    /// The best set by trying all: the most servers, then the best ranks.
    fn oracle(&self, requirements: &Requirements, group: &Group) -> Vec<usize> {
        let fits = |number: &usize| {
            let (.., cores, free) = self.made[*number];
            free && cores >= requirements.min_cores
        };
        let fitting: Vec<_> = (0..self.made.len()).filter(fits).collect();
        let mut best: Vec<usize> = Vec::new();
        for set in 0u32..1 << fitting.len() {
            let chosen = fitting.iter().enumerate().filter(|(bit, _)| set >> bit & 1 == 1);
            let mut chosen: Vec<_> = chosen.map(|(_, number)| *number).collect();
            if chosen.len() > group.count.get() as usize || !self.allowed(&chosen, group) {
                continue;
            }
            chosen.sort_by_key(|number| self.rank(requirements, *number));
            let ranks = |set: &[usize]| {
                set.iter()
                    .map(|number| self.rank(requirements, *number))
                    .collect::<Vec<_>>()
            };
            let better =
                chosen.len() > best.len() || chosen.len() == best.len() && ranks(&chosen) < ranks(&best);
            if better {
                best = chosen;
            }
        }
        let short = best.len() < group.count.get() as usize;
        if short && group.take == Take::AllOrNothing {
            Vec::new()
        } else {
            best
        }
    }

    fn allowed(&self, chosen: &[usize], group: &Group) -> bool {
        let values = |label: &Option<String>| {
            let label = label.as_ref()?;
            Some(
                chosen
                    .iter()
                    .map(|number| self.labels[*number].get(label))
                    .collect::<Vec<_>>(),
            )
        };
        let spread = values(&group.spread).is_none_or(|values| {
            let unlike: std::collections::BTreeSet<_> = values.iter().collect();
            values.iter().all(Option::is_some) && unlike.len() == values.len()
        });
        let together = values(&group.together)
            .is_none_or(|values| values.iter().all(|value| value.is_some() && *value == values[0]));
        spread && together
    }
}

fn group(count: u32, take: Take, spread: bool, together: bool) -> Group {
    Group {
        count: count.try_into().unwrap(),
        take,
        spread: spread.then(|| "rack".to_owned()),
        together: together.then(|| "room".to_owned()),
    }
}

fn prefer(matching: &str, weight: i32) -> Preference {
    Preference {
        matching: matching.parse().unwrap(),
        weight,
    }
}

#[test]
fn the_weight_of_preferences_goes_before_the_size() {
    let hall = Hall::new(vec![
        (Some(1), None, 1, true),
        (Some(2), None, 9, true),
        (Some(3), None, 2, true),
    ]);
    let best = |prefer| {
        let requirements = Requirements {
            prefer,
            ..Requirements::default()
        };
        hall.index().find(&Query::new(&requirements)).unwrap().to_string()
    };
    assert_eq!(best(vec![prefer("rack = ra2", 1)]), "s1");
    assert_eq!(best(vec![prefer("rack = ra1", -1)]), "s2");
    assert_eq!(best(vec![prefer("rack", 5)]), "s0");
}

#[test]
fn what_a_group_lacks_is_said() {
    let hall = Hall::new(vec![
        (Some(1), Some(1), 1, true),
        (Some(1), Some(2), 1, true),
        (None, Some(2), 1, true),
    ]);
    let index = hall.index();
    let query = Query::new(&Requirements::default());
    let refused = |group: &Group| match index.choose(&query, group) {
        Err(Refusal::NothingFits {
            fitting: 3,
            shortfall: Some(shortfall),
            ..
        }) => shortfall,
        other => panic!("{other:?}"),
    };
    let all = Take::AllOrNothing;
    assert_eq!(
        refused(&group(4, all, false, false)),
        "4 servers are asked for: 3 can be had at most"
    );
    assert_eq!(
        refused(&group(2, all, true, false)),
        "2 servers are asked for, each with a value of its own of the label rack: 1 can be had at most"
    );
    assert_eq!(
        refused(&group(3, all, false, true)),
        "3 servers are asked for, all with one value of the label room: 2 can be had at most"
    );
    let answer = index.look(&query, Some(&group(9, Take::AsManyAsThereAre, false, false)));
    assert_eq!((answer.servers, answer.fitting, answer.shortfall), (3, 3, None));
    assert_eq!(answer.offers.len(), 1);
    assert_eq!((answer.offers[0].servers, answer.offers[0].cores), (3, 1));
}

#[test]
fn a_tenant_can_be_kept_to_some_servers() {
    let hall = Hall::new(vec![(Some(1), None, 1, true), (Some(2), None, 9, true)]);
    let query = Query::new(&Requirements::default()).restricted_to("rack = ra2".parse().unwrap());
    assert_eq!(hall.index().find(&query).unwrap().as_str(), "s1");
    let not_that = query.without(&[hall.names[1].clone()]);
    assert!(matches!(
        hall.index().find(&not_that),
        Err(Refusal::NothingFits { free: 1, busy: 1, .. })
    ));
}

fn any_hall() -> impl Strategy<Value = Hall> {
    let label = || prop::option::weighted(0.8, 0u8..3);
    let server = (label(), label(), 1u32..4, prop::bool::weighted(0.8));
    prop::collection::vec(server, 0..9).prop_map(Hall::new)
}

fn any_requirements() -> impl Strategy<Value = Requirements> {
    let preferences =
        prop::sample::subsequence(vec![("rack = ra1", 2), ("room != ro0", -1), ("rack", 3)], 0..3);
    (0u32..3, preferences).prop_map(|(min_cores, preferences)| Requirements {
        min_cores,
        prefer: preferences
            .into_iter()
            .map(|(text, weight)| prefer(text, weight))
            .collect(),
        ..Requirements::default()
    })
}

proptest! {
    #[test]
    fn one_server_is_the_best_of_all(hall in any_hall(), requirements in any_requirements()) {
        let query = Query::new(&requirements);
        let index = hall.index();
        let found = index.find(&query).ok().map(Hall::number);
        let expected = hall.oracle(&requirements, &group(1, Take::AllOrNothing, false, false));
        prop_assert_eq!(found, expected.first().copied());
        prop_assert_eq!(index.look(&query, None).servers as usize, expected.len());
    }

    #[test]
    fn a_group_is_the_best_of_all_sets(
        hall in any_hall(), requirements in any_requirements(),
        count in 1u32..5, many in any::<bool>(), spread in any::<bool>(), together in any::<bool>(),
    ) {
        let take = if many { Take::AsManyAsThereAre } else { Take::AllOrNothing };
        let group = group(count, take, spread, together);
        let query = Query::new(&requirements);
        let index = hall.index();
        let chosen = index.choose(&query, &group).map(|names| names.into_iter().map(Hall::number).collect::<Vec<_>>());
        let expected = hall.oracle(&requirements, &group);
        let answer = index.look(&query, Some(&group));
        prop_assert_eq!(answer.servers as usize, expected.len());
        match chosen {
            Ok(chosen) => prop_assert_eq!(chosen, expected),
            Err(Refusal::NothingFits { free, fitting, unmet, nearest, shortfall, .. }) => {
                prop_assert!(expected.is_empty());
                prop_assert_eq!(shortfall.is_some(), fitting > 0);
                prop_assert_eq!(nearest.is_empty(), fitting > 0 || free == 0);
                prop_assert_eq!(unmet.is_empty(), fitting == free);
            }
            Err(other) => prop_assert!(false, "{other}"),
        }
    }

    /// Whatever happened to an index, it answers as one that was made from what is there now.
    #[test]
    fn an_index_that_was_changed_is_like_a_new_one(
        mut hall in any_hall(), requirements in any_requirements(),
        changes in prop::collection::vec((0usize..9, prop::option::of((prop::option::of(0u8..3), 1u32..4, any::<bool>()))), 0..12),
    ) {
        let mut index = hall.index();
        let mut gone = vec![false; hall.made.len()];
        for (number, change) in changes {
            if number >= hall.made.len() {
                continue;
            }
            let Some((rack, cores, free)) = change else {
                index.remove(&hall.names[number]);
                gone[number] = true;
                continue;
            };
            let mut made = hall.made.clone();
            made[number] = (rack, made[number].1, cores, free);
            hall = Hall::new(made);
            index.put(hall.candidate(number));
            index.set_free(&hall.names[number], !free);
            index.set_free(&hall.names[number], free);
            gone[number] = false;
        }
        let there = (0..hall.made.len()).filter(|number| !gone[*number]);
        let new: Index = there.map(|number| hall.candidate(number)).collect();
        let query = Query::new(&requirements);
        prop_assert_eq!(index.len(), new.len());
        prop_assert_eq!(index.look(&query, None), new.look(&query, None));
        prop_assert_eq!(index.find(&query).ok(), new.find(&query).ok());
    }
}
