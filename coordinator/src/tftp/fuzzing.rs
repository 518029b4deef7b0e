//! See [`crate::fuzzing`].

use super::sessions::{LANES, Outboxes, Sessions};
use super::{CONFIRMED_SENDS, TftpSettings, UNCONFIRMED_SENDS};
use bytes::Bytes;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

/// What one client sends: datagrams, each behind its length in one byte. The first bit of the length says that it goes to the well-known port; others
/// go to each lane. Then there is silence, and everything must end.
pub(crate) fn transfer(mut bytes: &[u8]) {
    let client = SocketAddr::from((Ipv4Addr::new(10, 0, 0, 9), 2000));
    let mut now = Instant::now();
    let settings = TftpSettings {
        address: Ipv4Addr::new(10, 0, 0, 1).into(),
        port: 69,
        clients: vec!["10.0.0.0/8".parse().expect("a network")],
        mtu: 1500,
    };
    let (mut sessions, mut outboxes) = (Sessions::new(settings, now), Outboxes::default());
    let file = Bytes::from_static(&[7; 3000]);
    let mut datagrams = 0;
    while let [length, rest @ ..] = bytes {
        let (datagram, after) = rest.split_at(usize::from(length & 0x7f).min(rest.len()));
        bytes = after;
        datagrams += 1;
        if length & 0x80 != 0 {
            if let Ok(Some(lookup)) = sessions.request(datagram, client, now) {
                let found = (lookup.name != "none").then(|| file.clone());
                sessions.found(lookup.ticket, found, now, &mut outboxes);
            }
        } else {
            (0..LANES).for_each(|lane| sessions.datagram(lane, client, datagram, now, &mut outboxes));
        }
        now += Duration::from_millis(u64::from(length & 0x0f) * 100);
    }
    while let Some(next) = sessions.next_tick() {
        now = now.max(next);
        sessions.tick(now, &mut outboxes);
    }
    assert_eq!(sessions.len(), 0, "a transfer without an end");
    let sent: usize = outboxes.iter_mut().map(|outbox| outbox.take().len()).sum();
    // A file of 3000 bytes has 376 blocks of 8 at most, which go out once for each datagram and for each time without an answer.
    let times = datagrams * LANES + (UNCONFIRMED_SENDS + CONFIRMED_SENDS) as usize * LANES * 2;
    assert!(sent <= 377 * times, "{sent} packets for {datagrams} datagrams");
}
