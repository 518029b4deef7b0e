//! What a group of transactions owes its members: whoever was answered is kept, whoever failed leaves nothing, and nobody pays for a
//! neighbour. The process that is killed is this test, run once more.

use super::*;
use leaseboot_protocol::lease::LeaseState;
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

/// Names the store in the process that is to be killed.
const STORE: &str = "LEASEBOOT_TEST_STORE";
/// So many write at once.
const WRITERS: usize = 64;
/// After how many answers the process is killed, again and again on one store.
const KILLS: [usize; 5] = [1, 100, 700, 1500, 3000];
/// Begins a line of the process that is killed.
const KEPT: &str = "kept ";

#[test]
fn what_was_answered_outlives_a_kill_and_nothing_is_half() {
    if let Some(path) = std::env::var_os(STORE) {
        return runtime().block_on(write_for_ever(Path::new(&path)));
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lm.sqlite");
    runtime().block_on(declare(&path));
    let mut answered = BTreeMap::new();
    for answers in KILLS {
        let before = answered.len();
        answered.extend(killed_after(answers, &path));
        assert!(answered.len() > before || answers == 1, "it did not go on");
        runtime().block_on(check(&path, &answered));
    }
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(4).enable_all().build().unwrap()
}

async fn open(path: &Path) -> Store {
    Store::open(&Location::Sqlite(path.to_owned())).await.unwrap()
}

async fn declare(path: &Path) {
    let servers: Vec<_> = (0..WRITERS)
        .zip(1..)
        .map(|(number, last)| server(&format!("s{number}"), last))
        .collect();
    let store = open(path).await;
    store.declare_servers(&servers, true, NOW).await.unwrap();
    store.close().await;
}

/// Each writer leads leases of its own server through their lives, one after the other, and says what it was answered.
async fn write_for_ever(path: &Path) {
    let store = open(path).await;
    let mut writers = tokio::task::JoinSet::new();
    for number in 0..WRITERS {
        let (store, server) = (store.clone(), format!("s{number}"));
        writers.spawn(async move {
            loop {
                let mut lease = begun(&store, &server).await;
                say(&lease);
                while let Some(event) = next(&lease) {
                    assert!(store.commit(&lease, change(&lease, event)).await.unwrap());
                    lease = store.lease(&lease.id).await.unwrap().unwrap();
                    say(&lease);
                }
            }
        });
    }
    writers.join_all().await;
}

/// The lease that was under way when the process was killed, or a new one.
async fn begun(store: &Store, server: &str) -> LeaseRecord {
    let record = store.server(&name(server)).await.unwrap().unwrap();
    if let Some(held) = record.lease {
        return store.lease(&held).await.unwrap().unwrap();
    }
    let request = format!("{server}-{:x}", getrandom::u64().unwrap());
    taken(store.take(new_lease(&request, server), NOW).await.unwrap())
}

fn say(lease: &LeaseRecord) {
    let state = serde_json::to_string(&lease.lease.phase.state()).unwrap();
    println!("{KEPT}{} {} {state}", lease.id, lease.events());
}

fn next(lease: &LeaseRecord) -> Option<Event> {
    Some(match lease.lease.phase {
        Phase::Leased => Event::SettingsMerged,
        Phase::Prepared => Event::BootOrdered,
        Phase::Booting { .. } | Phase::Returning(_) => Event::Hello,
        Phase::Stage1(_) => Event::Released,
        Phase::Wiping(_) => Event::Erased {
            disks: 1,
            faults: Vec::new(),
        },
        Phase::Erased { .. } => Event::PowerDone(PowerOrder::Off),
        _ => return None,
    })
}

/// Runs the writers, kills them after so many answers, and gives the last answer about each lease: its events and its state.
fn killed_after(answers: usize, path: &Path) -> BTreeMap<LeaseId, (u64, LeaseState)> {
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture"])
        .arg("store::tests::groups::what_was_answered_outlives_a_kill_and_nothing_is_half")
        .env(STORE, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(process.stdout.take().unwrap()).lines();
    let mut answered = BTreeMap::new();
    let mut count = 0;
    // After the kill the pipe still has what was said before it.
    for line in said.map_while(Result::ok) {
        let Some(line) = line.strip_prefix(KEPT) else {
            continue;
        };
        let words: Vec<_> = line.split(' ').collect();
        // The last line may have been cut off.
        if let [lease, events, state] = words[..]
            && let Ok(state) = serde_json::from_str(state)
        {
            answered.insert(lease.parse().unwrap(), (events.parse().unwrap(), state));
        }
        count += 1;
        if count == answers {
            process.kill().unwrap();
        }
    }
    process.wait().unwrap();
    assert!(count >= answers, "it ended by itself after {count} answers");
    answered
}

async fn check(path: &Path, answered: &BTreeMap<LeaseId, (u64, LeaseState)>) {
    let store = open(path).await;
    for (id, (events, state)) in answered {
        let lease = store.lease(id).await.unwrap();
        let lease = lease.unwrap_or_else(|| panic!("{id} was answered and is not there"));
        let now = lease.lease.phase.state();
        assert!(
            lease.events() >= *events,
            "{id}: {events} events were answered: {lease:#?}"
        );
        assert!(
            lease.events() > *events || now == *state,
            "{id} was {state} and is {now}"
        );
    }
    let orders = store.power_orders().await.unwrap();
    for lease in store.leases().await.unwrap() {
        let (id, state) = (&lease.id, lease.lease.phase.state());
        let events = store.events(id, 0).await.unwrap();
        let numbers: Vec<_> = events.iter().map(|event| event.sequence).collect();
        assert_eq!(numbers, (1..=lease.events()).collect::<Vec<_>>(), "{id}");
        assert_eq!(events.last().map(|event| event.state), Some(state), "{id}");
        let server = store.server(&lease.lease.server).await.unwrap().unwrap();
        let holds = server.custody == Custody::Lent && server.lease.as_ref() == Some(id);
        assert_eq!(holds, state != LeaseState::Ended, "{id} is {state}: {server:?}");
        let ordered = orders.iter().any(|order| order.lease.as_ref() == Some(id));
        assert!(ordered || state != LeaseState::Booting, "{id} has no power order");
    }
    store.close().await;
}

/// What a member of a group does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Conduct {
    Commits,
    Fails,
    Goes,
    Panics,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_member_that_fails_harms_no_neighbour() {
    let scratch = Scratch::sqlite().await;
    let conduct = |number: usize| match number % 5 {
        1 => Conduct::Fails,
        2 => Conduct::Goes,
        3 => Conduct::Panics,
        _ => Conduct::Commits,
    };
    let mut members = tokio::task::JoinSet::new();
    for number in 0..200 {
        members.spawn(member(scratch.store.clone(), number, conduct(number)));
    }
    let ended = {
        let mut ended = Vec::new();
        while let Some(member) = members.join_next().await {
            ended.push(member.is_ok());
        }
        ended
    };
    assert_eq!(ended.iter().filter(|well| !**well).count(), 40, "those who panic");
    let rows: Vec<(String, i64)> =
        sqlx::query_as("SELECT server, count(*) FROM server_history GROUP BY server")
            .fetch_all(&scratch.store.pool)
            .await
            .unwrap();
    let rows: BTreeMap<_, _> = rows.into_iter().collect();
    for number in 0..200 {
        let (conduct, found) = (conduct(number), rows.get(&format!("m{number}")).copied());
        let wanted = (conduct == Conduct::Commits).then_some(2);
        assert_eq!(found, wanted, "member {number}, which {conduct:?}");
    }
}

/// Writes two rows, with what it is up to in between.
async fn member(store: Store, number: usize, conduct: Conduct) {
    let row = || {
        sqlx::query("INSERT INTO server_history (server, at, what) VALUES ($1, 0, 'x')")
            .bind(format!("m{number}"))
    };
    let mut tx = store.write("try a group").await.unwrap();
    row().execute(&mut *tx).await.unwrap();
    // The others get in line behind this one.
    tokio::task::yield_now().await;
    match conduct {
        Conduct::Commits => {}
        Conduct::Fails => {
            let broken = "UPDATE servers SET custody = 'nonsense'";
            sqlx::query(broken).execute(&mut *tx).await.unwrap_err();
            return;
        }
        Conduct::Goes => return,
        Conduct::Panics => panic!("as it should"),
    }
    row().execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn a_member_that_is_dropped_while_it_waits_lets_the_next_one_in() {
    let scratch = Scratch::sqlite().await;
    let (inside, entered) = tokio::sync::oneshot::channel();
    let store = scratch.store.clone();
    let stands = tokio::spawn(async move {
        let mut tx = store.write("stand still").await.unwrap();
        let broken = "UPDATE servers SET reason = 'half'";
        sqlx::query(broken).execute(&mut *tx).await.unwrap();
        inside.send(()).unwrap();
        std::future::pending::<()>().await;
    });
    entered.await.unwrap();
    let store = scratch.store.clone();
    let behind = tokio::spawn(async move { store.take(new_lease("one", "a"), NOW).await.unwrap() });
    stands.abort();
    assert!(matches!(behind.await.unwrap(), Taken::New(_)));
    let server = scratch.store.server(&name("b")).await.unwrap().unwrap();
    assert_eq!(server.reason, "never lent");
}

/// A change that comes too late must not be told so before the table shows why, or whoever tries again reads the same and loses once more.
#[tokio::test]
async fn who_loses_against_a_neighbour_is_told_when_the_neighbours_work_is_kept() {
    let scratch = Scratch::sqlite().await;
    let store = scratch.store.clone();
    let Taken::New(before) = scratch.take("one", "a").await else {
        panic!("the server is free");
    };
    let tried = || {
        let (store, before) = (store.clone(), before.clone());
        tokio::spawn(async move {
            let first = change(&before, Event::SettingsMerged);
            let written = store.commit(&before, first).await.unwrap();
            let now = store.lease(&before.id).await.unwrap().unwrap();
            (written, now.lease.phase.state())
        })
    };
    // Here all of it happens in one thread: whoever is started gets in line at the next yield.
    let stands = store.write("stand first").await.unwrap();
    let winner = tried();
    tokio::task::yield_now().await;
    let loser = tried();
    tokio::task::yield_now().await;
    let last = tokio::spawn({
        let store = store.clone();
        async move {
            let held = store.write("keep the group from its end").await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            drop(held);
        }
    });
    tokio::task::yield_now().await;
    drop(stands);
    assert_eq!(loser.await.unwrap(), (false, LeaseState::Prepared));
    assert_eq!(winner.await.unwrap(), (true, LeaseState::Prepared));
    last.await.unwrap();
}
