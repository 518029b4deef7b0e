//! The table of transfers, in virtual time and without a socket.

use crate::tftp::TftpSettings;
use crate::tftp::packet::ErrorCode;
use crate::tftp::sessions::{Lookup, Outboxes, Sessions};
use crate::tftp::transfer::UNCONFIRMED_SENDS;
use bytes::Bytes;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

const RRQ: &[u8] = b"\0\x01grub/core.0\0octet\0tsize\0\x30\0";

struct Table {
    sessions: Sessions,
    outboxes: Outboxes,
    now: Instant,
}

impl Table {
    fn new() -> Self {
        let settings = TftpSettings {
            address: Ipv4Addr::new(10, 0, 0, 1).into(),
            port: 69,
            clients: vec!["10.0.0.0/8".parse().unwrap()],
            mtu: 1500,
        };
        let now = Instant::now();
        Self {
            sessions: Sessions::new(settings, now),
            outboxes: Outboxes::default(),
            now,
        }
    }

    fn ask(&mut self, client: SocketAddr) -> Result<Option<Lookup>, (ErrorCode, &'static str)> {
        self.sessions.request(RRQ, client, self.now)
    }

    /// Asks, and finds the file at once.
    fn begin(&mut self, client: SocketAddr) {
        let lookup = self.ask(client).unwrap().unwrap();
        let file = Some(Bytes::from_static(&[7; 1000]));
        self.sessions
            .found(lookup.ticket, file, self.now, &mut self.outboxes);
    }

    /// What has been sent since the last call: lane, client, packet.
    fn sent(&mut self) -> Vec<(usize, SocketAddr, Vec<u8>)> {
        let mut sent = Vec::new();
        for (lane, outbox) in self.outboxes.iter_mut().enumerate() {
            sent.extend(outbox.take().into_iter().map(|(to, packet)| (lane, to, packet)));
        }
        sent
    }

    fn hear(&mut self, lane: usize, client: SocketAddr, packet: &[u8]) {
        self.sessions
            .datagram(lane, client, packet, self.now, &mut self.outboxes);
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(next) = self.sessions.next_tick().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            self.sessions.tick(self.now, &mut self.outboxes);
        }
        self.now = end;
    }
}

fn client(number: u16, port: u16) -> SocketAddr {
    let [high, low] = number.to_be_bytes();
    SocketAddr::from((Ipv4Addr::new(10, 1, high, low), port))
}

#[test]
fn a_second_request_from_one_port_meets_another_port_of_ours() {
    let mut table = Table::new();
    table.begin(client(1, 2000));
    let (lane, _, oack) = table.sent().remove(0);
    assert_eq!(oack[..2], [0, 6]);
    assert!(
        table.ask(client(1, 2000)).unwrap().is_none(),
        "the same once more is a repetition"
    );
    table.sessions.datagram(
        lane,
        client(1, 2000),
        &[0, 4, 0, 0],
        table.now,
        &mut table.outboxes,
    );
    assert_eq!(table.sent().len(), 1);
    table.begin(client(1, 2000));
    let (second, _, _) = table.sent().remove(0);
    assert_ne!(lane, second);
    // What is meant for the first does nothing to the second, and the other way round.
    table.sessions.datagram(
        second,
        client(1, 2000),
        &[0, 5, 0, 0, 0],
        table.now,
        &mut table.outboxes,
    );
    assert_eq!(table.sessions.len(), 1);
    table.sessions.datagram(
        lane,
        client(1, 2000),
        &[0, 4, 0, 1],
        table.now,
        &mut table.outboxes,
    );
    assert_eq!(table.sent()[0].2[..4], [0, 3, 0, 2]);
}

#[test]
fn one_address_gets_a_few_transfers_and_others_go_on() {
    let mut table = Table::new();
    let mut lanes = Vec::new();
    for port in 2000..2008 {
        table.begin(client(1, port));
        lanes.push(table.sent().remove(0).0);
    }
    // The oldest that has not been confirmed makes room; those that have been do not.
    for (port, lane) in (2000..2008).zip(&lanes).skip(1) {
        table.hear(*lane, client(1, port), &[0, 4, 0, 0]);
    }
    table.begin(client(1, 2008));
    let sent = table.sent();
    let (lane, ..) = sent.iter().find(|(_, to, _)| to.port() == 2008).unwrap();
    assert_eq!(table.sessions.len(), 8);
    table.hear(lanes[0], client(1, 2000), &[0, 4, 0, 0]);
    assert!(table.sent().is_empty(), "the first transfer is over");
    table.hear(*lane, client(1, 2008), &[0, 4, 0, 0]);
    assert_eq!(table.sent().len(), 1);
    assert!(matches!(table.ask(client(1, 2009)), Err((ErrorCode::Busy, _))));
    table.begin(client(2, 2000));
    assert!(
        table
            .ask(SocketAddr::from((Ipv4Addr::new(8, 8, 8, 8), 9)))
            .unwrap()
            .is_none()
    );
}

/// Spoofed addresses that never answer: each is sent a few packets, they take no more room than there is, and whoever answers is served.
#[test]
fn a_flood_of_half_open_transfers_is_bounded_and_passes() {
    let mut table = Table::new();
    table.begin(client(60_000, 2000));
    let (lane, _, _) = table.sent().remove(0);
    table.hear(lane, client(60_000, 2000), &[0, 4, 0, 0]);
    let mut sent = table.sent().len();
    for number in 0..20_000 {
        table.begin(client(number, 2000));
        sent += table.sent().len();
        assert!(table.sessions.len() <= 4096);
        if number % 1000 == 999 {
            // An honest client among them, which acknowledges after a while.
            table.begin(client(50_000 + number / 1000, 2000));
            let (lane, honest, _) = table.sent().remove(0);
            for other in 0..1000 {
                table.begin(client(20_000 + other, number));
            }
            sent += table.sent().len();
            table.hear(lane, honest, &[0, 4, 0, 0]);
            assert_eq!(table.sent()[0].2[..4], [0, 3, 0, 1]);
            table.hear(lane, honest, &[0, 4, 0, 1]);
            assert_eq!(table.sent()[0].2[..4], [0, 3, 0, 2]);
        }
    }
    assert_eq!(sent, 1 + 20_000 + 20 * 1000);
    // The transfer that was confirmed before all that goes on.
    table.hear(lane, client(60_000, 2000), &[0, 4, 0, 1]);
    assert_eq!(table.sent()[0].2[..4], [0, 3, 0, 2]);
    table.pass(Duration::from_secs(200));
    assert_eq!(table.sessions.len(), 0);
    let again = table.sent().len();
    // Those that answered once are sent their last block a few times more.
    assert!(
        again <= 4096 * (UNCONFIRMED_SENDS as usize - 1) + 21 * 7,
        "{again}"
    );
}

#[test]
fn a_name_that_is_never_found_is_given_up() {
    let mut table = Table::new();
    let lookup = table.ask(client(1, 2000)).unwrap().unwrap();
    assert_eq!(lookup.name, "grub/core.0");
    table.pass(Duration::from_secs(60));
    assert_eq!(table.sessions.len(), 0);
    // The answer comes too late and is for nobody.
    table.sessions.found(
        lookup.ticket,
        Some(Bytes::from_static(b"x")),
        table.now,
        &mut table.outboxes,
    );
    assert!(table.sent().is_empty());
}

#[test]
fn a_missing_file_is_said_from_the_transfers_own_port() {
    let mut table = Table::new();
    let lookup = table.ask(client(1, 2000)).unwrap().unwrap();
    table
        .sessions
        .found(lookup.ticket, None, table.now, &mut table.outboxes);
    assert_eq!(table.sent()[0].2[..4], [0, 5, 0, 1]);
    assert_eq!(table.sessions.len(), 0);
}
