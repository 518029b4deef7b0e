//! What broke other servers, sent to ours: each entry names the advisory that it is shaped after. None may panic,
//! write, or grant more than the RFCs allow. Names are no paths: the files stand in a map in memory.

use crate::tftp::Terms;
use crate::tftp::packet::{FromClient, Malformed, ReadRequest};

/// An RRQ with these words, each ended by a zero byte.
fn request(words: &[&[u8]]) -> Vec<u8> {
    let mut datagram = vec![0, 1];
    for word in words {
        datagram.extend_from_slice(word);
        datagram.push(0);
    }
    datagram
}

fn read(words: &[&[u8]]) -> ReadRequest {
    match FromClient::parse(&request(words)) {
        Ok(FromClient::Read(read)) => read,
        other => panic!("{other:?}"),
    }
}

#[test]
fn long_names_are_not_read() {
    // dnsmasq, CVE-2009-2957: a name that is longer than the buffer behind --tftp-root.
    for length in [506, 1024, 60_000] {
        assert_eq!(
            FromClient::parse(&request(&[&vec![b'a'; length], b"octet"])),
            Err(Malformed)
        );
    }
    let longest = read(&[&[b'a'; 500], b"octet"]);
    assert_eq!(longest.name.len(), 500);
}

#[test]
fn options_without_sense_are_left_out() {
    // dnsmasq, CVE-2009-2958: a block size without a value, or one that is none.
    for value in [
        "",
        "x",
        "-1",
        "+",
        "0",
        "7",
        "1e9",
        "99999999999999999999999",
        " 512",
    ] {
        let terms = Terms::negotiate(&read(&[b"f", b"octet", b"blksize", value.as_bytes()]), 1, 1500);
        assert_eq!((terms.block_size, terms.granted.len()), (512, 0), "{value:?}");
    }
    let cut = read(&[b"f", b"octet", b"blksize"]);
    assert_eq!(Terms::negotiate(&cut, 1, 1500).block_size, 512);
    // async-tftp 0.4: the largest window of the largest blocks, all from one packet.
    let greedy = read(&[b"f", b"octet", b"blksize", b"65464", b"windowsize", b"65535"]);
    let terms = Terms::negotiate(&greedy, 1 << 30, 1500);
    assert!(terms.block_size <= 1468 && terms.window <= 64, "{terms:?}");
}

#[test]
fn many_options_make_no_long_answer() {
    // atftpd, CVE-2021-41054: options that together overflow the OACK; CVE-2021-46671: words that end behind the packet.
    let mut words: Vec<&[u8]> = vec![b"f", b"octet"];
    for _ in 0..30 {
        words.extend([&b"tsize"[..], b"0"]);
    }
    words.extend([
        &b"blksize"[..],
        b"1468",
        b"timeout",
        b"1",
        b"windowsize",
        b"16",
        b"multicast",
        b"",
    ]);
    let terms = Terms::negotiate(&read(&words), u64::MAX, 1500);
    let mut names: Vec<_> = terms.granted.iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    assert_eq!(names, ["blksize", "timeout", "tsize", "windowsize"]);
    let whole = request(&[b"f", b"octet", b"blksize", b"512"]);
    for length in 0..whole.len() {
        // Whatever is cut off is refused or read without what is missing.
        if let Ok(FromClient::Read(read)) = FromClient::parse(&whole[..length]) {
            assert_eq!(read.name, "f");
        }
    }
}

#[test]
fn packets_that_a_server_sends_are_none_that_it_takes() {
    // atftpd, CVE-2020-6097: an unexpected packet trips an assertion.
    for opcode in [0, 3, 6, 7, 255] {
        assert_eq!(FromClient::parse(&[0, opcode, 0, 1, b'x', 0]), Err(Malformed));
    }
    for datagram in [
        &b""[..],
        b"\0",
        b"\0\x01",
        b"\0\x01\0",
        b"\0\x01\0octet\0",
        b"\0\x04\0",
        b"\0\x05",
    ] {
        assert_eq!(FromClient::parse(datagram), Err(Malformed), "{datagram:?}");
    }
    // Words to write are taken apart no further: there is nothing to write to.
    assert_eq!(
        FromClient::parse(b"\0\x02/etc/passwd\0octet\0"),
        Ok(FromClient::Write)
    );
}
