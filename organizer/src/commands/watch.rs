//! Watching borrowings until each server is in service or will not be.
//!
//! Each borrowing has a stream of its own from the daemon, and all are read at once on one thread; the screen is theirs together. Nothing
//! here keeps a transfer going: the daemon does, so whoever stops watching loses nothing.

use super::ConfigArg;
use super::conclusion::{self, conclude};
use super::exit::Exit;
use anyhow::{Context, Result};
use futures_util::future::join_all;
use leaseboot_po::borrowing::view::BorrowingView;
use leaseboot_po::control::client::{ClientError, ControlClient, ProgressStream};
use leaseboot_po::progress::Progress;
use leaseboot_po::progress::estimate::{Course, Estimate};
use leaseboot_po::progress::live::Live;
use leaseboot_po::progress::screen::{Screen, Subject};
use leaseboot_protocol::timestamp::Timestamp;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, SystemTime};
use tokio::signal::ctrl_c;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// How long to wait for the LM's word on a server that the PO has seen in service.
const LENDERS_LAST_WORD: Duration = Duration::from_secs(3);
/// How often times, rates and estimates are shown anew.
const REFRESH: Duration = Duration::from_millis(500);

/// A borrowing that is watched.
pub(crate) struct Watched {
    view: BorrowingView,
    courses: Rc<Vec<Course>>,
    live: RefCell<Live>,
}

impl Watched {
    /// Borrowings with what earlier transfers of their profiles took. A daemon that cannot tell that leaves them without estimates.
    pub(crate) async fn all(client: &ControlClient, views: Vec<BorrowingView>) -> Vec<Self> {
        let mut known: BTreeMap<String, Rc<Vec<Course>>> = BTreeMap::new();
        let mut all = Vec::new();
        for view in views {
            if !known.contains_key(&view.profile) {
                let courses = client.courses(&view.profile).await.unwrap_or_default();
                known.insert(view.profile.clone(), Rc::new(courses));
            }
            let courses = known.get(&view.profile).cloned().unwrap_or_default();
            all.push(Self {
                view,
                courses,
                live: RefCell::new(Live::new()),
            });
        }
        all
    }

    fn estimate(&self, now: Timestamp) -> Estimate {
        self.live.borrow().estimate(&self.courses, now)
    }

    fn is_over(&self) -> bool {
        self.live.borrow().phases().end().is_some()
    }

    /// The next note; none when the transfer has ended, with or without the lender's last word.
    async fn next(&self, stream: &mut ProgressStream) -> Result<Option<Progress>> {
        if self.is_over() {
            return match timeout(LENDERS_LAST_WORD, stream.next()).await {
                Ok(next) => Ok(next?),
                Err(_) => Ok(None),
            };
        }
        match stream.next().await? {
            Some(progress) => Ok(Some(progress)),
            None => Err(ClientError::Away("the transfer goes on".to_owned()).into()),
        }
    }
}

/// Borrowings and the screen that they share.
struct Watching {
    all: Vec<Watched>,
    screen: RefCell<Screen>,
}

impl Watching {
    /// Reads to the end of one transfer.
    async fn until_the_end(&self, nth: usize, client: &ControlClient) -> Result<()> {
        let one = &self.all[nth];
        let mut stream = client.follow(&one.view.id, 0).await?;
        while !one.live.borrow().phases().is_complete() {
            let Some(progress) = one.next(&mut stream).await? else {
                break;
            };
            let updates = one.live.borrow_mut().take(&progress);
            let shown = self.screen.borrow_mut().show(nth, &progress, &updates);
            shown.context("cannot show progress")?;
            self.refresh();
        }
        let updates = one.live.borrow_mut().close();
        let shown = self.screen.borrow_mut().updates(nth, &updates);
        shown.context("cannot show progress")
    }

    /// Shows times, rates and estimates as they are now.
    fn refresh(&self) {
        let now = Timestamp::from(SystemTime::now());
        let lives: Vec<_> = self.all.iter().map(|one| one.live.borrow()).collect();
        let estimates = self.all.iter().map(|one| one.estimate(now));
        let standing = lives.iter().map(|live| &**live).zip(estimates);
        self.screen.borrow_mut().refresh(standing, now);
    }

    /// Never ends; dropped with the watching.
    async fn keep_fresh(&self) {
        let mut ticks = interval(REFRESH);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.refresh();
        }
    }
}

/// Shows borrowings from their beginnings. Ctrl-C ends the watching only.
pub(crate) async fn watch(
    config: &ConfigArg,
    client: &ControlClient,
    all: Vec<Watched>,
    json: bool,
) -> Result<Exit> {
    let subjects = all.iter().map(|one| Subject {
        id: one.view.id.clone(),
        name: one.view.hostname.clone(),
    });
    let screen = RefCell::new(Screen::for_stdout(json, subjects.collect()));
    let watching = Watching { all, screen };
    let streams = (0..watching.all.len()).map(|nth| watching.until_the_end(nth, client));
    // Goal: the end of every transfer, or the person's impatience. The streams are only read: nothing is lost with them.
    let ends = tokio::select! {
        ends = join_all(streams) => Some(ends),
        () = watching.keep_fresh() => None,
        _ = ctrl_c() => None,
    };
    watching.screen.borrow_mut().close();
    let Some(ends) = ends else {
        let living = watching.all.iter().filter(|one| !one.is_over());
        say_how_to_follow(config, living.map(|one| &one.view));
        return Ok(Exit::Interrupted);
    };
    tell_the_ends(client, watching, ends).await
}

/// Tells what came of every transfer, and what went wrong with the watching of one.
async fn tell_the_ends(client: &ControlClient, watching: Watching, ends: Vec<Result<()>>) -> Result<Exit> {
    let several = ends.len() > 1;
    let people = watching.screen.borrow().is_for_people();
    let mut worst = Exit::Done;
    let mut over = Vec::new();
    for (one, end) in watching.all.into_iter().zip(ends) {
        match end {
            Ok(()) => over.push((refreshed(client, one.view).await, one.live.into_inner())),
            Err(error) => {
                let chain = leaseboot_po::error_chain(error.as_ref());
                eprintln!("leaseboot-po: {}: {chain}", one.view.hostname);
                worst = worst.max(Exit::of(&error));
            }
        }
    }
    if several && people {
        print!("{}", conclusion::table(&over));
    }
    for (view, live) in &over {
        worst = worst.max(conclude(view, live, people, several)?);
    }
    Ok(worst)
}

/// Says how to go on watching what goes on.
pub(crate) fn say_how_to_follow<'a>(config: &ConfigArg, living: impl IntoIterator<Item = &'a BorrowingView>) {
    let names: Vec<_> = living.into_iter().map(|view| view.id.as_str()).collect();
    let what = match names.len() {
        0 => return,
        1 => "the transfer goes on; follow it",
        _ => "the transfers go on; follow them",
    };
    eprintln!(
        "{what} with `leaseboot-po follow {} --config {}`",
        names.join(" "),
        config.config.display()
    );
}

/// The lease and the server are known by now.
async fn refreshed(client: &ControlClient, view: BorrowingView) -> BorrowingView {
    client.find(view.id.as_str()).await.unwrap_or(view)
}
