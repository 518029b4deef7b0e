//! All transfers that are under way, without a socket or a clock.
//!
//! ```text
//!   request ──► Asked ──── the file is known ────► Sending ──► over
//!                 └─────── there is none ────────────────────► over (ERROR 1)
//! ```
//!
//! RFC 1350 tells transfers apart by the ports of both sides. A port of ours for each transfer would be a socket for each; instead there are a few
//! sockets, *lanes*, and a transfer is known by its lane and the client's address and port. New transfers take the lanes in turn, so that a client
//! that asks again from the same port, as UEFI firmware does after it has asked for the size, meets another port of ours, and what is still under way of its first
//! transfer cannot be mistaken for its second.
//!
//! What strangers can make this remember is bounded by [`MOST_TRANSFERS`] and [`MOST_PER_ADDRESS`]. A request with a forged sender costs nothing, so a transfer
//! has a right to its place only from its client's first ACK on: while there is no room, the oldest one that has not been confirmed makes room. In a flood a
//! client has the time in which so many others ask, a good fraction of a second, and an ACK takes milliseconds.

use super::TftpSettings;
use super::negotiation::Terms;
use super::packet::{self, ErrorCode, FromClient, ReadRequest};
use super::transfer::{End, Event, Outgoing, Transfer};
use super::wheel::Wheel;
use crate::datagrams::Outbox;
use bytes::Bytes;
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// Sockets that transfers share.
pub(super) const LANES: usize = 4;
/// Transfers at once, in all. Each costs a few hundred bytes.
const MOST_TRANSFERS: usize = 4096;
/// Transfers at once to one address: firmware runs one, a person at a console a few.
const MOST_PER_ADDRESS: usize = 8;

/// Looks of the wheel that may be outstanding. Each transfer that made room leaves one or two behind for a second, so this is reached only when more
/// requests come than could be answered.
const MOST_LOOKS: usize = 32 * MOST_TRANSFERS;
/// How often a transfer whose name is being looked up is looked at.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How long looking a name up may take; the client's own patience ends at about that time.
const LOOKUP_TIME: Duration = Duration::from_secs(30);

/// Names a transfer while it is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    lane: usize,
    client: SocketAddr,
}

/// A file that must be looked up for a transfer.
#[derive(Debug)]
pub(super) struct Lookup {
    /// For [`Sessions::found`].
    pub(super) ticket: Ticket,
    /// The name, without a slash in front.
    pub(super) name: String,
}

/// Says which transfer a file is for, and survives that transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    key: Key,
    serial: u64,
}

impl Ticket {
    pub(super) fn client(self) -> SocketAddr {
        self.key.client
    }
}

#[derive(Debug)]
struct Session {
    serial: u64,
    request: ReadRequest,
    begun: Instant,
    /// The one look of the wheel that counts.
    next_look: Instant,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Asked,
    Sending(Transfer),
    /// Only while [`Sessions::react`] works.
    Moving,
}

impl Session {
    /// Whether its client has not shown yet that it is there.
    fn is_unconfirmed(&self) -> bool {
        match &self.stage {
            Stage::Sending(transfer) => !transfer.is_confirmed(),
            Stage::Asked | Stage::Moving => true,
        }
    }
}

/// Where packets are put to be sent: one outbox for each lane.
pub(super) type Outboxes = [Outbox; LANES];

/// The table of transfers.
#[derive(Debug)]
pub(super) struct Sessions {
    settings: TftpSettings,
    live: HashMap<Key, Session>,
    per_address: HashMap<IpAddr, Vec<Ticket>>,
    /// In the order in which they began; also some that have been confirmed, or are over.
    unconfirmed: VecDeque<Ticket>,
    wheel: Wheel<(Ticket, Instant)>,
    due: Vec<(Ticket, Instant)>,
    out: Vec<Outgoing>,
    packet: Vec<u8>,
    requests: u64,
}

impl Sessions {
    pub(super) fn new(settings: TftpSettings, now: Instant) -> Self {
        Self {
            settings,
            live: HashMap::new(),
            per_address: HashMap::new(),
            unconfirmed: VecDeque::new(),
            wheel: Wheel::new(now),
            due: Vec::new(),
            out: Vec::new(),
            packet: Vec::new(),
            requests: 0,
        }
    }

    /// How many transfers are under way.
    pub(super) fn len(&self) -> usize {
        self.live.len()
    }

    /// When [`Sessions::tick`] is due.
    pub(super) fn next_tick(&self) -> Option<Instant> {
        self.wheel.next()
    }

    /// A datagram to the server's well-known port. `Ok(None)` when nobody is to be answered.
    ///
    /// # Errors
    /// Code and words of the ERROR packet that the client is to get.
    pub(super) fn request(
        &mut self,
        datagram: &[u8],
        client: SocketAddr,
        now: Instant,
    ) -> Result<Option<Lookup>, (ErrorCode, &'static str)> {
        if !self
            .settings
            .clients
            .iter()
            .any(|network| network.contains(&client.ip()))
        {
            tracing::debug!(%client, "a TFTP request from elsewhere is left without an answer");
            return Ok(None);
        }
        let request = match FromClient::parse(datagram) {
            Ok(FromClient::Read(request)) => request,
            Ok(FromClient::Write) => return Err((ErrorCode::AccessViolation, "this server is read-only")),
            // Not answered: two servers must not be made to talk to each other.
            Ok(FromClient::Ack(_) | FromClient::Error { .. }) | Err(_) => return Ok(None),
        };
        if request.mode != "octet" {
            return Err((ErrorCode::Illegal, "only mode octet is served"));
        }
        if self.is_repetition(client, &request) {
            return Ok(None);
        }
        if self.wheel.waiting() >= MOST_LOOKS {
            return Ok(None);
        }
        let busy = Err((ErrorCode::Busy, "too many transfers, try again"));
        if !self.make_room(client.ip()) {
            return busy;
        }
        match self.free_lane(client) {
            Some(lane) => Ok(Some(self.begin(Key { lane, client }, request, now))),
            None => busy,
        }
    }

    /// Room for one more from this address, at the cost of a transfer that nobody has confirmed. `false` when there is none.
    fn make_room(&mut self, address: IpAddr) -> bool {
        let of_address = self.per_address.get(&address).map_or(&[][..], Vec::as_slice);
        let instead_of = if of_address.len() >= MOST_PER_ADDRESS {
            of_address
                .iter()
                .copied()
                .find(|ticket| self.is_unconfirmed(*ticket))
        } else if self.live.len() >= MOST_TRANSFERS {
            self.drop_confirmed();
            self.unconfirmed.pop_front()
        } else {
            return true;
        };
        if let Some(ticket) = instead_of {
            self.end(ticket.key, &End::MadeRoom);
        }
        instead_of.is_some()
    }

    fn is_unconfirmed(&self, ticket: Ticket) -> bool {
        let session = self.live.get(&ticket.key);
        session.is_some_and(|session| session.serial == ticket.serial && session.is_unconfirmed())
    }

    /// So that the first of the list has not been confirmed, and the list does not grow without end.
    fn drop_confirmed(&mut self) {
        while let Some(ticket) = self.unconfirmed.front().copied()
            && !self.is_unconfirmed(ticket)
        {
            self.unconfirmed.pop_front();
        }
    }

    /// The name for a transfer that [`Sessions::request`] began is not looked up: it is as if nothing had been asked.
    pub(super) fn give_up(&mut self, ticket: Ticket) {
        if self
            .live
            .get(&ticket.key)
            .is_some_and(|session| session.serial == ticket.serial)
        {
            self.end(ticket.key, &End::MadeRoom);
        }
    }

    /// The file for a transfer that [`Sessions::request`] began; `None` when there is none of that name.
    pub(super) fn found(
        &mut self,
        ticket: Ticket,
        file: Option<Bytes>,
        now: Instant,
        outboxes: &mut Outboxes,
    ) {
        let Some(session) = self
            .live
            .get_mut(&ticket.key)
            .filter(|session| session.serial == ticket.serial)
        else {
            return;
        };
        let Some(file) = file else {
            let words = packet::error(ErrorCode::NotFound, "no such file");
            outboxes[ticket.key.lane].datagram(ticket.key.client, &words);
            self.end(ticket.key, &End::NotFound);
            return;
        };
        let terms = Terms::negotiate(
            &session.request,
            file.len() as u64,
            self.settings.negotiated_mtu(),
        );
        let transfer = Transfer::start(file, terms, now, &mut self.out);
        post(&transfer, ticket.key, &mut self.out, &mut self.packet, outboxes);
        session.next_look = transfer.deadline();
        self.wheel.look((ticket, session.next_look), session.next_look);
        session.stage = Stage::Sending(transfer);
    }

    /// A datagram to a lane.
    pub(super) fn datagram(
        &mut self,
        lane: usize,
        client: SocketAddr,
        bytes: &[u8],
        now: Instant,
        outboxes: &mut Outboxes,
    ) {
        self.react(Key { lane, client }, Event::Datagram(bytes), now, outboxes);
    }

    /// Sends again what was lost, and ends what is silent.
    pub(super) fn tick(&mut self, now: Instant, outboxes: &mut Outboxes) {
        let mut due = std::mem::take(&mut self.due);
        self.wheel.due(now, &mut due);
        for (ticket, look) in due.drain(..) {
            let is_next = |session: &&Session| session.serial == ticket.serial && session.next_look == look;
            let deadline = match self.live.get(&ticket.key).filter(is_next) {
                None => continue,
                Some(Session {
                    stage: Stage::Sending(transfer),
                    ..
                }) => transfer.deadline(),
                Some(session) => session.begun + LOOKUP_TIME,
            };
            if deadline <= now {
                self.overdue(ticket.key, now, outboxes);
            }
            if let Some(session) = self.live.get_mut(&ticket.key) {
                session.next_look = match &session.stage {
                    Stage::Sending(transfer) => transfer.deadline(),
                    Stage::Asked | Stage::Moving => now + LOOK_AGAIN,
                };
                self.wheel.look((ticket, session.next_look), session.next_look);
            }
        }
        self.due = due;
    }

    fn overdue(&mut self, key: Key, now: Instant, outboxes: &mut Outboxes) {
        if self
            .live
            .get(&key)
            .is_some_and(|session| matches!(session.stage, Stage::Sending(_)))
        {
            self.react(key, Event::Deadline, now, outboxes);
        } else {
            tracing::error!(client = %key.client, "a TFTP name is still being looked up");
            self.end(key, &End::Silence);
        }
    }

    fn begin(&mut self, key: Key, request: ReadRequest, now: Instant) -> Lookup {
        self.requests += 1;
        let serial = self.requests;
        let name = request.name.strip_prefix('/').unwrap_or(&request.name).to_owned();
        let session = Session {
            serial,
            request,
            begun: now,
            next_look: now + LOOK_AGAIN,
            stage: Stage::Asked,
        };
        let ticket = Ticket { key, serial };
        self.wheel.look((ticket, session.next_look), session.next_look);
        self.live.insert(key, session);
        self.per_address.entry(key.client.ip()).or_default().push(ticket);
        self.drop_confirmed();
        self.unconfirmed.push_back(ticket);
        Lookup { ticket, name }
    }

    fn react(&mut self, key: Key, event: Event<'_>, now: Instant, outboxes: &mut Outboxes) {
        let Some(session) = self.live.get_mut(&key) else {
            return;
        };
        match std::mem::replace(&mut session.stage, Stage::Moving) {
            Stage::Sending(transfer) => match transfer.step(event, now, &mut self.out) {
                Ok(transfer) => {
                    post(&transfer, key, &mut self.out, &mut self.packet, outboxes);
                    session.stage = Stage::Sending(transfer);
                }
                Err(end) => self.end(key, &end),
            },
            stage => session.stage = stage,
        }
    }

    fn end(&mut self, key: Key, end: &End) {
        self.out.clear();
        let Some(session) = self.live.remove(&key) else {
            return;
        };
        if let Some(tickets) = self.per_address.get_mut(&key.client.ip()) {
            tickets.retain(|ticket| ticket.key != key);
            if tickets.is_empty() {
                self.per_address.remove(&key.client.ip());
            }
        }
        let (client, request) = (key.client, &session.request);
        match end {
            End::Complete => {
                let seconds = session.begun.elapsed().as_secs_f32();
                tracing::info!(%client, %request, seconds, "tftp transfer complete");
            }
            // One for each packet of a flood.
            End::MadeRoom => {
                tracing::debug!(%client, %request, "a tftp transfer that nobody confirmed made room")
            }
            end => tracing::info!(%client, %request, ?end, "tftp transfer ended early"),
        }
    }

    /// The same request once more from the same port, while its transfer has not got through yet: the first answer is on its way, or will be sent again.
    fn is_repetition(&self, client: SocketAddr, request: &ReadRequest) -> bool {
        (0..LANES)
            .filter_map(|lane| self.live.get(&Key { lane, client }))
            .any(|session| session.is_unconfirmed() && session.request == *request)
    }

    /// A lane on which this client's port has no transfer.
    fn free_lane(&self, client: SocketAddr) -> Option<usize> {
        let first = usize::try_from(self.requests % LANES as u64).unwrap_or(0);
        (0..LANES)
            .map(|step| (first + step) % LANES)
            .find(|lane| !self.live.contains_key(&Key { lane: *lane, client }))
    }
}

/// Puts what a transfer wants to send into the outbox of its lane. A run of blocks becomes one message.
fn post(
    transfer: &Transfer,
    key: Key,
    out: &mut Vec<Outgoing>,
    packet: &mut Vec<u8>,
    outboxes: &mut Outboxes,
) {
    let outbox = &mut outboxes[key.lane];
    if out.first() == Some(&Outgoing::Oack) {
        transfer.encode(Outgoing::Oack, packet);
        outbox.datagram(key.client, packet);
    }
    let blocks = out.iter().filter_map(|outgoing| match outgoing {
        Outgoing::Oack => None,
        Outgoing::Block(number) => Some(transfer.block_packet(*number)),
    });
    outbox.blocks(key.client, transfer.file(), blocks);
    out.clear();
}
