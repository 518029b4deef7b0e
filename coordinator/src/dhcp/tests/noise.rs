//! Bytes that no client should send.

use super::*;
use proptest::prelude::*;

#[test]
fn an_option_that_makes_no_sense_hides_no_other() {
    let mut bytes = message(KNOWN, MessageType::Discover, []).to_vec().unwrap();
    bytes.truncate(240);
    // A host name that is not UTF-8, Rapid Commit with a body, and an address of three bytes.
    bytes.extend([12, 2, 0xff, 0xfe, 80, 1, 9, 50, 3, 1, 2, 3, 53, 1, 1, 60, 9]);
    bytes.extend(b"PXEClient");
    bytes.push(255);
    let reply = handle_datagram(&mut server(), &bytes, directory, Instant::now())
        .unwrap()
        .unwrap();
    let answer = Message::decode(&mut Decoder::new(&reply.bytes)).unwrap();
    assert_eq!(answer.yiaddr(), FIXED);
    assert!(answer.opts().contains(OptionCode::BootfileName));
}

#[test]
fn what_is_not_for_us_is_ignored() {
    let good = message(KNOWN, MessageType::Discover, []).to_vec().unwrap();
    let changed = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        handle_datagram(&mut server(), &bytes, directory, Instant::now())
    };
    assert_eq!(changed(0, 2), Err(Ignored::NotARequest));
    assert_eq!(changed(236, 0), Err(Ignored::NotARequest));
    for length in [0, 5, 7, 16, 17, 255] {
        assert_eq!(
            changed(2, length),
            Err(Ignored::Hardware),
            "hardware address of {length} bytes"
        );
    }
    assert_eq!(changed(28, 0xff), Err(Ignored::Hardware));
    assert_eq!(
        handle_datagram(&mut server(), &good[..239], directory, Instant::now()),
        Err(Ignored::Short)
    );
    assert_eq!(
        handle_datagram(&mut server(), &good[..240], directory, Instant::now()),
        Err(Ignored::NoType)
    );
}

fn any_kind() -> impl Strategy<Value = MessageType> {
    (0u8..20).prop_map(MessageType::from)
}

proptest! {
    #[test]
    fn never_panics_on_noise(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = handle_datagram(&mut server(), &bytes, directory, Instant::now());
    }

    /// Valid headers with random options reach the code behind the first checks.
    #[test]
    fn never_panics_on_random_options(options in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut bytes = message(KNOWN, MessageType::Discover, []).to_vec().unwrap();
        bytes.truncate(243);
        bytes.extend(options);
        let _ = handle_datagram(&mut server(), &bytes, directory, Instant::now());
    }

    #[test]
    fn never_panics_on_changed_bytes(
        kind in any_kind(),
        known in any::<bool>(),
        changes in prop::collection::vec((0usize..400, any::<u8>()), 0..8),
        cut in 0usize..400,
    ) {
        let options = [class("PXEClient:Arch:00000"), architectures(&[0, 7]), DhcpOption::UserClass(b"iPXE".to_vec()),
            DhcpOption::RequestedIpAddress(FIXED), DhcpOption::ClientMachineIdentifier(vec![1; 17])];
        let mut bytes = message(if known { KNOWN } else { STRANGER }, kind, options).to_vec().unwrap();
        for (at, byte) in changes {
            if let Some(place) = bytes.get_mut(at) { *place = byte; }
        }
        bytes.truncate(bytes.len().saturating_sub(cut / 8));
        if let Ok(Some(reply)) = handle_datagram(&mut server(), &bytes, directory, Instant::now()) {
            prop_assert!(reply.bytes.len() <= 1024);
            let to = *reply.to.ip();
            prop_assert!(to.is_broadcast() || settings(DhcpConfig::default()).address.contains(&to));
        }
    }
}
