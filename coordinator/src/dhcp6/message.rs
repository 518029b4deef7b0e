//! The form of DHCPv6 messages (RFC 8415, section 7.2 and on): a type, and options, each a code, a length and so many bytes.
//!
//! Nothing here knows what an option means; reading cannot run past the end, and gives no option of a message whose lengths do not add up.

use std::net::Ipv6Addr;

/// A message's type (RFC 8415, section 7.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Who can give me an address?
    Solicit,
    /// We can.
    Advertise,
    /// I take your offer.
    Request,
    /// Is my address right on this link?
    Confirm,
    /// May I keep it? To the server that gave it.
    Renew,
    /// May I keep it? To any server.
    Rebind,
    /// The answer to all but a Solicit.
    Reply,
    /// I do not need it any more.
    Release,
    /// Somebody else uses it.
    Decline,
    /// I have an address; what else is there to know?
    InformationRequest,
}

const KINDS: [(u8, Kind); 10] = [
    (1, Kind::Solicit),
    (2, Kind::Advertise),
    (3, Kind::Request),
    (4, Kind::Confirm),
    (5, Kind::Renew),
    (6, Kind::Rebind),
    (7, Kind::Reply),
    (8, Kind::Release),
    (9, Kind::Decline),
    (11, Kind::InformationRequest),
];

impl Kind {
    pub(super) fn of(number: u8) -> Option<Self> {
        KINDS.iter().find(|(n, _)| *n == number).map(|(_, kind)| *kind)
    }

    pub(super) fn number(self) -> u8 {
        KINDS
            .iter()
            .find(|(_, kind)| *kind == self)
            .map_or(0, |(n, _)| *n)
    }
}

/// The types of messages between relays and servers.
pub(super) const RELAY_FORWARD: u8 = 12;
pub(super) const RELAY_REPLY: u8 = 13;

/// Codes of options (IANA "Dynamic Host Configuration Protocol for IPv6").
pub(super) mod code {
    pub(in super::super) const CLIENT_ID: u16 = 1;
    pub(in super::super) const SERVER_ID: u16 = 2;
    pub(in super::super) const IA_NA: u16 = 3;
    pub(in super::super) const IA_ADDRESS: u16 = 5;
    pub(in super::super) const REQUESTED: u16 = 6;
    pub(in super::super) const PREFERENCE: u16 = 7;
    pub(in super::super) const RELAY_MESSAGE: u16 = 9;
    pub(in super::super) const STATUS: u16 = 13;
    pub(in super::super) const RAPID_COMMIT: u16 = 14;
    pub(in super::super) const USER_CLASS: u16 = 15;
    pub(in super::super) const VENDOR_CLASS: u16 = 16;
    pub(in super::super) const INTERFACE_ID: u16 = 18;
    pub(in super::super) const NAME_SERVERS: u16 = 23;
    /// RFC 5970.
    pub(in super::super) const BOOT_FILE_URL: u16 = 59;
    /// RFC 5970: numbers of "Processor Architecture Types".
    pub(in super::super) const ARCHITECTURE: u16 = 61;
    /// RFC 6939.
    pub(in super::super) const CLIENT_CARD: u16 = 79;
}

/// What became of a request (RFC 8415, section 21.13).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// 0.
    Success,
    /// 2: there is no address to give.
    NoAddressAvailable,
    /// 3: the server knows nothing of this one.
    NoBinding,
    /// 4: the address is not of the client's link.
    NotOnLink,
}

impl Status {
    fn number(self) -> u16 {
        match self {
            Status::Success => 0,
            Status::NoAddressAvailable => 2,
            Status::NoBinding => 3,
            Status::NotOnLink => 4,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Status::Success => "",
            Status::NoAddressAvailable => "no address can be given",
            Status::NoBinding => "not given by this server",
            Status::NotOnLink => "not an address of this link",
        }
    }
}

/// Options, one behind the other; `None` stands for the place where their lengths do not add up.
pub(super) fn options(mut rest: &[u8]) -> impl Iterator<Item = Option<(u16, &[u8])>> {
    std::iter::from_fn(move || {
        let [code_high, code_low, high, low, after @ ..] = rest else {
            let broken = !rest.is_empty();
            rest = &[];
            return broken.then_some(None);
        };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let Some((data, next)) = after.split_at_checked(length) else {
            rest = &[];
            return Some(None);
        };
        rest = next;
        Some(Some((u16::from_be_bytes([*code_high, *code_low]), data)))
    })
}

/// A message in the making.
#[derive(Clone, Debug, Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    /// A message between client and server.
    pub(super) fn message(kind: Kind, transaction: [u8; 3]) -> Self {
        let mut bytes = vec![kind.number()];
        bytes.extend(transaction);
        Self(bytes)
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(super) fn number(&mut self, number: u32) -> &mut Self {
        self.bytes(&number.to_be_bytes())
    }

    pub(super) fn address(&mut self, address: Ipv6Addr) -> &mut Self {
        self.bytes(&address.octets())
    }

    /// An option whose content `fill` writes. Content of more than 65,535 bytes cannot be said and is left out.
    pub(super) fn option(&mut self, code: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let mut content = Self::default();
        fill(&mut content);
        if let Ok(length) = u16::try_from(content.0.len()) {
            self.bytes(&code.to_be_bytes());
            self.bytes(&length.to_be_bytes());
            self.bytes(&content.0);
        }
        self
    }

    pub(super) fn status(&mut self, status: Status) -> &mut Self {
        self.option(code::STATUS, |content| {
            content.bytes(&status.number().to_be_bytes());
            content.bytes(status.words().as_bytes());
        })
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn options_read_their_own_writing(written in prop::collection::vec((any::<u16>(), prop::collection::vec(any::<u8>(), 0..40)), 0..12)) {
            let mut writer = Writer::default();
            for (code, data) in &written {
                writer.option(*code, |content| { content.bytes(data); });
            }
            let bytes = writer.finish();
            let read: Option<Vec<(u16, Vec<u8>)>> = options(&bytes).map(|o| o.map(|(code, data)| (code, data.to_vec()))).collect();
            prop_assert_eq!(read, Some(written));
        }

        #[test]
        fn a_message_that_was_cut_is_noticed(data in prop::collection::vec(any::<u8>(), 1..40), cut in 1usize..40) {
            let mut writer = Writer::default();
            writer.option(16, |content| { content.bytes(&data); });
            let bytes = writer.finish();
            let kept = &bytes[..bytes.len() - cut.min(bytes.len() - 1)];
            prop_assert!(options(kept).any(|option| option.is_none()));
        }
    }

    #[test]
    fn kinds_have_the_numbers_of_the_standard() {
        assert_eq!(Kind::of(11), Some(Kind::InformationRequest));
        assert_eq!((Kind::Solicit.number(), Kind::Reply.number()), (1, 7));
        assert_eq!((Kind::of(0), Kind::of(10), Kind::of(12)), (None, None, None));
    }
}
