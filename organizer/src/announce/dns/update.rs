//! One UPDATE message over TCP and its answer. hickory-proto makes and reads the bytes; nothing of it does I/O.
//!
//! The server is believed only when its answer is signed with the same key; of an answer that is not, the code is told to people, because
//! that is how a server says that it does not know the key (RFC 8945, 5.2).

use super::{Data, NamedRecord};
use crate::config::{DnsConfig, SealedError, read_sealed};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hickory_proto::op::update_message::UpdateMessage as _;
use hickory_proto::op::{Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::tsig::TsigAlgorithm;
use hickory_proto::rr::rdata::{A, AAAA, PTR};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType, TSigVerifier, TSigner};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long the server may take for one update.
const DEADLINE: Duration = Duration::from_secs(5);
/// How far the clocks may differ, in seconds: the value that RFC 8945, 10, recommends.
const FUDGE_S: u16 = 300;

/// A record was not brought into the DNS, or not out of it.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// The key cannot be used.
    #[error("the key of the DNS updates cannot be used")]
    Key(#[source] SealedError),
    /// The key's file holds no key.
    #[error("{} does not hold a key in base64; write the `secret` that `tsig-keygen` prints into it", .0.display())]
    NoKey(PathBuf),
    /// The message cannot be made.
    #[error("cannot make an update of {record}: {problem}")]
    Message {
        /// The record.
        record: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The server is not there.
    #[error("cannot reach the DNS server {server} over TCP: check that it runs and that the firewall lets port {} through", server.port())]
    Unreachable {
        /// The server.
        server: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The server refused.
    #[error("the DNS server {server} answers {code}: {}", advice(code))]
    Refused {
        /// The server.
        server: SocketAddr,
        /// Its code.
        code: String,
    },
    /// The answer is not the server's, or makes no sense.
    #[error("the answer of the DNS server {server} is not signed with our key: {problem}")]
    Unsigned {
        /// The server.
        server: SocketAddr,
        /// What is wrong with it.
        problem: String,
    },
}

/// What the codes of RFC 2136, 2.2, usually mean here.
fn advice(code: &str) -> &'static str {
    match code {
        "REFUSED" => {
            "its update-policy or allow-update does not let the key change this name; see docs/announce.md"
        }
        "NOTAUTH" => {
            "it does not serve the zone, or key_name, key or the clock are not as it knows them; see docs/announce.md"
        }
        "NOTZONE" => "the name is not in the zone; check zone and reverse in po.toml",
        "SERVFAIL" => "see its log; often it may not write the zone's journal file",
        _ => "see its log",
    }
}

/// Adds the record, or removes it. Either may be repeated.
///
/// # Errors
/// [`UpdateError`].
pub async fn send(config: &DnsConfig, record: &NamedRecord, add: bool) -> Result<(), UpdateError> {
    let signer = signer(config)?;
    let failed = |problem: String| UpdateError::Message {
        record: record.to_string(),
        problem,
    };
    let mut message = message(record, add).map_err(&failed)?;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let verifier = message
        .finalize(&signer, now)
        .map_err(|error| failed(error.to_string()))?;
    let bytes = message.to_vec().map_err(|error| failed(error.to_string()))?;
    let answer = timeout(DEADLINE, exchange(config.server, &bytes))
        .await
        .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "it does not answer")))
        .map_err(|source| UpdateError::Unreachable {
            server: config.server,
            source,
        })?;
    judge(config.server, &answer, verifier)
}

fn signer(config: &DnsConfig) -> Result<TSigner, UpdateError> {
    let secret = read_sealed(&config.key).map_err(UpdateError::Key)?;
    let no_key = || UpdateError::NoKey(config.key.clone());
    let key = STANDARD.decode(secret.expose()).map_err(|_| no_key())?;
    let name = Name::from_ascii(&config.key_name).map_err(|_| no_key())?;
    TSigner::new(key, TsigAlgorithm::HmacSha256, name, FUDGE_S).map_err(|_| no_key())
}

fn message(record: &NamedRecord, add: bool) -> Result<Message, String> {
    let name = |text: &str| Name::from_ascii(text).map_err(|error| format!("{text}: {error}"));
    let zone = name(&record.zone)?;
    let owner = name(&record.name)?;
    if !zone.zone_of(&owner) {
        return Err(format!("{} is not in the zone {}", record.name, record.zone));
    }
    let data = match &record.data {
        Data::Address(IpAddr::V4(address)) => RData::A(A(*address)),
        Data::Address(IpAddr::V6(address)) => RData::AAAA(AAAA(*address)),
        Data::Pointer(target) => RData::PTR(PTR(name(target)?)),
    };
    let mut message = Message::query();
    message.metadata.op_code = OpCode::Update;
    message.metadata.recursion_desired = false;
    let mut query = Query::new();
    query.set_name(zone).set_query_type(RecordType::SOA);
    message.add_zone(query);
    // "Delete an RR from an RRset" (RFC 2136, 2.5.4), before the addition too.
    let mut gone = Record::from_rdata(owner.clone(), 0, data.clone());
    gone.dns_class = DNSClass::NONE;
    message.add_update(gone);
    if add {
        message.add_update(Record::from_rdata(owner, record.ttl, data));
    }
    Ok(message)
}

/// A message over TCP has its length before it (RFC 1035, 4.2.2).
async fn exchange(server: SocketAddr, message: &[u8]) -> io::Result<Vec<u8>> {
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    let mut stream = TcpStream::connect(server).await?;
    stream
        .write_all(&[&length.to_be_bytes(), message].concat())
        .await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

fn judge(server: SocketAddr, answer: &[u8], verifier: Option<TSigVerifier>) -> Result<(), UpdateError> {
    let refused = |code: ResponseCode| UpdateError::Refused {
        server,
        code: code.to_str_code(),
    };
    let unsigned = |problem: String| UpdateError::Unsigned { server, problem };
    let mut verifier = verifier.ok_or_else(|| unsigned("the question was not signed".to_owned()))?;
    if !can_be_counted(answer) {
        return Err(unsigned("it claims more records than a message holds".to_owned()));
    }
    match verifier.verify(answer) {
        Ok(answer) if answer.response_code == ResponseCode::NoError => Ok(()),
        Ok(answer) => Err(refused(answer.response_code)),
        Err(problem) => match decode_answer(answer) {
            Some(code) if code != ResponseCode::NoError => Err(refused(code)),
            _ => Err(unsigned(problem.to_string())),
        },
    }
}

/// Whether the records that a header claims (RFC 1035, section 4.1.1) can be counted in 16 bits: hickory adds answers and authorities up so.
fn can_be_counted(answer: &[u8]) -> bool {
    let number = |at: usize| Some(u16::from_be_bytes([*answer.get(at)?, *answer.get(at + 1)?]));
    match (number(6), number(8)) {
        (Some(answers), Some(authorities)) => answers.checked_add(authorities).is_some(),
        // No header: the reader says so itself.
        _ => true,
    }
}

/// The code of an answer that nobody vouches for.
fn decode_answer(bytes: &[u8]) -> Option<ResponseCode> {
    Message::from_vec(bytes).ok().map(|message| message.response_code)
}

/// Judges bytes as the answer to a question that was signed with a key of this process.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn believe(answer: &[u8]) -> Result<(), UpdateError> {
    static KEY: std::sync::LazyLock<[u8; 32]> = std::sync::LazyLock::new(|| {
        let mut key = [0; 32];
        getrandom::fill(&mut key).expect("getrandom(2) gives random bytes once the kernel is up");
        key
    });
    let name = Name::from_ascii("leaseboot.").expect("a good name");
    let signer = TSigner::new(KEY.to_vec(), TsigAlgorithm::HmacSha256, name, FUDGE_S).expect("a good key");
    let verifier = Message::query()
        .finalize(&signer, 1)
        .expect("a message that can be signed");
    judge(SocketAddr::from(([127, 0, 0, 1], 53)), answer, verifier)
}

/// The code by its name in the RFCs.
trait CodeName {
    fn to_str_code(self) -> String;
}

impl CodeName for ResponseCode {
    fn to_str_code(self) -> String {
        match self {
            ResponseCode::Refused => "REFUSED".to_owned(),
            ResponseCode::NotAuth => "NOTAUTH".to_owned(),
            ResponseCode::NotZone => "NOTZONE".to_owned(),
            ResponseCode::ServFail => "SERVFAIL".to_owned(),
            other => other.to_string(),
        }
    }
}
