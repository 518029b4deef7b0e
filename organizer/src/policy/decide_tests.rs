use super::*;
use crate::events::{Event, Labels, Status};
use crate::policy::{Drain, Matcher, Tries};
use proptest::prelude::*;

const FOR: u64 = 20_000;
const QUIET: u64 = 60_000;
const COOLDOWN: u64 = 30_000;

fn policy(name: &str, event: &str, servers: u32, limit: u32) -> Policy {
    let ms = Duration::from_millis;
    Policy {
        name: name.to_owned(),
        on: Matcher {
            names: vec![event.to_owned()],
            labels: BTreeMap::new(),
        },
        profile: "web".to_owned(),
        lenders: Vec::new(),
        servers,
        limit,
        stands: ms(FOR),
        quiet: ms(QUIET),
        cooldown: ms(COOLDOWN),
        expire: None,
        drain: Some(Drain {
            command: vec!["drain".to_owned()],
            deadline: ms(1000),
        }),
    }
}

/// A world that does at once what is decided, as far as the script lets it.
struct World {
    policies: Policies,
    events: Vec<Known>,
    wants: Vec<Want>,
    last: BTreeMap<String, Timestamp>,
    by_hand: u32,
    now: Timestamp,
    decided: Vec<(Timestamp, Verdict)>,
}

impl World {
    fn new(policies: Vec<Policy>, limit: Option<u32>) -> Self {
        Self {
            policies: Policies {
                list: policies,
                limit,
            },
            events: Vec::new(),
            wants: Vec::new(),
            last: BTreeMap::new(),
            by_hand: 0,
            now: Timestamp(1_000_000),
            decided: Vec::new(),
        }
    }

    fn say(&mut self, name: &str, status: Status) {
        let event = Event {
            key: Key::of("test", [name]),
            source: "test".to_owned(),
            name: name.to_owned(),
            labels: Labels::new(),
            status,
            at: self.now,
        };
        let place = self.events.iter().position(|known| known.event.key == event.key);
        let before = place.map(|place| &self.events[place]);
        match (Known::after(before, event, self.now), place) {
            (Some(after), Some(place)) => self.events[place] = after,
            (Some(after), None) => self.events.push(after),
            (None, _) => {}
        }
    }

    fn look(&self) -> Vec<Verdict> {
        decide(&Situation {
            policies: &self.policies,
            events: &self.events,
            wants: &self.wants,
            last: &self.last,
            by_hand: self.by_hand,
            now: self.now,
        })
    }

    /// Decides and does it. Gives what was done.
    fn act(&mut self) -> Vec<Action> {
        let verdicts = self.look();
        for verdict in &verdicts {
            match &verdict.action {
                Action::Wait => continue,
                Action::Borrow { servers } => {
                    for number in 1..=*servers {
                        self.wants.push(Want {
                            key: WantKey::of(self.decided.len() as u64, number),
                            policy: verdict.policy.clone(),
                            profile: "web".to_owned(),
                            lenders: Vec::new(),
                            stage: Stage::Wanted,
                            borrowing: None,
                            server: Server::None,
                        });
                    }
                }
                Action::GiveBack { wants } => self.move_to(wants, &Stage::Draining(Tries::due(self.now))),
                Action::Keep { wants } => self.move_to(wants, &Stage::Borrowed),
            }
            self.last.insert(verdict.policy.clone(), self.now);
            self.decided.push((self.now, verdict.clone()));
        }
        verdicts
            .into_iter()
            .map(|verdict| verdict.action)
            .filter(|action| *action != Action::Wait)
            .collect()
    }

    fn move_to(&mut self, keys: &[WantKey], stage: &Stage) {
        for want in self.wants.iter_mut().filter(|want| keys.contains(&want.key)) {
            want.stage = stage.clone();
        }
    }

    fn all_serve(&mut self) {
        let now = self.now;
        for want in self
            .wants
            .iter_mut()
            .filter(|want| want.stage == Stage::Wanted && want.server == Server::None)
        {
            (want.stage, want.server) = (Stage::Borrowed, Server::Serving(now));
        }
    }

    fn later(&mut self, ms: u64) {
        self.now = self.now + Duration::from_millis(ms);
    }

    fn held(&self, policy: &str) -> u32 {
        let counts = self
            .wants
            .iter()
            .filter(|want| want.policy == policy && want.counts())
            .count();
        u32::try_from(counts).unwrap()
    }
}

#[test]
fn servers_come_after_the_event_stood_and_go_after_it_was_quiet() {
    let mut world = World::new(vec![policy("shop", "Load", 2, 2)], None);
    world.say("Load", Status::Firing);
    world.later(FOR - 1);
    assert_eq!(world.act(), []);
    assert_eq!(world.look()[0].wake, Some(world.now + Duration::from_millis(1)));
    world.later(1);
    assert_eq!(world.act(), [Action::Borrow { servers: 2 }]);
    world.all_serve();
    world.later(COOLDOWN * 9);
    assert_eq!(world.act(), [], "it has what it may have");
    world.say("Load", Status::Resolved);
    world.later(QUIET - 1);
    assert_eq!(world.act(), []);
    world.later(1);
    let keys = world.wants.iter().map(|want| want.key.clone()).collect();
    assert_eq!(world.act(), [Action::GiveBack { wants: keys }]);
    assert_eq!(world.act(), [], "told once");
}

#[test]
fn what_stands_again_in_time_keeps_its_servers() {
    let mut world = World::new(vec![policy("shop", "Load", 2, 2)], None);
    world.say("Load", Status::Firing);
    world.later(FOR);
    world.act();
    world.all_serve();
    world.later(COOLDOWN);
    world.say("Load", Status::Resolved);
    world.later(QUIET - 1);
    world.say("Load", Status::Firing);
    world.later(QUIET * 2);
    assert_eq!(world.act(), []);
    world.say("Load", Status::Resolved);
    world.later(QUIET);
    assert!(matches!(&*world.act(), [Action::GiveBack { .. }]));
    world.later(1);
    world.say("Load", Status::Firing);
    assert!(
        matches!(&*world.act(), [Action::Keep { wants }] if wants.len() == 2),
        "also while they drain"
    );
    assert_eq!(world.held("shop"), 2);
}

#[test]
fn more_come_only_for_what_stands_beside_serving_servers() {
    let mut world = World::new(vec![policy("shop", "Load", 2, 3)], None);
    world.say("Load", Status::Firing);
    world.later(FOR);
    world.act();
    world.later(FOR * 5);
    assert_eq!(world.act(), [], "none of them serves yet");
    world.all_serve();
    world.later(FOR - 1);
    assert_eq!(world.act(), []);
    world.later(1);
    assert_eq!(world.act(), [Action::Borrow { servers: 1 }], "up to the limit");
}

#[test]
fn a_lost_server_is_replaced_after_the_cool_down() {
    let mut world = World::new(vec![policy("shop", "Load", 2, 2)], None);
    world.say("Load", Status::Firing);
    world.later(FOR);
    world.act();
    world.wants[0].server = Server::Over;
    world.later(COOLDOWN - 1);
    assert_eq!(world.act(), []);
    world.later(1);
    assert_eq!(world.act(), [Action::Borrow { servers: 1 }]);
}

#[test]
fn the_limit_of_all_holds_for_people_too() {
    let mut world = World::new(
        vec![policy("shop", "Load", 2, 2), policy("mail", "Queue", 2, 2)],
        Some(4),
    );
    world.by_hand = 1;
    world.say("Load", Status::Firing);
    world.say("Queue", Status::Firing);
    world.later(FOR);
    assert_eq!(
        world.act(),
        [Action::Borrow { servers: 2 }, Action::Borrow { servers: 1 }]
    );
    assert!(
        world.decided[1].1.reason.contains("no more than 1 of 2"),
        "{}",
        world.decided[1].1.reason
    );
    world.later(COOLDOWN);
    assert_eq!(world.act(), []);
    assert!(world.look()[1].reason.contains("[limits]"));
}

/// What happens in a world between two looks.
#[derive(Clone, Debug)]
enum Step {
    Later(u64),
    Say(bool, bool),
    Serve,
    Lose(usize),
    Drained,
    ByHand(u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1u64..40_000).prop_map(Step::Later),
        4 => any::<(bool, bool)>().prop_map(|(which, firing)| Step::Say(which, firing)),
        2 => Just(Step::Serve),
        1 => (0usize..8).prop_map(Step::Lose),
        1 => Just(Step::Drained),
        1 => (0u32..3).prop_map(Step::ByHand),
    ]
}

fn take(world: &mut World, step: Step) {
    match step {
        Step::Later(ms) => world.later(ms),
        Step::Say(first, firing) => {
            let name = if first { "Load" } else { "Queue" };
            world.say(name, if firing { Status::Firing } else { Status::Resolved });
        }
        Step::Serve => world.all_serve(),
        Step::Lose(n) => {
            if let Some(want) = world.wants.get_mut(n) {
                want.server = Server::Gone;
            }
        }
        Step::Drained => {
            for want in world
                .wants
                .iter_mut()
                .filter(|want| matches!(want.stage, Stage::Draining(_)))
            {
                want.stage = Stage::Leaving;
            }
        }
        Step::ByHand(many) => world.by_hand = many,
    }
}

proptest! {
    #[test]
    fn no_limit_is_exceeded_and_nothing_flaps(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::new(vec![policy("shop", "Load", 2, 3), policy("mail", "Queue", 1, 4)], Some(5));
        for step in steps {
            take(&mut world, step);
            let before: u32 = ["shop", "mail"].iter().map(|name| world.held(name)).sum::<u32>() + world.by_hand;
            world.act();
            let after = world.held("shop") + world.held("mail") + world.by_hand;
            prop_assert!(world.held("shop") <= 3 && world.held("mail") <= 4);
            prop_assert!(after <= before.max(5), "{before} became {after}");
            prop_assert_eq!(world.act(), vec![], "the same situation again");
        }
        for name in ["shop", "mail"] {
            let moves = |(_, verdict): &&(Timestamp, Verdict)| {
                verdict.policy == name && !matches!(verdict.action, Action::Keep { .. })
            };
            let times: Vec<_> = world.decided.iter().filter(moves).map(|(at, _)| *at).collect();
            for pair in times.windows(2) {
                prop_assert!(pair[1].since(pair[0]) >= Duration::from_millis(COOLDOWN), "{pair:?}");
            }
        }
    }

    /// Nobody gives servers back while what they are for stands, and nobody borrows while nothing stands.
    #[test]
    fn decisions_follow_what_stands(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::new(vec![policy("shop", "Load", 2, 3), policy("mail", "Queue", 1, 4)], Some(5));
        for step in steps {
            take(&mut world, step);
            for verdict in world.look() {
                let stands = !verdict.sees.is_empty();
                match verdict.action {
                    Action::Borrow { .. } | Action::Keep { .. } => prop_assert!(stands),
                    Action::GiveBack { .. } => prop_assert!(!stands),
                    Action::Wait => {}
                }
                prop_assert!(!verdict.reason.is_empty());
            }
            world.act();
        }
    }
}
