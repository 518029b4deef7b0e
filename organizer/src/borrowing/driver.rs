//! Carries one borrowing: does what its state asks of the LM, keeps the gateway's peers in step, and writes every change down
//! before anybody hears of it.
//!
//! Peers that a change takes away go before it is written, peers that it brings come after: a failure in between leaves too few
//! peers and never too many, and the next attempt or the next start puts it right.

pub use super::inbox::{Denied, Input, Snapshot};

use super::choice::{Chosen, Lenders, PassedOver, choose};
use super::drain::drain;
use super::machine::{Duty, Event, Peer, State};
use super::telling::{difference, last_note, tell, tell_of_values};
use super::{BorrowingId, Heard, Order};
use crate::announce::Announcer;
use crate::gateway::{KeyClaims, Peers};
use crate::lender::{Lender, LenderError};
use crate::passage::Passage;
use crate::progress::Note;
use crate::store::{Record, Store, StoreError};
use crate::{error_chain, now};
use leaseboot_protocol::lease::{EventKind, LeaseEvent};
use leaseboot_protocol::network::WireguardPublicKey;
use leaseboot_protocol::timestamp::Timestamp;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How often the gateway is asked whether the member has shaken hands.
const HANDSHAKE_POLL: Duration = Duration::from_millis(250);

/// What all drivers share.
pub struct Surroundings<P> {
    /// The store.
    pub store: Store,
    /// The LMs.
    pub lenders: Lenders,
    /// The gateway's peers.
    pub peers: P,
    /// Which borrowing a key belongs to.
    pub claims: KeyClaims,
    /// Who is told that servers come and go.
    pub announcer: Announcer,
    /// Which packets pass into the enterprise.
    pub passage: Passage,
}

/// One borrowing.
pub struct Driver<P> {
    id: BorrowingId,
    order: Arc<Order>,
    state: State,
    heard: Heard,
    surroundings: Arc<Surroundings<P>>,
    inbox: mpsc::Receiver<Input>,
    snapshot: watch::Sender<Snapshot>,
    silence: Option<Silence>,
    /// The lender that is or was asked, where there are several.
    chosen: Option<String>,
    /// Those that do not lend.
    passed_over: Vec<PassedOver>,
    /// Whether the chosen one may have granted a lease whose answer is lost.
    maybe_granted: bool,
    /// When it came into its state.
    since: Timestamp,
    /// What is ours to do before the server goes back. It outlasts inputs that come meanwhile.
    leaving: JoinSet<Event>,
}

/// Whom an attempt is for.
enum Whom<'a> {
    /// The borrowing's lender, when there is such a one.
    One(Result<&'a Lender, LenderError>),
    /// The best of several, without those that were passed over.
    Best(Vec<PassedOver>),
    /// Nobody: no lender was asked yet, and none needs to be any more.
    Nobody,
}

/// What an attempt brought.
enum Step {
    Events(Vec<Event>),
    Chosen(Chosen),
}

fn nobody_was_asked() -> Event {
    Event::GaveUp {
        reason: "no lender was asked yet".to_owned(),
        maybe_granted: false,
    }
}

/// The LM has not answered for a while.
struct Silence {
    since: Instant,
    pause: Duration,
    maybe_carried_out: bool,
}

impl<P: Peers> Driver<P> {
    /// Takes a borrowing up where its record stands.
    pub fn new(
        record: Record,
        order: Arc<Order>,
        surroundings: Arc<Surroundings<P>>,
        inbox: mpsc::Receiver<Input>,
        snapshot: watch::Sender<Snapshot>,
    ) -> Self {
        Self {
            id: record.id,
            order,
            state: record.state,
            heard: record.heard,
            surroundings,
            inbox,
            snapshot,
            silence: None,
            // A PO that was killed may have sent its request.
            maybe_granted: record.lender.is_some(),
            chosen: record.lender,
            passed_over: Vec::new(),
            since: record.since,
            leaving: JoinSet::new(),
        }
    }

    /// Carries the borrowing until it is over or `stop` is cancelled.
    pub async fn run(mut self, stop: CancellationToken) {
        for peer in self.state.peers() {
            self.let_in(peer).await;
        }
        while !self.state.is_over() {
            let duty = self.duty();
            self.leave(&duty);
            let (order, surroundings) = (Arc::clone(&self.order), Arc::clone(&self.surroundings));
            let pause = self
                .silence
                .as_ref()
                .map_or(Duration::ZERO, |silence| silence.pause);
            let cursor = self.heard.cursor;
            let whom = self.whom(&surroundings.lenders);
            let attempt = async {
                sleep(pause).await;
                match whom {
                    Whom::One(lender) => duty.attempt(lender?, &order, cursor).await.map(Step::Events),
                    Whom::Best(passed) => choose(&surroundings.lenders, &order, &passed)
                        .await
                        .map(Step::Chosen),
                    Whom::Nobody => Ok(Step::Events(vec![nobody_was_asked()])),
                }
            };
            // Goal: one event more. An attempt may be dropped at any point, for the LM's requests may be repeated and the cursor
            // moves only with what was taken in; receiving and looking for a handshake are cancel-safe.
            tokio::select! {
                () = stop.cancelled() => return,
                Some(input) = self.inbox.recv() => {
                    // The request that is dropped may have been sent.
                    self.maybe_granted |= duty == Duty::Request;
                    self.answer(input).await;
                }
                () = handshake(&surroundings.peers, self.state.awaited_member()) => {
                    self.take_or_pause(vec![Event::MemberSeen]).await;
                }
                Some(ended) = self.leaving.join_next() => match ended {
                    Ok(event) => self.take_or_pause(vec![event]).await,
                    Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
                },
                result = attempt => self.attempted(&duty, result).await,
            }
        }
    }

    /// Whom the duty concerns.
    fn whom<'a>(&self, lenders: &'a Lenders) -> Whom<'a> {
        match (lenders.only(), &self.chosen) {
            (Some(only), None) => Whom::One(Ok(only)),
            (None, None) if self.state == State::Searching => Whom::Best(self.passed_over.clone()),
            (None, None) if self.state.lease().is_none() => Whom::Nobody,
            (_, chosen) => Whom::One(lenders.of(chosen.as_deref())),
        }
    }

    /// What the state asks for; a term that ends goes before.
    fn duty(&self) -> Duty {
        match self.state.lease() {
            Some(lease) if self.order.renew && self.heard.ends_soon && self.state.outcome().is_none() => {
                Duty::Renew(lease.clone())
            }
            _ => self.state.duty(),
        }
    }

    /// Begins what is ours to do before the server goes back, or ends it when nobody waits for it any more.
    fn leave(&mut self, duty: &Duty) {
        if !matches!(duty, Duty::Drain | Duty::Withdraw) {
            // Dropping a task kills the program that it runs.
            self.leaving = JoinSet::new();
            return;
        }
        if !self.leaving.is_empty() {
            return;
        }
        let (order, surroundings, since) = (
            Arc::clone(&self.order),
            Arc::clone(&self.surroundings),
            self.since,
        );
        let (id, drains) = (self.id.clone(), *duty == Duty::Drain);
        self.leaving.spawn(async move {
            if drains {
                return drain(&order, since).await;
            }
            if !surroundings.announcer.withdrawn(&id).await {
                tracing::error!(borrowing = %id, "the server goes back although it is still announced somewhere; that is taken back as soon as it can be");
            }
            Event::Withdrawn
        });
    }

    async fn answer(&mut self, input: Input) {
        let fits = match &input.event {
            Event::MemberKey(key) => {
                self.state.may_register(*key) && self.surroundings.claims.is_free_for(*key, &self.id)
            }
            Event::MemberHello => self.state.may_greet(),
            Event::Unsealing => self.state.may_unseal(),
            Event::Gathering => self.state.may_gather(),
            _ => true,
        };
        let result = match fits {
            false => Err(Denied::NotNow),
            true => self.take(vec![input.event]).await.map_err(|error| {
                tracing::error!(borrowing = %self.id, error = error_chain(&error), "an input is lost");
                Denied::Store
            }),
        };
        // Whoever asked may have gone; what was written down stands.
        let _ = input.reply.send(result);
    }

    async fn attempted(&mut self, duty: &Duty, result: Result<Step, LenderError>) {
        // Only a lender that was chosen among several can be passed over, and only while it surely has granted nothing.
        let passable = *duty == Duty::Request && self.state == State::Searching && self.chosen.is_some();
        match result {
            Ok(Step::Chosen(Chosen { lender, why })) => {
                self.silence = None;
                let note = Note::LenderChosen {
                    lender: lender.clone(),
                    why,
                };
                self.choose(Some(lender), note).await;
            }
            Ok(Step::Events(events)) if passable && matches!(&*events, [Event::Refused(_)]) => {
                if let [Event::Refused(why)] = &*events {
                    self.pass_over(why).await;
                }
            }
            Err(error @ LenderError::Unreachable { .. }) if passable && !self.maybe_granted => {
                self.pass_over(&error_chain(&error)).await;
            }
            Err(LenderError::Refused(refusal)) if *duty == Duty::Request => {
                self.take_or_pause(vec![Event::Refused(refusal.to_string())])
                    .await;
            }
            Ok(Step::Events(events)) => {
                if self
                    .silence
                    .take()
                    .is_some_and(|silence| silence.pause > FIRST_PAUSE)
                {
                    self.note(Note::LenderBack).await;
                }
                self.take_or_pause(events).await;
            }
            Err(error) => self.silent(duty, &error).await,
        }
    }

    /// Leaves the chosen lender for another one.
    async fn pass_over(&mut self, why: &str) {
        let Some(lender) = self.chosen.clone() else {
            return;
        };
        let note = Note::LenderPassedOver {
            lender: lender.clone(),
            why: why.to_owned(),
        };
        if self.choose(None, note).await {
            self.passed_over.push((lender, why.to_owned()));
            (self.silence, self.maybe_granted) = (None, false);
        }
    }

    /// Writes down which lender is asked, before it is; whether that is done.
    async fn choose(&mut self, lender: Option<String>, note: Note) -> bool {
        let store = &self.surroundings.store;
        match store.choose(&self.id, lender.as_deref(), note, now()).await {
            Ok(sequence) => {
                self.chosen = lender;
                self.snapshot.send_modify(|snapshot| snapshot.sequence = sequence);
                true
            }
            Err(error) => {
                tracing::error!(borrowing = %self.id, error = error_chain(&error), "a choice is not written down, trying again");
                sleep(LONGEST_PAUSE).await;
                false
            }
        }
    }

    /// Remembers that the LM did not answer, tells it at the second time, and gives up when the duty's patience is over.
    async fn silent(&mut self, duty: &Duty, error: &LenderError) {
        let silence = self.silence.get_or_insert_with(|| Silence {
            since: Instant::now(),
            pause: Duration::ZERO,
            maybe_carried_out: false,
        });
        silence.maybe_carried_out |= !matches!(error, LenderError::Unreachable { .. });
        silence.pause = (silence.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        let second_time = silence.pause == FIRST_PAUSE * 2;
        let maybe_granted = silence.maybe_carried_out;
        self.maybe_granted |= maybe_granted;
        let over = duty
            .patience()
            .is_some_and(|patience| silence.since.elapsed() > patience);
        let error = error_chain(error);
        tracing::warn!(borrowing = %self.id, error, "the lease manager does not answer");
        if over {
            self.silence = None;
            let reason = format!("{error}; check that it runs, the url in po.toml, and the way there");
            self.take_or_pause(vec![Event::GaveUp {
                reason,
                maybe_granted,
            }])
            .await;
        } else if second_time {
            self.note(Note::LenderSilent { error }).await;
        }
    }

    async fn note(&mut self, note: Note) {
        let done = self.write(self.state.clone(), self.heard, vec![note]).await;
        if let Err(error) = done {
            tracing::error!(borrowing = %self.id, error = error_chain(&error), "a note is lost");
        }
    }

    /// Takes events in. When they cannot be written down they come again: the state has not moved.
    async fn take_or_pause(&mut self, events: Vec<Event>) {
        if let Err(error) = self.take(events).await {
            tracing::error!(borrowing = %self.id, error = error_chain(&error), "a change is not written down, trying again");
            sleep(LONGEST_PAUSE).await;
        }
    }

    async fn take(&mut self, events: Vec<Event>) -> Result<(), StoreError> {
        let before = self.state.clone();
        let (mut state, mut heard, mut notes) = (before.clone(), self.heard, Vec::new());
        for event in events {
            if let Event::Lender(event) = &event {
                if event.sequence <= heard.cursor {
                    continue;
                }
                heard.cursor = event.sequence;
                let event = LeaseEvent::clone(event);
                notes.push(Note::Lender { event });
            }
            hear_of_the_term(&mut heard, &event);
            let event = self.screen(event);
            notes.extend(tell_of_values(&self.order, &state, &event));
            if let Some(next) = state.next(&self.order, &event).filter(|next| *next != state) {
                notes.extend(tell(&self.order, &state, &event, &next));
                state = next;
            }
        }
        if state == before && heard == self.heard && notes.is_empty() {
            return Ok(());
        }
        let (leaving, coming) = difference(&before.peers(), &state.peers());
        for key in &leaving {
            self.surroundings.peers.drop_out(key);
            notes.push(Note::PeerOut { key: *key });
        }
        notes.extend(coming.iter().map(|peer| Note::PeerIn {
            key: peer.key,
            has_address: peer.has_address,
        }));
        if let Some(last) = last_note(&state) {
            notes.push(last);
        }
        self.surroundings
            .passage
            .close(&self.order, &before, &state)
            .await;
        self.write(state, heard, notes).await?;
        for peer in coming {
            self.let_in(peer).await;
        }
        self.surroundings.passage.open(&self.order, &self.state).await;
        let keys: Vec<_> = self.state.peers().iter().map(|peer| peer.key).collect();
        self.surroundings.claims.keep_only(&keys, &self.id);
        Ok(())
    }

    /// A key that another borrowing uses would take that one's peer over: the lender has no right to it.
    fn screen(&self, event: Event) -> Event {
        let key = match &event {
            Event::MemberKey(key) => *key,
            Event::Lender(event) => match event.what {
                EventKind::AgentKey { key } => key,
                _ => return Event::Lender(event.clone()),
            },
            _ => return event,
        };
        if self.surroundings.claims.claim(key, &self.id) {
            event
        } else {
            Event::GaveUp {
                reason: "the lender named a key for the server that belongs to another peer of the gateway"
                    .to_owned(),
                maybe_granted: true,
            }
        }
    }

    async fn write(&mut self, state: State, heard: Heard, notes: Vec<Note>) -> Result<(), StoreError> {
        let store = &self.surroundings.store;
        let at = now();
        let sequence = store.advance(&self.id, &state, heard, &notes, at).await?;
        if state != self.state {
            self.since = at;
            tracing::info!(borrowing = %self.id, from = %self.state, to = %state, "the borrowing goes on");
        }
        self.surroundings.announcer.show(&self.id, &self.order, &state);
        self.state = state.clone();
        self.heard = heard;
        self.snapshot.send_replace(Snapshot { state, sequence });
        Ok(())
    }

    async fn let_in(&self, peer: Peer) {
        let done = self.surroundings.peers.let_in(peer, self.order.address()).await;
        if let Err(error) = done {
            tracing::error!(borrowing = %self.id, error = error_chain(&error), "a peer's route cannot be made");
        }
    }
}

fn hear_of_the_term(heard: &mut Heard, event: &Event) {
    let (expires, ends_soon) = match event {
        Event::Granted(view) => (view.expires, false),
        Event::Renewed(expires) => (Some(*expires), false),
        Event::NotRenewed => (heard.expires, false),
        Event::Lender(event) => match event.what {
            EventKind::Renewed { expires } => (Some(expires), false),
            EventKind::ExpiresSoon { expires } => (Some(expires), true),
            _ => return,
        },
        _ => return,
    };
    heard.expires = expires;
    heard.ends_soon = ends_soon;
}

/// Ends when `key` has shaken hands; never without a key.
async fn handshake<P: Peers>(peers: &P, key: Option<WireguardPublicKey>) {
    let Some(key) = key else {
        return std::future::pending().await;
    };
    let mut polls = interval(HANDSHAKE_POLL);
    polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        polls.tick().await;
        if peers.has_shaken_hands(&key) {
            return;
        }
    }
}
