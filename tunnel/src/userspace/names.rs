//! One question to a name server and its answer (RFC 1035, section 4), for IPv4 addresses. Pure: [`super::Flow`] carries both.

use smoltcp::wire::{
    DnsFlags, DnsOpcode, DnsPacket, DnsQueryType, DnsQuestion, DnsRcode, DnsRecord, DnsRecordData, DnsRepr,
};
use std::net::Ipv4Addr;

/// Bytes of a name and of each of its labels (RFC 1035, 2.3.4).
const LONGEST_NAME: usize = 253;
const LONGEST_LABEL: usize = 63;

/// A name has no address, or is none.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It cannot be asked for.
    #[error("it is no name: labels of 1 to 63 letters, digits, hyphens and underscores are needed")]
    Malformed,
    /// The answer makes no sense.
    #[error("the answer cannot be read")]
    Answer,
    /// The answer does not fit into a datagram.
    #[error("the answer does not fit into a datagram")]
    Truncated,
    /// The server has none.
    #[error("the server says {0}, or names no IPv4 address")]
    NoAddress(String),
}

/// The question for a name's addresses. `id` comes back with the answer.
///
/// # Errors
/// [`NameError::Malformed`].
pub fn question(name: &str, id: u16) -> Result<Vec<u8>, NameError> {
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.len() > LONGEST_NAME {
        return Err(NameError::Malformed);
    }
    let mut labels = Vec::with_capacity(name.len() + 2);
    for label in name.split('.') {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let length = u8::try_from(label.len()).unwrap_or(0);
        if length == 0 || label.len() > LONGEST_LABEL || !label.bytes().all(good) {
            return Err(NameError::Malformed);
        }
        labels.push(length);
        labels.extend_from_slice(label.as_bytes());
    }
    labels.push(0);
    let question = DnsRepr {
        transaction_id: id,
        opcode: DnsOpcode::Query,
        flags: DnsFlags::RECURSION_DESIRED,
        question: DnsQuestion {
            name: &labels,
            type_: DnsQueryType::A,
        },
    };
    let mut bytes = vec![0; question.buffer_len()];
    question.emit(&mut DnsPacket::new_unchecked(&mut bytes[..]));
    Ok(bytes)
}

/// Whether these bytes answer the question `id`, whatever they say.
pub fn answers(datagram: &[u8], id: u16) -> bool {
    DnsPacket::new_checked(datagram)
        .is_ok_and(|packet| packet.transaction_id() == id && packet.flags().contains(DnsFlags::RESPONSE))
}

/// The addresses of an answer, at least one, in its order. A server that follows names for us puts the addresses behind them.
///
/// # Errors
/// All but [`NameError::Malformed`].
pub fn addresses(answer: &[u8]) -> Result<Vec<Ipv4Addr>, NameError> {
    let packet = DnsPacket::new_checked(answer).map_err(|_| NameError::Answer)?;
    if packet.flags().contains(DnsFlags::TRUNCATED) {
        return Err(NameError::Truncated);
    }
    let mut rest = packet.payload();
    for _ in 0..packet.question_count() {
        (rest, _) = DnsQuestion::parse(rest).map_err(|_| NameError::Answer)?;
    }
    let mut found = Vec::new();
    for _ in 0..packet.answer_record_count() {
        let record;
        (rest, record) = DnsRecord::parse(rest).map_err(|_| NameError::Answer)?;
        if let DnsRecordData::A(address) = record.data {
            found.push(address);
        }
    }
    match found.is_empty() {
        false => Ok(found),
        true => Err(NameError::NoAddress(match packet.rcode() {
            DnsRcode::NoError => "that the name exists".to_owned(),
            DnsRcode::NXDomain => "that there is no such name".to_owned(),
            other => format!("{other:?}"),
        })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An answer to `question` by way of another name, as resolvers give it.
    fn answer(question: &[u8], addresses: &[[u8; 4]]) -> Vec<u8> {
        let mut answer = question.to_vec();
        answer[2] = 0x81;
        answer[7] = u8::try_from(addresses.len() + 1).unwrap();
        answer.extend([0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 60, 0, 4, 1, b'x', 0xc0, 12]);
        for address in addresses {
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
            answer.extend(address);
        }
        answer
    }

    #[test]
    fn a_question_is_answered() {
        let asked = question("mirror.corp.example", 0xbeef).unwrap();
        let answered = answer(&asked, &[[172, 20, 0, 2], [172, 20, 0, 3]]);
        assert!(answers(&answered, 0xbeef) && !answers(&answered, 1) && !answers(&asked, 0xbeef));
        let expected = [Ipv4Addr::new(172, 20, 0, 2), Ipv4Addr::new(172, 20, 0, 3)];
        assert_eq!(addresses(&answered).unwrap(), expected);
    }

    #[test]
    fn what_is_not_there_is_told() {
        let mut nothing = answer(&question("a.b", 1).unwrap(), &[]);
        assert!(matches!(addresses(&nothing), Err(NameError::NoAddress(_))));
        nothing[3] |= 3;
        let error = addresses(&nothing).unwrap_err().to_string();
        assert!(error.contains("no such name"), "{error}");
        nothing[2] |= 2;
        assert_eq!(addresses(&nothing), Err(NameError::Truncated));
        for name in ["", "a..b", "a b", &"x".repeat(64), &"a.".repeat(200)] {
            assert_eq!(question(name, 1), Err(NameError::Malformed), "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn no_answer_breaks_it(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = addresses(&bytes);
            let mut like = answer(&question("mirror.corp", 7).unwrap(), &[[1, 2, 3, 4]]);
            for (place, byte) in like.iter_mut().skip(4).zip(&bytes) {
                *place ^= byte & 0x11;
            }
            let _ = addresses(&like);
        }
    }
}
